package lab

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"headroom/data"
)

// TestConcerns: texts that are missing are named, and sets that are trained on, whether by the same path, as a copy, or
// shard by shard; others are not.
func TestConcerns(t *testing.T) {
	dir := t.TempDir()
	prepare := func(name, text string) {
		t.Helper()
		file := filepath.Join(dir, name+".txt")
		if err := os.WriteFile(file, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
		if _, err := data.Prepare(context.Background(), data.Options{Tokenizer: "bytes", Out: filepath.Join(dir, name),
			Inputs: []string{file}}); err != nil {
			t.Fatal(err)
		}
	}
	prepare("train", strings.Repeat("the quick brown fox. ", 50))
	prepare("copy", strings.Repeat("the quick brown fox. ", 50))
	prepare("val", strings.Repeat("pack my box with jugs. ", 50))
	for _, c := range []struct {
		sets []string
		want []string // the beginnings of what is said
	}{
		{nil, nil},
		{[]string{"data.val.fox=" + dir + "/train"}, []string{"data.val.fox is trained on: 1 of its 1 shards"}},
		{[]string{"data.val.fox=" + dir + "/copy"}, []string{"data.val.fox is trained on: 1 of its 1 shards"}},
		{[]string{"data.train=" + dir + "/train:0.5," + dir + "/val:0.5"},
			[]string{"data.val.fox is trained on: 1 of its 1 shards"}},
		{[]string{"eval.sets.more=" + dir + "/copy/*.bin"}, []string{"eval.sets.more is trained on: 1 of its 1 shards"}},
		{[]string{"model.vocab=320"}, nil},
		{[]string{"model.vocab=2000"}, []string{"model.vocab is 2000, but " + dir + "/train has ids of tokenizer bytes " +
			"below 257: 1743 rows of the embedding are never learned; model.vocab=384 would do"}},
		{[]string{"data.train=" + dir + "/none"}, []string{"data.train is not there yet: data: stat " + dir + "/none"}},
		{[]string{"eval.tasks.piqa=" + dir + "/piqa.jsonl", "eval.sets.more=" + dir + "/more"},
			[]string{"eval.sets.more is not there yet", "eval.tasks.piqa is not there yet"}},
	} {
		got, err := concerns(load(t, tiny(dir), c.sets...))
		if err != nil || len(got) != len(c.want) {
			t.Errorf("%v: %q, %v", c.sets, got, err)
			continue
		}
		for i, want := range c.want {
			if !strings.HasPrefix(got[i], want) {
				t.Errorf("%v: %q, not %q", c.sets, got[i], want)
			}
		}
	}
	files, err := filepath.Glob(filepath.Join(dir, "train", "*.bin"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	text[len(text)-1] ^= 1
	if err := os.WriteFile(files[0], text, 0o666); err != nil {
		t.Fatal(err)
	}
	if got, err := concerns(load(t, tiny(dir))); err == nil || !strings.Contains(err.Error(), "checksum") {
		t.Errorf("a damaged shard: %q, %v", got, err)
	}
}

// TestTokensPerParameter: three sizes with as many tokens each are told of before any run begins, two are no law
// anyway.
func TestTokensPerParameter(t *testing.T) {
	dir := shards(t)
	for sizes, want := range map[string]int{
		"one: {}, two: {model: {width: 32}}":                                                 0,
		"one: {}, two: {model: {width: 32}}, three: {model: {width: 64}}":                    2,
		"one: {}, two: {model: {width: 32}}, three: {train: {batch: 4}, model: {width: 32}}": 2,
		"one: {}, two: {train: {lr: 2e-3}}, three: {train: {lr: 3e-3}}":                      0,
	} {
		c, err := Order{}.open(context.Background(), []byte(comparison(dir, "sizes: {"+sizes+"}\n")), dir)
		if err != nil {
			t.Fatal(err)
		}
		all, err := c.Concerns()
		got := 0
		for _, line := range all {
			got += strings.Count(line, "tokens per parameter are not held: ")
		}
		if err != nil || got != want || want > 0 && !strings.HasPrefix(all[0], "tokens per parameter are not held: a has ") {
			t.Errorf("%s: %d of %q, %v", sizes, got, all, err)
		}
	}
}
