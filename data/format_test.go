package data

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

func gzipped(text string) string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	io.WriteString(z, text)
	z.Close()
	return b.String()
}

func zstded(text string) string {
	z, _ := zstd.NewWriter(nil)
	return string(z.EncodeAll([]byte(text), nil))
}

// TestFormats: what a file is taken for, by its name and its content, and what is made of it.
func TestFormats(t *testing.T) {
	lines, column := `{"text": "hello world"}`+"\n"+`{"text": "bye"}`+"\n", `{"content": "hello"}`+"\n"
	for _, c := range []struct {
		name, content, field string
		layout               layout
		documents            int
		says, err            string
	}{
		{name: "c4.json.gz", content: gzipped(lines), layout: asLines, documents: 2, says: "is taken for JSON lines in gzip, by its content"},
		{name: "c4.json", content: lines, layout: asLines, documents: 2},
		{name: "c4.ndjson", content: lines, layout: asLines, documents: 2, says: "files: 1 of JSON lines"},
		{name: "c4.jsonlines", content: lines, layout: asLines, documents: 2},
		{name: "c4.JSONL", content: lines, layout: asLines, documents: 2},
		{name: "c4.jsonl.GZ", content: gzipped(lines), layout: asLines, documents: 2},
		{name: "c4.jsonl.zstd", content: zstded(lines), layout: asLines, documents: 2},
		{name: "x.zst", content: zstded(lines), layout: asLines, documents: 2},
		{name: "part-000.gz", content: gzipped(lines), layout: asLines, documents: 2},
		{name: "shard.00001-of-00002", content: "\n\n" + lines, layout: asLines, documents: 2},
		{name: "shard.00001", content: "\n\n" + lines, layout: asLines, documents: 2},
		{name: "config.json", content: "{\n \"text\": \"a\"\n}\n", layout: asText, documents: 1},
		{name: "list.json", content: `["a", "b"]`, layout: asText, documents: 1},
		{name: "other.json", content: column, layout: asText, documents: 1},
		{name: "other.json", content: column, field: "content", layout: asLines, documents: 1},
		{name: "lines.txt", content: lines, layout: asText, documents: 1},
		{name: "lines.txt", content: lines, field: "text", layout: asLines, documents: 2},
		{name: "notes.txt", content: "plain", field: "text", layout: asText, documents: 1},
		{name: "part-000", content: "plain", field: "text", err: `its first line is no JSON object with field "text"`},
		{name: "bom.txt", content: "\xef\xbb\xbfa", layout: asText, documents: 1},
		{name: "bom.jsonl", content: "\xef\xbb\xbf" + lines, layout: asLines, documents: 2},
		{name: "null.jsonl", content: `{"text": null}` + "\n" + lines, layout: asLines, documents: 2},
		{name: "padded.jsonl.gz", content: gzipped(lines) + strings.Repeat("\x00", 700), layout: asLines, documents: 2},
		{name: "members.jsonl.gz", content: gzipped(lines) + "\x00\x00" + gzipped(lines), layout: asLines, documents: 4},
		{name: "junk.jsonl.gz", content: gzipped(lines) + "junk", layout: asLines, err: "unexpected EOF"},
		{name: "bad.jsonl", content: `{"text": "a` + "\xff" + `b"}` + "\n", layout: asLines, documents: 1, says: "bytes that are no UTF-8"},
		{name: "no.gz", content: "plain", err: "it is no gzip file, as its name says"},
		{name: "web.xz", content: "\xfd7zXZ\x00...", err: "a xz file, compressed in a way that is not read here: unpack it first"},
	} {
		t.Run(c.name+c.field, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), c.name)
			if err := os.WriteFile(path, []byte(c.content), 0o644); err != nil {
				t.Fatal(err)
			}
			field := fieldOf(c.field)
			f, err := formatOf(path, field.name, field.asked)
			if err == nil && f.layout != c.layout {
				t.Errorf("taken for %s", f)
			}
			var said strings.Builder
			m, err := Prepare(t.Context(), Options{Tokenizer: "bytes", Out: filepath.Join(t.TempDir(), "out"), Inputs: []string{path}, TextField: c.field, Progress: &said})
			switch {
			case c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)):
				t.Errorf("%v, want %q", err, c.err)
			case c.err == "" && (err != nil || m.Documents != int64(c.documents) || !strings.Contains(said.String(), c.says)):
				t.Errorf("%+v, %v, %s", m, err, said.String())
			case c.err == "" && strings.HasPrefix(c.name, "bom.txt") && m.Bytes != 1:
				t.Errorf("%d bytes of text", m.Bytes)
			}
		})
	}
}

// TestGlobs: brackets before ** are those of a glob too.
func TestGlobs(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a/x/1.py", "b/2.py", "t/3.py"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	files, _, err := expand([]string{filepath.Join(dir, "[a-s]*", "**", "*.py")})
	if err != nil || len(files) != 2 {
		t.Errorf("%v, %v", files, err)
	}
	if _, _, err := expand([]string{filepath.Join(dir, "[u-z]*", "**", "*.py")}); err == nil || !strings.Contains(err.Error(), "matches no file") {
		t.Errorf("a glob of no folder: %v", err)
	}
}

// FuzzUnpacked reads streams of any kind: an error, or bytes; never a panic.
func FuzzUnpacked(f *testing.F) {
	for _, text := range []string{"", "a", gzipped("a"), gzipped("a") + "\x00", zstded("{}"), "BZh9", "\xef\xbb\xbf{}"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		p, err := packingOf(raw[:min(len(raw), 8)])
		if err != nil {
			return
		}
		_ = unpacked(bufio.NewReader(bytes.NewReader(raw)), p, func(r io.Reader) error {
			if _, err := isLines(r, "text"); err != nil {
				return err
			}
			_, err := io.Copy(io.Discard, io.LimitReader(r, 1<<20))
			return err
		})
	})
}
