package headroom

import (
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"
)

// link is [text](target) or ![text](target); the text may span lines.
var link = regexp.MustCompile(`\[[^\[\]]*\]\(([^()\s]+)\)`)

// TestLinks follows every relative link of every page: its file is there, and where it names a heading, the heading is.
func TestLinks(t *testing.T) {
	n := 0
	for _, page := range pages(t) {
		for _, target := range links(read(t, page)) {
			n++
			if err := follow(t, page, target); err != nil {
				t.Errorf("%s: %v", page, err)
			}
		}
	}
	if n < 50 {
		t.Errorf("only %d links were found in all pages", n)
	}
}

// TestLinksAreFollowed shows that the test above sees what is broken.
func TestLinksAreFollowed(t *testing.T) {
	for text, want := range map[string]string{
		"see [a](docs/absent.md)":             "docs/absent.md is not there",
		"see [a](docs/data.md#absent)":        "docs/data.md has no heading for #absent",
		"see [a](#absent) here":               "README.md has no heading for #absent",
		"![two\nlines](docs/absent.png)":      "docs/absent.png is not there",
		"[ok](docs/data.md#shards)":           "",
		"[ok](https://example.org/absent.md)": "",
		"```\n[a](docs/absent.md)\n```":       "",
		"as in `[a](docs/absent.md)`":         "",
	} {
		got := ""
		for _, target := range links(text) {
			if err := follow(t, "README.md", target); err != nil {
				got = err.Error()
			}
		}
		if got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// pages are the Markdown files of the project; what was built or installed beside them is left out.
func pages(t *testing.T) (all []string) {
	t.Helper()
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != "." && (strings.HasPrefix(d.Name(), ".") || outside[path]):
			return filepath.SkipDir
		case !d.IsDir() && filepath.Ext(path) == ".md":
			all = append(all, filepath.ToSlash(path))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// outside are the folders that git does not keep.
var outside = map[string]bool{"bin": true, "runs": true, "gpu-tests": true, "scripts/clients/node_modules": true}

// links are the targets of the links of a page, without those in code.
func links(text string) (targets []string) {
	for _, found := range link.FindAllStringSubmatch(prose(text), -1) {
		targets = append(targets, found[1])
	}
	return targets
}

// prose is a page without fenced and inline code.
func prose(text string) string {
	var b strings.Builder
	fenced := false
	for line := range strings.Lines(text) {
		if strings.HasPrefix(strings.TrimSpace(line), "```") {
			fenced = !fenced
		} else if !fenced {
			b.WriteString(line)
		}
	}
	return regexp.MustCompile("`[^`]*`").ReplaceAllString(b.String(), "")
}

// follow says what is wrong with a link of a page.
func follow(t *testing.T, page, target string) error {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil || u.Scheme != "" {
		return err
	}
	path := page
	if u.Path != "" {
		path = filepath.ToSlash(filepath.Join(filepath.Dir(page), u.Path))
	}
	if _, err := os.Stat(path); err != nil {
		return fmt.Errorf("%s is not there", path)
	}
	if u.Fragment != "" && !headings(read(t, path))[u.Fragment] {
		return fmt.Errorf("%s has no heading for #%s", path, u.Fragment)
	}
	return nil
}

// headings are the anchors of a page, as GitHub makes them: small letters, digits, hyphens for spaces.
func headings(text string) map[string]bool {
	all := map[string]bool{}
	fenced := false
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "```") {
			fenced = !fenced
		}
		title, ok := strings.CutPrefix(strings.TrimLeft(line, "#"), " ")
		if fenced || !ok || !strings.HasPrefix(line, "#") {
			continue
		}
		all[strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
				return unicode.ToLower(r)
			}
			return -1
		}, strings.TrimSpace(title))] = true
	}
	return all
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
