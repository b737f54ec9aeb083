package data

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// shard writes ids the way llm.c does.
func shard(magic, version uint32, ids ...uint32) []byte {
	b := make([]byte, headerBytes)
	binary.LittleEndian.PutUint32(b, magic)
	binary.LittleEndian.PutUint32(b[4:], version)
	binary.LittleEndian.PutUint32(b[8:], uint32(len(ids)))
	for _, id := range ids {
		if magic == magic32 {
			b = binary.LittleEndian.AppendUint32(b, id)
		} else {
			b = binary.LittleEndian.AppendUint16(b, uint16(id))
		}
	}
	return b
}

// count opens n tokens 0, 1, 2 … in shards of unequal size and width.
func count(t testing.TB, n int) *Tokens {
	t.Helper()
	files := map[string]string{}
	for i, at := 0, 0; at < n; i++ {
		var ids []uint32
		for ; at < n && len(ids) < 5+8*i; at++ {
			ids = append(ids, uint32(at))
		}
		magic, version := uint32(magic16), uint32(version16)
		if i%2 == 1 {
			magic, version = magic32, version32
		}
		files[fmt.Sprintf("x_%06d.bin", i)] = string(shard(magic, version, ids...))
	}
	tokens, err := Open(write(t, files), OpenOptions{Vocab: n})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tokens.Close() })
	return tokens
}

func TestOpenRefuses(t *testing.T) {
	good := shard(magic16, version16, 1, 2, 3)
	dir := write(t, map[string]string{
		"empty": "", "short": string(good[:100]), "cut": string(good[:len(good)-1]), "long": string(good) + "x",
		"magic": string(shard(7, 1, 1)), "odd": "abc",
		"version": string(shard(magic16, 2, 1)), "none": string(shard(magic32, version32)), "good": string(good),
		"folder/x":       "",
		"meta/meta.json": `{"tokenizer": "gpt2", "vocab": 50257, "shards": [{"file": "x.bin", "tokens": 4}]}`,
		"meta/x.bin":     string(good),
		"away/meta.json": `{"tokenizer": "gpt2", "vocab": 50257, "shards": [{"file": "../good", "tokens": 3}]}`,
		"json/meta.json": "{", "nothing/meta.json": "{}",
		"lost/meta.json": `{"tokenizer": "gpt2", "vocab": 50257, "shards": [{"file": "lost.bin", "tokens": 3}]}`,
	})
	for _, test := range []struct {
		name, want string
		o          OpenOptions
	}{
		{"empty", "empty: empty, must be a shard", OpenOptions{}},
		{"short", "short: truncated: 100 bytes, the header alone has 1024", OpenOptions{}},
		{"cut", "cut: truncated or damaged: 1029 bytes, a header of 3 tokens asks for 1030", OpenOptions{}},
		{"long", "long: truncated or damaged: 1031 bytes, a header of 3 tokens asks for 1030", OpenOptions{}},
		{"magic", "magic: magic 7 is neither 20240520 nor 20240801", OpenOptions{}},
		{"version", "version: version 2 of magic 20240520 is unknown", OpenOptions{}},
		{"none", "none: holds no tokens", OpenOptions{}},
		{"odd", "odd: 3 bytes are no whole number of uint16 tokens", OpenOptions{Headerless: true}},
		{"folder", "no shards", OpenOptions{}},
		{"missing", "missing: no such file", OpenOptions{}},
		{"*.bin", "no shards", OpenOptions{}},
		{"meta", "x.bin: holds 3 tokens, meta.json says 4", OpenOptions{}},
		{"meta", "made with gpt2 of 50257 ids, but the vocabulary has 257", OpenOptions{Vocab: 257}},
		{"away", `shard "../good" must lie in the same folder`, OpenOptions{}},
		{"json", "json/meta.json: unexpected end of JSON", OpenOptions{}},
		{"nothing", "has 0 ids and 0 shards", OpenOptions{}},
		{"lost", "lost.bin: no such file", OpenOptions{}},
	} {
		_, err := Open(filepath.Join(dir, test.name), test.o)
		if err == nil || !strings.HasPrefix(err.Error(), "data: ") || !strings.Contains(err.Error(), test.want) ||
			strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want %s", test.name, err, test.want)
		}
	}
	tokens, err := Open(filepath.Join(dir, "good"), OpenOptions{Vocab: 3})
	if err != nil {
		t.Fatal(err)
	}
	want := "good: token 2 has id 3, beyond the vocabulary of 3"
	if err := tokens.Read(make([]int32, 3), 0); err == nil || !strings.HasSuffix(err.Error(), want) {
		t.Errorf("%v", err)
	}
	if err := tokens.Verify(); err == nil || !strings.HasSuffix(err.Error(), want) {
		t.Errorf("%v", err)
	}
	if err := tokens.Close(); err != nil {
		t.Error(err)
	}
}

func TestOpenHeaderless(t *testing.T) {
	dir := write(t, map[string]string{"train.bin": "\x01\x00\x02\x01"})
	tokens, err := Open(dir, OpenOptions{Headerless: true})
	if err != nil {
		t.Fatal(err)
	}
	defer tokens.Close()
	ids := make([]int32, tokens.Len())
	if err := tokens.Read(ids, 0); err != nil || !slices.Equal(ids, []int32{1, 258}) {
		t.Errorf("%v, %v", ids, err)
	}
}

func TestVerifyChecksum(t *testing.T) {
	out := t.TempDir()
	in := write(t, map[string]string{"a.txt": "some text"})
	m, err := Prepare(context.Background(), Options{Tokenizer: "bytes", Out: out, Inputs: []string{in}})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(out, m.Shards[0].File)
	b, _ := os.ReadFile(path)
	b[len(b)-2] ^= 1
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	tokens, err := Open(out, OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer tokens.Close()
	if err := tokens.Verify(); err == nil || !strings.Contains(err.Error(), "checksum") {
		t.Error(err)
	}
}

func TestLoaderEpochs(t *testing.T) {
	const n, T, B = 103, 4, 3 // 25 windows
	tokens := count(t, n)
	l, err := NewLoader(tokens, T, 5, 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	batch := NewBatch(B, T)
	var starts []int32
	for len(starts) < 75 {
		if err := l.Next(batch); err != nil {
			t.Fatal(err)
		}
		for row := range B {
			in, target := batch.Inputs[row*T:(row+1)*T], batch.Targets[row*T:(row+1)*T]
			for i := range in {
				if in[i] != in[0]+int32(i) || target[i] != in[i]+1 {
					t.Fatalf("row %v, targets %v", in, target)
				}
			}
			starts = append(starts, in[0])
		}
	}
	epochs := [][]int32{starts[:25], starts[25:50], starts[50:]}
	if slices.Equal(epochs[0], epochs[1]) || slices.Equal(epochs[1], epochs[2]) || slices.IsSorted(epochs[0]) {
		t.Errorf("not shuffled: %v", epochs)
	}
	for _, epoch := range epochs {
		slices.Sort(epoch)
		for i, start := range epoch {
			if start != int32(i*T) {
				t.Fatalf("window %d of the epoch begins at %d", i, start)
			}
		}
	}
}

func TestLoaderRestoresAndSplits(t *testing.T) {
	tokens := count(t, 200)
	draw := func(l *Loader, b int) []int32 {
		batch := NewBatch(b, 3)
		if err := l.Next(batch); err != nil {
			t.Fatal(err)
		}
		return batch.Inputs
	}
	alone, _ := NewLoader(tokens, 3, 9, 0, 1)
	rank0, _ := NewLoader(tokens, 3, 9, 0, 2)
	rank1, _ := NewLoader(tokens, 3, 9, 1, 2)
	for range 20 { // two ranks of 2 rows see what one of 4 sees
		want := draw(alone, 4)
		if got := append(slices.Clone(draw(rank0, 2)), draw(rank1, 2)...); !slices.Equal(got, want) {
			t.Fatalf("ranks %v, alone %v", got, want)
		}
	}
	text, err := json.Marshal(alone.State())
	if err != nil {
		t.Fatal(err)
	}
	var state State
	if err := json.Unmarshal(text, &state); err != nil {
		t.Fatal(err)
	}
	again, _ := NewLoader(tokens, 3, 9, 0, 1)
	if err := again.Restore(state); err != nil {
		t.Fatal(err)
	}
	for range 30 {
		if want, got := draw(alone, 5), draw(again, 5); !slices.Equal(got, want) {
			t.Fatalf("restored %v, want %v", got, want)
		}
	}
	other, _ := NewLoader(tokens, 3, 10, 0, 1)
	if err := other.Restore(state); err == nil ||
		err.Error() != "data: position of other data: saved with 200 tokens, T 3, stride 3, seed 9, now 200, 3, 3, 10" {
		t.Error(err)
	}
	for _, bad := range [][3]int{{0, 0, 1}, {3, 1, 1}, {3, -1, 1}, {200, 0, 1}} {
		if _, err := NewLoader(tokens, bad[0], 1, bad[1], bad[2]); err == nil {
			t.Errorf("T, rank, world %v were accepted", bad)
		}
	}
}

func TestPermute(t *testing.T) {
	for _, n := range []int64{1, 2, 3, 4, 5, 16, 17, 1000} {
		seen := make([]bool, n)
		fixed := 0
		for i := range n {
			j := permute(i, n, 42)
			if j < 0 || j >= n || seen[j] {
				t.Fatalf("n %d: %d goes to %d", n, i, j)
			}
			seen[j] = true
			if i == j {
				fixed++
			}
		}
		if n == 1000 && fixed > 10 {
			t.Errorf("%d of %d stay in place", fixed, n)
		}
	}
}

func TestWindowsCountEachTargetOnce(t *testing.T) {
	for n := 2; n < 40; n++ {
		tokens := count(t, n)
		for T := 1; T < 12; T++ {
			for stride := 1; stride <= T; stride++ {
				w, err := NewWindows(tokens, T, stride)
				if err != nil {
					t.Fatal(err)
				}
				seen := make([]int, n)
				batch := NewBatch(3, T)
				batches := int64(0)
				for {
					err := w.Next(batch)
					if errors.Is(err, io.EOF) {
						break
					}
					if err != nil {
						t.Fatal(err)
					}
					batches++
					for i, target := range batch.Targets {
						if target < 0 {
							continue
						}
						seen[target]++
						if batch.Inputs[i] != target-1 {
							t.Fatalf("target %d after input %d", target, batch.Inputs[i])
						}
						if context := i%T + 1; context < min(int(target), T-stride+1) {
							t.Fatalf("n %d, T %d, stride %d: target %d sees %d tokens", n, T, stride, target, context)
						}
					}
				}
				if seen[0] != 0 || slices.ContainsFunc(seen[1:], func(k int) bool { return k != 1 }) || batches != (w.Len()+2)/3 {
					t.Fatalf("n %d, T %d, stride %d: targets counted %v in %d batches", n, T, stride, seen, batches)
				}
			}
		}
	}
	tokens := count(t, 9)
	w, _ := NewWindows(tokens, 4, 4)
	start := w.State()
	batch, again := NewBatch(1, 4), NewBatch(1, 4)
	if err := errors.Join(w.Next(batch), w.Restore(start), w.Next(again)); err != nil ||
		!slices.Equal(batch.Inputs, again.Inputs) {
		t.Errorf("%v, %v, %v", batch.Inputs, again.Inputs, err)
	}
	if _, err := NewWindows(tokens, 4, 5); err == nil ||
		err.Error() != "data: T 4, stride 5: the stride must be from 1 to T" {
		t.Error(err)
	}
	if _, err := NewWindows(count(t, 1), 4, 4); err == nil ||
		err.Error() != "data: 1 tokens: evaluation needs at least 2" {
		t.Error(err)
	}
}

func TestConfig(t *testing.T) {
	good := Default()
	good.Train = "x"
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for want, change := range map[string]func(*Config){
		`data: train is ""`:      func(c *Config) { c.Train = "" },
		`data: val has "a": ""`:  func(c *Config) { c.Val = map[string]string{"a": ""} },
		`data: tokenizer "word"`: func(c *Config) { c.Tokenizer = "word" },
	} {
		c := good
		change(&c)
		if err := c.Validate(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

func FuzzShard(f *testing.F) {
	f.Add(shard(magic16, version16, 1, 2), false)
	f.Add(shard(magic32, version32, 1<<31), false)
	f.Add(shard(magic32, version32, 1)[:1026], false)
	f.Add([]byte{1, 0, 2}, true)
	f.Add([]byte{}, true)
	f.Fuzz(func(t *testing.T, b []byte, headerless bool) {
		p, err := parseShard(b, headerless)
		if err != nil {
			return
		}
		if p.len() < 1 || bytes.Equal(p.tokens, nil) {
			t.Fatalf("%d tokens without an error", p.len())
		}
		ids := make([]int32, p.len())
		n, bad := p.read(ids, 0, 1000)
		if int64(n) != p.len() || bad < 0 && slices.ContainsFunc(ids, func(id int32) bool { return id < 0 || id >= 1000 }) {
			t.Fatalf("read %d of %d, bad %d: %v", n, p.len(), bad, ids)
		}
	})
}
