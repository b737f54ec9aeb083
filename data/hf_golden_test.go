package data

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// TestLibraryIds holds the published vocabularies, and a tokenizer.json in several forms, against ids that the
// tokenizers library gave (testdata/tokenizers/README.md).
func TestLibraryIds(t *testing.T) {
	const dir = "testdata/tokenizers"
	text := lines[string](t, filepath.Join(dir, "strings.jsonl.gz"))
	var base map[string]json.RawMessage
	parts := map[string]map[string]json.RawMessage{"gpt2": nil, "cl100k": nil}
	for name, to := range map[string]any{"base.json.gz": &base, "parts.json": &parts} {
		if err := json.Unmarshal(content(t, filepath.Join(dir, name)), to); err != nil {
			t.Fatal(err)
		}
	}
	for name, changed := range parts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := name
			if changed != nil {
				whole := maps.Clone(base)
				maps.Copy(whole, changed)
				raw, err := json.Marshal(whole)
				if err != nil {
					t.Fatal(err)
				}
				file = filepath.Join(t.TempDir(), "tokenizer.json")
				if err := os.WriteFile(file, raw, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			tokenizer, err := NewTokenizer(file)
			if err != nil {
				t.Fatal(err)
			}
			want := lines[[]int32](t, filepath.Join(dir, name+".ids.jsonl.gz"))
			if len(want) != len(text) || len(text) < 1000 {
				t.Fatalf("%d strings and %d lists of ids", len(text), len(want))
			}
			for i, s := range text {
				if got := tokenizer.Append(nil, []byte(s)); !slices.Equal(got, want[i]) {
					t.Errorf("%q: %v, want %v", s, got, want[i])
				}
			}
		})
	}
}

// content is what a file holds, unpacked where it ends in gz.
func content(t *testing.T, path string) []byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var r io.Reader = f
	if filepath.Ext(path) == ".gz" {
		if r, err = gzip.NewReader(f); err != nil {
			t.Fatal(err)
		}
	}
	raw, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// lines are the values of a file with one JSON value a line.
func lines[T any](t *testing.T, path string) (values []T) {
	t.Helper()
	for line := range bytes.Lines(content(t, path)) {
		var v T
		if err := json.Unmarshal(line, &v); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		values = append(values, v)
	}
	return values
}
