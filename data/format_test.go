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
		{name: "c4.json.gz", content: gzipped(lines), layout: asLines, documents: 2,
			says: "is taken for JSON lines in gzip, by its content"},
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
		{name: "bad.jsonl", content: `{"text": "a` + "\xff" + `b"}` + "\n", layout: asLines, documents: 1,
			says: "1 texts, or stretches of 1 MB of them, are no valid UTF-8"},
		{name: "surrogate.jsonl", content: `{"text": "a\ud800b"}` + "\n", layout: asLines, documents: 1,
			says: "1 texts, or stretches"},
		{name: "no.gz", content: "plain", err: "it is no gzip file, as its name says"},
		{name: "web.xz", content: "\xfd7zXZ\x00...",
			err: "a xz file, compressed in a way that is not read here: unpack it first"},
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
			m, err := Prepare(t.Context(), Options{Tokenizer: "bytes", Out: filepath.Join(t.TempDir(), "out"),
				Inputs: []string{path}, TextField: c.field, Progress: &said})
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

// TestTrainingSays: who trains a tokenizer hears of what was not read as it is, as who prepares shards does.
func TestTrainingSays(t *testing.T) {
	dir := write(t, map[string]string{"a.jsonl": `{"text": "a` + "\xff" + `b"}` + "\nno JSON\n"})
	var said strings.Builder
	o := TrainOptions{Inputs: []string{dir}, Vocab: 300, SkipBad: true, Out: filepath.Join(dir, "t.json"), Progress: &said}
	if _, err := TrainTokenizer(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"left out 1 bad lines", "1 texts, or stretches"} {
		if !strings.Contains(said.String(), want) {
			t.Errorf("%q is not in %q", want, said.String())
		}
	}
	for line := range strings.Lines(said.String()) {
		if !strings.HasPrefix(line, "tokenizer train: ") {
			t.Errorf("%q does not name the command", line)
		}
	}
}

// TestGlobs: brackets before ** are those of a glob too.
func TestGlobs(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a/x/1.py", "a/x/y/5.py", "b/2.py", "t/3.py", "c.py", "t/x/z/6.py"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(filepath.Join(dir, "a"), filepath.Join(dir, "u")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ pattern, want, err string }{
		{pattern: "[a-s]*/**/*.py", want: "a/x/1.py a/x/y/5.py b/2.py"},
		{pattern: "**/x/**/*.py", want: "a/x/1.py a/x/y/5.py t/x/z/6.py"},
		{pattern: "**/x/*.py", want: "a/x/1.py"},
		{pattern: "t/**", want: "t/3.py t/x/z/6.py"},
		{pattern: "u/**/*.py", want: "u/x/1.py u/x/y/5.py"},
		{pattern: "u", want: "u/x/1.py u/x/y/5.py"},
		{pattern: "[v-z]*/**/*.py", err: "matches no file"},
		{pattern: "a**/*.py", err: "** must stand alone between slashes"},
		{pattern: "[/**/*.py", err: "syntax error in pattern"},
	} {
		files, _, err := expand([]string{filepath.Join(dir, c.pattern)})
		for i, path := range files {
			files[i] = strings.TrimPrefix(path, dir+"/")
		}
		if got := strings.Join(files, " "); got != c.want || (err == nil) != (c.err == "") || err != nil &&
			!strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %q, %v", c.pattern, got, err)
		}
	}
}

// FuzzMatches holds patterns of several folders against paths: one that has no ** matches as filepath.Match does.
func FuzzMatches(f *testing.F) {
	for _, c := range [][2]string{{"a/*.py", "a/b.py"}, {"**/x/*", "a/x/b"}, {"[a-s]*/?", "b/c"}, {"[", "["}, {"", ""}} {
		f.Add(c[0], c[1])
	}
	f.Fuzz(func(t *testing.T, pattern, path string) {
		if strings.Count(pattern, "**") > 3 || strings.ContainsAny(pattern, `[\`) && strings.Contains(pattern, "/") {
			return // a slash in brackets is none between names
		}
		got := matches(strings.Split(pattern, "/"), strings.Split(path, "/"))
		want, err := filepath.Match(pattern, path)
		if err == nil && !strings.Contains(pattern, "**") && got != want {
			t.Errorf("%q against %q: %v, want %v", pattern, path, got, want)
		}
	})
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
