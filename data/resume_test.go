package data

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func names(t testing.TB, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// contents are all files of a folder by name.
func contents(t testing.TB, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, name := range names(t, dir) {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		all[name] = string(text)
	}
	return all
}

// mixed is input of every form, with duplicates within and across files, and text files of several blocks.
func mixed(t testing.TB) string {
	var lines strings.Builder
	for i := range 40_000 {
		fmt.Fprintf(&lines, "{\"text\": %q}\n", fmt.Sprint("document ", i%30_000, " of some words"))
		if i%1000 == 0 {
			lines.WriteString("no json\n")
		}
	}
	long := strings.Repeat("a long text of several blocks\n", 3*blockBytes/30)
	return write(t, map[string]string{"a.jsonl.zst": zst(lines.String()), "b.txt": long, "c.txt.gz": gz(long),
		"d.txt": "document 5 of some words", "e.txt": "the end"})
}

// A kill at any moment leaves what the folder holds then: each such folder must lead to the same bytes.
func TestPrepareGoesOnAfterKill(t *testing.T) {
	dir := mixed(t)
	for _, dedup := range []bool{false, true} {
		var moments []map[string]string
		out := t.TempDir()
		o := Options{Tokenizer: "bytes", Out: out, Name: "x", Inputs: []string{dir}, SkipBad: true, Dedup: dedup,
			ShardTokens: 700_000}
		o.create = func(path string) (sink, error) {
			moments = append(moments, contents(t, out))
			return createFile(path)
		}
		m, err := Prepare(context.Background(), o)
		if err != nil {
			t.Fatal(err)
		}
		want := contents(t, out)
		if dedup && (m.Duplicates != 10_002 || m.Documents != 30_002) || !dedup &&
			(m.Duplicates != 0 || m.Documents != 40_004) || m.Skipped != 40 {
			t.Errorf("dedup %v: %+v, %d duplicates, %d skipped", dedup, m.Totals, m.Duplicates, m.Skipped)
		}
		if len(moments) < 13 || len(want) != len(m.Shards)+1 {
			t.Fatalf("dedup %v: %d moments, files %v", dedup, len(moments), names(t, out))
		}
		wentOn := 0
		for i := 0; i < len(moments); i += 3 {
			out := write(t, moments[i])
			var log bytes.Buffer
			o.Out, o.create, o.Progress = out, nil, &log
			if _, err := Prepare(context.Background(), o); err != nil {
				t.Fatalf("dedup %v, moment %d: %v", dedup, i, err)
			}
			if strings.Contains(log.String(), "going on behind") {
				wentOn++
			}
			if got := contents(t, out); fmt.Sprint(got) != fmt.Sprint(want) {
				t.Fatalf("dedup %v, moment %d: other bytes in %v, want %v\n%s", dedup, i, names(t, out),
					names(t, write(t, want)), log.String())
			}
		}
		if wentOn < len(moments)/3-2 {
			t.Errorf("dedup %v: %d of %d moments went on", dedup, wentOn, len(moments)/3)
		}
	}
}

// stop fails a run at its second shard and returns its folder.
func stop(t *testing.T, o Options) string {
	t.Helper()
	o.Out = t.TempDir()
	o.create = func(path string) (sink, error) {
		if strings.Contains(path, "x_000001") {
			return nil, errors.New("stopped")
		}
		return createFile(path)
	}
	if _, err := Prepare(context.Background(), o); err == nil || !strings.HasSuffix(err.Error(), "x_000001.bin: stopped") {
		t.Fatal(err)
	}
	return o.Out
}

func TestPrepareBeginsAnew(t *testing.T) {
	dir := mixed(t)
	o := Options{Tokenizer: "bytes", Name: "x", Inputs: []string{dir}, SkipBad: true, Dedup: true, ShardTokens: 700_000}
	o.Out = t.TempDir()
	if _, err := Prepare(context.Background(), o); err != nil {
		t.Fatal(err)
	}
	want := contents(t, o.Out)
	for _, test := range []struct{ what, log string }{
		{"nothing", "going on behind 1 finished shards"},
		{"shard", "its shard x_000000.bin has changed: beginning anew"},
		{"seen", "cannot hold"},
		{"lost", "no such file"},
		{"options", "its inputs or options were others: beginning anew"},
		{"input", "its inputs or options were others: beginning anew"},
	} {
		out := stop(t, o)
		o := o
		damage := func(name string) {
			if err := os.WriteFile(filepath.Join(out, name), []byte("x"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		switch test.what {
		case "shard":
			damage(".x_000000.bin.tmp")
		case "seen":
			damage(seenName)
		case "lost":
			os.Remove(filepath.Join(out, seenName))
		case "options":
			o.Dedup = false
		case "input":
			text, _ := os.ReadFile(filepath.Join(dir, "a.jsonl.zst"))
			if err := os.WriteFile(filepath.Join(dir, "a.jsonl.zst"), text, 0o644); err != nil { // same bytes, another time
				t.Fatal(err)
			}
		}
		var log bytes.Buffer
		o.Out, o.Progress = out, &log
		if _, err := Prepare(context.Background(), o); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(log.String(), test.log) {
			t.Errorf("%s: %s", test.what, log.String())
		}
		if got := contents(t, out); test.what != "options" && fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: other bytes: %v", test.what, names(t, out))
		}
	}
	out := stop(t, o)
	if err := os.WriteFile(filepath.Join(out, progressName), []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	o.Out = out
	if _, err := Prepare(context.Background(), o); err == nil ||
		!strings.Contains(err.Error(), progressName+" is damaged") {
		t.Errorf("damaged progress: %v", err)
	}
}

func TestPrepareAloneInFolder(t *testing.T) {
	out := t.TempDir()
	lock, err := lockFolder(out)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	_, err = Prepare(context.Background(),
		Options{Tokenizer: "bytes", Out: out, Inputs: []string{write(t, map[string]string{"a.txt": "a"})}})
	if err == nil || !strings.Contains(err.Error(), "another prepare writes here") {
		t.Error(err)
	}
}
