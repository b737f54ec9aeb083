package headroom

import (
	"go/scanner"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// columns is the longest line of Go and of prose, where a tab is one column.
const columns = 120

// TestLinesAreShort holds Go and Markdown to lines of at most 120 columns. Raw strings keep the lines of what they
// quote, and tables theirs: rows in tests, tables and code in Markdown.
func TestLinesAreShort(t *testing.T) {
	for _, s := range sources(t) {
		for _, line := range longLines(read(t, s.path)) {
			t.Errorf("%s:%d has more than %d columns", s.path, line, columns)
		}
	}
	for _, page := range pages(t) {
		if filepath.Base(page) == "comparison.md" { // the program wrote it
			continue
		}
		for _, line := range longProse(read(t, page)) {
			t.Errorf("%s:%d has more than %d columns", page, line, columns)
		}
	}
}

// TestLongLinesAreSeen shows that the test above sees what is too long.
func TestLongLinesAreSeen(t *testing.T) {
	long := strings.Repeat("é", columns)
	for _, c := range []struct {
		text string
		want []int
	}{
		{"package a\n\n// " + long + "\n", []int{3}},
		{"package a\n\nvar _ = \"" + long + "\"\n", []int{3}},
		{"package a\n\nvar _ = `" + long + "\n" + long + "`\n// " + long, []int{5}},
		{"package a\n// " + long[:2*(columns-3)] + "\n", nil},
		{"package a\n\nvar _ = []t{\n\t{\"" + long + "\"},\n}\n", nil},
	} {
		if got := longLines(c.text); !slices.Equal(got, c.want) {
			t.Errorf("Go %q: lines %v, want %v", c.text, got, c.want)
		}
	}
	if got := longProse("a\n" + long + "a\n| " + long + "\n```\n" + long + "a\n```\n- " + long); !slices.Equal(
		got, []int{2, 7}) {
		t.Errorf("prose: lines %v, want 2 and 7", got)
	}
}

// longLines are the numbers of a Go file's lines that are too long, without those that a raw string stands in.
func longLines(text string) (long []int) {
	raw := map[int]bool{}
	files := token.NewFileSet()
	file := files.AddFile("", -1, len(text))
	var s scanner.Scanner
	s.Init(file, []byte(text), nil, 0)
	for {
		at, kind, literal := s.Scan()
		if kind == token.EOF {
			break
		}
		if kind == token.STRING && literal[0] == '`' {
			for i := range 1 + strings.Count(literal, "\n") {
				raw[file.Line(at)+i] = true
			}
		}
	}
	lines := strings.Split(text, "\n")
	return slices.DeleteFunc(tooLong(text), func(line int) bool { return raw[line] || isRow(lines[line-1]) })
}

// isRow says that a line is a whole row of a table: {…},
func isRow(line string) bool {
	line = strings.TrimSpace(line)
	return strings.HasPrefix(line, "{") && strings.HasSuffix(line, "},")
}

// longProse are the numbers of a page's lines that are too long, without those of tables and fenced code.
func longProse(text string) []int {
	kept := map[int]bool{}
	fenced, n := false, 0
	for line := range strings.Lines(text) {
		n++
		if strings.HasPrefix(strings.TrimSpace(line), "```") {
			fenced = !fenced
		}
		kept[n] = fenced || strings.HasPrefix(line, "|")
	}
	return slices.DeleteFunc(tooLong(text), func(line int) bool { return kept[line] })
}

func tooLong(text string) (long []int) {
	n := 0
	for line := range strings.Lines(text) {
		n++
		if utf8.RuneCountInString(strings.TrimSuffix(line, "\n")) > columns {
			long = append(long, n)
		}
	}
	return long
}
