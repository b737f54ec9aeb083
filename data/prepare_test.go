package data

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"headroom/internal/corpus"

	"github.com/klauspost/compress/zstd"
)

// write makes files below a new folder and returns it.
func write(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func gz(text string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write([]byte(text))
	w.Close()
	return b.String()
}

func zst(text string) string {
	var b bytes.Buffer
	w, _ := zstd.NewWriter(&b, zstd.WithWindowSize(128<<20), zstd.WithSingleSegment(false))
	w.Write([]byte(text))
	w.Close()
	return b.String()
}

// all reads every token of a folder and decodes it.
func all(t testing.TB, dir string) string {
	t.Helper()
	tokens, err := Open(dir, OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer tokens.Close()
	if err := tokens.Verify(); err != nil {
		t.Fatal(err)
	}
	ids := make([]int32, tokens.Len())
	if err := tokens.Read(ids, 0); err != nil {
		t.Fatal(err)
	}
	tok, err := NewTokenizer(tokens.Meta.Tokenizer)
	if err != nil {
		t.Fatal(err)
	}
	text, err := tok.Decode(ids)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestPrepareInputs(t *testing.T) {
	line := func(s string) string { return fmt.Sprintf("{\"text\": %q, \"n\": 1}\n", s) }
	dir := write(t, map[string]string{
		"a.txt": "plain text", "b.txt.gz": gz("zipped text"), "c.txt.zst": zst("packed"), "d.jsonl": line("one two") + "\n" +
			line("three") + line(""),
		"e.jsonl.zst": zst(line("four")), "f.jsonl.gz": gz(strings.TrimSuffix(line("five"), "\n")), "sub/g.go": "package g\n",
		"sub/deep/h.go": "package h\n",
		"sub/binary":    "a\x00b", ".hidden": "no", ".git/x": "no", "i.txt": "",
	})
	at := func(name string) string { return filepath.Join(dir, name) }
	const e = endOfText
	for _, test := range []struct {
		inputs []string
		want   string
		words  int64
	}{
		{[]string{dir}, e + "plain text" + e + "zipped text" + e + "packed" + e + "one two" + e + "three" + e + "four" + e +
			"five" + e + "package h\n" + e + "package g\n", 14},
		{[]string{at("d.jsonl"), at("a.txt")}, e + "one two" + e + "three" + e + "plain text", 5},
		{[]string{at("*.txt.*")}, e + "zipped text" + e + "packed", 3},
		{[]string{at("**/*.go")}, e + "package h\n" + e + "package g\n", 4},
	} {
		for _, name := range TokenizerNames() {
			out := t.TempDir()
			var log bytes.Buffer
			m, err := Prepare(context.Background(), Options{Tokenizer: name, Out: out, Name: "x", Inputs: test.inputs,
				ShardTokens: 5, Progress: &log})
			if err != nil {
				t.Fatal(err)
			}
			if got := all(t, out); got != test.want {
				t.Errorf("%s of %v:\n%q, want\n%q", name, test.inputs, got, test.want)
			}
			documents := int64(strings.Count(test.want, e))
			if size := int64(len(test.want)) - documents*int64(len(e)); m.Documents != documents || m.Bytes != size ||
				m.Words != test.words {
				t.Errorf("%s of %v: %+v, want %d documents, %d bytes, %d words", name, test.inputs, m.Totals,
					documents, size, test.words)
			}
			if m.Shards[0].File != "x_000000.bin" || m.Shards[0].Tokens != 5 || int64(len(m.Shards)) != (m.Tokens+4)/5 {
				t.Errorf("%s: %d tokens in shards %+v", name, m.Tokens, m.Shards)
			}
			if !strings.Contains(log.String(), "documents") || len(test.inputs[0]) == len(dir) != strings.Contains(log.String(),
				"passed over, as hidden or no text") {
				t.Errorf("log: %s", log.String())
			}
		}
	}
}

func TestPrepareRefuses(t *testing.T) {
	dir := write(t, map[string]string{
		"bad.jsonl": "{\"text\": \"ok\"}\n\n{\"text\": \"broken\n{\"text\": \"fine\"}\n", "list.jsonl": "[1]\n",
		"field.jsonl": "{\"body\": \"x\"}\n", "number.jsonl": "{\"text\": 3}\n",
		"empty.txt": "", "zero.txt": "a\x00b", "broken.gz": "no gzip", "broken.zst": "no zstd",
		"cut.txt.gz": gz(strings.Repeat("many words ", 999))[:30], "full/meta.json": "{}", "none/.x": "",
	})
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, test := range []struct {
		o    Options
		want string
	}{
		{Options{Inputs: []string{at("bad.jsonl")}}, "data: " + at("bad.jsonl") + ":3: no JSON: "},
		{Options{Inputs: []string{at("list.jsonl")}}, ":1: must be a JSON object, not array"},
		{Options{Inputs: []string{at("field.jsonl")}}, `field.jsonl:1: no field "text"`},
		{Options{Inputs: []string{at("bad.jsonl")}, TextField: "body"}, `bad.jsonl:1: no field "body"`},
		{Options{Inputs: []string{at("number.jsonl")}}, `number.jsonl:1: field "text" must be a string`},
		{Options{Inputs: []string{at("field.jsonl")}, SkipBad: true}, "data: no text in 1 files (1 bad lines left out)"},
		{Options{Inputs: []string{at("empty.txt")}}, "data: no text in 1 files"},
		{Options{Inputs: []string{at("zero.txt")}}, "zero.txt: holds a zero byte, so it is no text"},
		{Options{Inputs: []string{at("broken.gz")}}, "broken.gz: "},
		{Options{Inputs: []string{at("broken.zst")}}, "broken.zst: "},
		{Options{Inputs: []string{at("cut.txt.gz")}}, "cut.txt.gz: unexpected EOF"},
		{Options{Inputs: []string{at("missing")}}, "missing: no such file"},
		{Options{Inputs: []string{at("*.nothing")}}, "matches no file"},
		{Options{Inputs: []string{at("none")}}, "none: no text file in this folder"},
		{Options{}, "data: no input"},
		{Options{Inputs: []string{dir}, Out: at("full")}, "full holds shards already"},
		{Options{Inputs: []string{dir}, ShardTokens: -1}, "data: -1 tokens a shard"},
		{Options{Inputs: []string{dir}, Tokenizer: "word"}, `data: tokenizer "word"`},
	} {
		if test.o.Out == "" {
			test.o.Out = t.TempDir()
		}
		if test.o.Tokenizer == "" {
			test.o.Tokenizer = "bytes"
		}
		_, err := Prepare(context.Background(), test.o)
		if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%+v: %v, want %s", test.o, err, test.want)
		}
		if left, _ := filepath.Glob(filepath.Join(test.o.Out, "*.bin")); len(left) > 0 {
			t.Errorf("%v: left %v", err, left)
		}
	}
	m, err := Prepare(context.Background(), Options{Tokenizer: "bytes", Out: t.TempDir(),
		Inputs: []string{at("bad.jsonl")}, SkipBad: true})
	if err != nil || m.Skipped != 1 || m.Documents != 2 {
		t.Errorf("skipping bad lines: %+v, %v", m, err)
	}
}

// fullDisk takes so many bytes and no more.
type fullDisk struct {
	sink
	left *int
}

func (f fullDisk) Write(b []byte) (int, error) {
	if *f.left -= len(b); *f.left < 0 {
		return 0, syscall.ENOSPC
	}
	return f.sink.Write(b)
}

func TestPrepareFullDisk(t *testing.T) {
	dir := write(t, map[string]string{"a.txt": strings.Repeat("some words and more ", 1000)})
	for at, left := range []int{0, 1500, 30_000, 41_500} { // the first header, inside a shard twice, a later shard
		out := t.TempDir()
		disk := func(path string) (sink, error) {
			f, err := createFile(path)
			return fullDisk{f, &left}, err
		}
		_, err := Prepare(context.Background(), Options{Tokenizer: "bytes", Out: out, Name: "x", Inputs: []string{dir},
			ShardTokens: 15_000, create: disk})
		if !errors.Is(err, syscall.ENOSPC) || !strings.HasPrefix(err.Error(), "data: writing "+out) {
			t.Errorf("%v", err)
		}
		want := []string{"[]", "[]", "[]", "[.prepare.json .x_000000.bin.tmp]"}[at]
		if rest := names(t, out); fmt.Sprint(rest) != want {
			t.Errorf("disk %d left behind: %v, want %v", at, rest, want)
		}
	}
}

func TestPrepareStops(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	out := t.TempDir()
	dir := write(t, map[string]string{"a.txt": strings.Repeat("some words and more ", 1000)})
	if _, err := Prepare(ctx, Options{Tokenizer: "bytes", Out: out, Inputs: []string{dir}}); !errors.Is(
		err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if rest, err := os.ReadDir(out); err != nil || len(rest) > 0 {
		t.Errorf("left behind: %v, %v", rest, err)
	}
}

// The shards must not depend on the number of cores, nor the ids on where blocks of text are cut.
func TestPrepareIsDeterministic(t *testing.T) {
	var long strings.Builder
	for i := 0; long.Len() < 3*blockBytes; i++ {
		fmt.Fprintf(&long, "%d. Well-known words, %x; 你好。\n\n  and /paths/\n/more\nIt's\t%s\r\n", i, i*i,
			hardTexts[i%len(hardTexts)])
	}
	text := strings.ReplaceAll(long.String(), "\x00", "")
	var lines strings.Builder
	for i := range 3000 {
		fmt.Fprintf(&lines, "{\"text\": %q}\n", fmt.Sprint("line ", i, strings.Repeat(" word", i%200)))
	}
	dir := write(t, map[string]string{"a.txt": text, "b.jsonl": lines.String(), "c.txt": "end"})
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	var first *Meta
	for _, cores := range []int{1, 2, 7} {
		runtime.GOMAXPROCS(cores)
		m, err := Prepare(context.Background(), Options{Tokenizer: "o200k", Out: t.TempDir(), Name: "x",
			Inputs: []string{dir}, ShardTokens: 500_000})
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = m
		}
		if fmt.Sprint(m) != fmt.Sprint(first) || len(m.Shards) < 2 {
			t.Fatalf("%d cores: %+v\n1 core: %+v", cores, m, first)
		}
	}
	for _, tok := range bpe(t) {
		whole := tok.Append([]int32{tok.EndOfText}, []byte(text))
		var blocks []int32
		err := readText("", strings.NewReader(text), false, func(b block) error {
			blocks = append(blocks, tokenize(tok, &Options{}, b).ids...)
			return nil
		})
		if err != nil || fmt.Sprint(whole) != fmt.Sprint(blocks) {
			t.Errorf("%s: %d ids as a whole, %d in blocks, %v", tok.Name, len(whole), len(blocks), err)
		}
	}
}

func TestCutsAreSafe(t *testing.T) {
	text := strings.Join(hardTexts, "x y\nz")
	for _, tok := range bpe(t) {
		whole := tok.Append(nil, []byte(text))
		for end := len(text); end > 2; end-- {
			cut := cutText([]byte(text[:end]))
			parts := tok.Append(tok.Append(nil, []byte(text[:cut])), []byte(text[cut:]))
			if fmt.Sprint(parts) != fmt.Sprint(whole) {
				t.Fatalf("%s: cut at %d between %q and %q", tok.Name, cut, text[max(0, cut-9):cut], text[cut:min(len(text), cut+9)])
			}
			end = min(end, cut+2)
		}
	}
}

func FuzzLine(f *testing.F) {
	for _, line := range []string{`{"text": "a"}`, `{"text": null}`, `{"text": 1}`, `[]`, `null`, `{"text": "\ud800"}`, "",
		"{", `{"text": "a"} x`} {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		text, ok, err := parseLine(line, "text")
		if err != nil && (ok || text != "") {
			t.Fatalf("%q: %q, %v and %v", line, text, ok, err)
		}
		var lines int
		if err := readLines("x", bytes.NewReader(line),
			func(b block) error { lines += bytes.Count(b.data, []byte("\n")); return nil }); err != nil ||
			lines != bytes.Count(line, []byte("\n")) {
			t.Fatalf("%q: %d lines, %v", line, lines, err)
		}
	})
}

// BenchmarkPrepareGPT2 is the whole way from compressed jsonl to shards.
func BenchmarkPrepareGPT2(b *testing.B) {
	path := corpus.Path(b, "books.train.jsonl.zst")
	for b.Loop() {
		began := time.Now()
		m, err := Prepare(context.Background(), Options{Tokenizer: "gpt2", Out: b.TempDir(), Inputs: []string{path}})
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(m.Bytes)/1e6/time.Since(began).Seconds(), "MB/s")
		b.ReportMetric(float64(m.Tokens)/1e6, "Mtokens")
	}
}

// TestStopInALongWord: work on one piece of text, which may take minutes, keeps nobody from leaving, and is told of
// meanwhile.
func TestStopInALongWord(t *testing.T) {
	defer func(before time.Duration) { every = before }(every)
	every = time.Millisecond
	path := filepath.Join(t.TempDir(), "long.txt")
	if err := os.WriteFile(path, bytes.Repeat([]byte("x"), 1000), 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	release := make(chan bool)
	defer close(release)
	out := &told{want: "MB read", done: stop}
	left := make(chan error, 1)
	go func() {
		p := newProgress("prepare", out, []string{path}, nil)
		left <- pipeline(ctx, []input{{path, format{layout: asText}}}, position{}, fieldOf(""), false, false, p,
			func(block) (r result) {
				<-release
				return r
			}, func(result) error { return nil })
	}()
	select {
	case err := <-left:
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Fatal("the work is waited for")
	}
}

// told calls done once it was told what it wants to hear.
type told struct {
	want string
	done func()
}

func (w *told) Write(b []byte) (int, error) {
	if strings.Contains(string(b), w.want) {
		w.done()
	}
	return len(b), nil
}
