package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestDocumentedCommands holds that every command in a fence of README and docs exists, and so does each of its flags.
func TestDocumentedCommands(t *testing.T) {
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, page := range append(pages, "../../README.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range commandLines(string(text)) {
			n++
			if err := understood(line); err != nil {
				t.Errorf("%s: %s: %v", page, line, err)
			}
		}
	}
	if n < 40 {
		t.Errorf("only %d commands were found", n)
	}
}

// TestUndocumentedCommands shows that the test above sees what does not exist.
func TestUndocumentedCommands(t *testing.T) {
	page := "bin/headroom outside\n```\nbin/headroom train my.yaml \\\n  --out x --fast   # quickly\nheadroom fly\nls\n" +
		"bin/headroom eval runs/first --data books=shards\n```\n"
	lines := commandLines(page)
	want := []string{"train my.yaml --out x --fast", "fly", "eval runs/first --data books=shards"}
	if !slices.Equal(lines, want) {
		t.Fatalf("%q, want %q", lines, want)
	}
	for i, want := range []string{"unknown flag: --fast", `unknown command "fly" for "headroom"`, ""} {
		got := ""
		if err := understood(lines[i]); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s: %q, want %q", lines[i], got, want)
		}
	}
}

// commandLines are the arguments of headroom in the fences of a page, with lines joined that end in a backslash.
func commandLines(text string) (lines []string) {
	called := regexp.MustCompile(`(?:^|&& |; |do )(?:bin/)?headroom ([^#;&|>]+)`)
	fenced := false
	for line := range strings.Lines(strings.ReplaceAll(text, "\\\n", " ")) {
		if strings.HasPrefix(line, "```") {
			fenced = !fenced
		}
		if !fenced {
			continue
		}
		for _, found := range called.FindAllStringSubmatch(strings.TrimSpace(line), -1) {
			lines = append(lines, strings.Join(strings.Fields(found[1]), " "))
		}
	}
	return lines
}

// understood is an error where the program has no such command or flag.
func understood(line string) error {
	cmd, rest, err := command().Find(strings.Fields(line))
	if err != nil {
		return err
	}
	return cmd.ParseFlags(rest)
}
