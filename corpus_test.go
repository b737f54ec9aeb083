package headroom

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestPythonCorpus makes a corpus of a few packages: each lies in one part whole, and no text in two.
func TestPythonCorpus(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("no python3")
	}
	root, out := t.TempDir(), t.TempDir()
	write := func(name, text string) {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	shared := strings.Repeat("# a file that every package has a copy of\n", 3)
	for i := range 40 {
		for j := range 3 {
			write(fmt.Sprintf("p%02d/sub/m%d.py", i, j), strings.Repeat(fmt.Sprintf("value_%d_%d = 1\n", i, j), 20))
		}
		write(fmt.Sprintf("p%02d/copy.py", i), strings.Repeat(" ", i)+shared)
		write(fmt.Sprintf("p%02d/_vendor/v.py", i), strings.Repeat("vendored = 1\n", 20))
	}
	write("p00/latin.py", strings.Repeat("caf\xe9 = 1\n", 20))
	script, err := os.ReadFile("scripts/python-corpus.py") // read here, so that Go's cache of results knows of it
	if err != nil {
		t.Fatal(err)
	}
	run := exec.Command(python, "-", "--share", "0.1", out, root)
	run.Stdin = bytes.NewReader(script)
	said, err := run.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	partOf, texts := map[string]string{}, map[string]bool{}
	for _, part := range []string{"train", "select", "val"} {
		raw, err := os.ReadFile(filepath.Join(out, part+".jsonl"))
		if err != nil {
			t.Fatal(err)
		}
		lines := bytes.Split(bytes.TrimSpace(raw), []byte("\n"))
		if len(lines) < 4 {
			t.Errorf("%s has %d files", part, len(lines))
		}
		for _, line := range lines {
			var doc struct{ Path, Text string }
			if err := json.Unmarshal(line, &doc); err != nil {
				t.Fatal(err)
			}
			rel, err := filepath.Rel(root, doc.Path)
			if err != nil || strings.Contains(rel, "_vendor") || strings.Contains(rel, "latin") {
				t.Errorf("%s is in %s: %v", doc.Path, part, err)
			}
			name, _, _ := strings.Cut(rel, "/")
			if was := partOf[name]; was != "" && was != part {
				t.Errorf("package %s is in %s and in %s", name, was, part)
			}
			key := strings.Join(strings.Fields(doc.Text), "")
			if texts[key] {
				t.Errorf("%s has a text that came before", rel)
			}
			partOf[name], texts[key] = part, true
		}
	}
	if len(partOf) != 40 || len(texts) != 121 {
		t.Errorf("%d packages, %d texts", len(partOf), len(texts))
	}
}
