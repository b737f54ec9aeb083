package lab

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"headroom/data"
)

// again makes the shards of a set anew, of another text.
func again(t *testing.T, dir, set, text string) {
	t.Helper()
	file := filepath.Join(dir, set+".txt")
	if err := os.WriteFile(file, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(dir, set)); err != nil {
		t.Fatal(err)
	}
	if _, err := data.Prepare(context.Background(), data.Options{Tokenizer: "bytes", Out: filepath.Join(dir, set),
		Inputs: []string{file}}); err != nil {
		t.Fatal(err)
	}
}

// files are the contents of all files below a folder.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err != nil || !info.Mode().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		all[path] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func unchanged(t *testing.T, what string, was, now map[string]string) {
	t.Helper()
	for path, text := range was {
		if now[path] != text {
			t.Errorf("%s: %s was written", what, path)
		}
	}
	if len(now) != len(was) {
		t.Errorf("%s: %d files, %d before", what, len(now), len(was))
	}
}

// TestCompareRefusesOtherTexts: figures of one text are never put beside those of another, whatever the folder is
// called.
func TestCompareRefusesOtherTexts(t *testing.T) {
	fox, cat := strings.Repeat("the quick brown fox jumps over the lazy dog. ", 60),
		strings.Repeat("a cat sat on a mat and ate a rat. ", 60)
	dir := shards(t)
	text := comparison(dir, "")
	do := func(text string) error {
		c, err := Order{}.open(context.Background(), []byte(text), dir)
		if err != nil {
			t.Fatal(err)
		}
		c.Dir = filepath.Join(dir, "runs")
		_, err = c.Do(context.Background(), Jobs{})
		return err
	}
	if err := do(text); err != nil {
		t.Fatal(err)
	}
	three := strings.Replace(text, "\n  b: ", "\n  c: {attention: {groups: 1}}\n  b: ", 1)
	for _, c := range []struct{ set, key string }{{"val", "data.val.fox"}, {"train", "data.train"}} {
		was := files(t, filepath.Join(dir, "runs"))
		again(t, dir, c.set, cat)
		if err := do(three); err == nil || !strings.Contains(err.Error(), "lab: "+c.key+" is another text than the one that "+
			filepath.Join(dir, "runs", "a", "seed-1")+" has used: ") {
			t.Errorf("another %s: %v", c.set, err)
		}
		unchanged(t, c.set, was, files(t, filepath.Join(dir, "runs")))
		again(t, dir, c.set, fox)
	}
	if err := do(three); err != nil {
		t.Errorf("with the old texts, made anew: %v", err)
	}

	// A task on a machine whose folder holds something else.
	again(t, dir, "val", cat)
	c, err := Planned(filepath.Join(dir, "runs"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{resultName, textsName} {
		if err := os.Remove(filepath.Join(dir, "runs", "b", "seed-2", name)); err != nil {
			t.Fatal(err)
		}
	}
	want := "data.val.fox is another text than the one that the comparison has used"
	if err := c.do(context.Background(), Task{Arm: 2, Seed: 2}); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v", err)
	}

	// A result that came from there.
	path := filepath.Join(dir, "runs", "b", "seed-1", resultName)
	result, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	sum, err := shardSum(filepath.Join(dir, "val"))
	if err != nil {
		t.Fatal(err)
	}
	for _, was := range c.Texts {
		if was.Key == "data.val.fox" {
			result = bytes.ReplaceAll(result, []byte(was.Sum), []byte(sum))
		}
	}
	if err := os.WriteFile(path, result, 0o666); err != nil {
		t.Fatal(err)
	}
	if table, _ := c.Collect(); !strings.Contains(table.Text(),
		"has figures of another text than the comparison: its data.train, ") {
		t.Errorf("no failure in\n%s", table.Text())
	}
}

// TestCompareRefusesEdits: a file that asks for other runs than its directory has is refused before anything is
// written. What adds runs is not.
func TestCompareRefusesEdits(t *testing.T) {
	dir := shards(t)
	text := comparison(dir, "lr: [1e-3, 2e-3]\nlr_seeds: 1\n")
	open := func(text string) *Compare {
		c, err := Order{}.open(context.Background(), []byte(text), dir)
		if err != nil {
			t.Fatal(err)
		}
		c.Dir = filepath.Join(dir, "runs")
		return c
	}
	if _, err := open(text).Do(context.Background(), Jobs{}); err != nil {
		t.Fatal(err)
	}
	was := files(t, filepath.Join(dir, "runs"))
	for _, c := range []struct{ old, new, want string }{
		{"width: 16", "width: 32",
			"runs/a/lr-0.001/seed-1 holds another run: model.width is 16 there, not 32: choose another --out"},
		{"groups: 2", "groups: 1", "attention.groups is 2 there, not 1"},
		{"mlp: 32", "mlp: 40", "runs/b/lr-0.001/seed-1 holds another run: model.mlp is 32 there, not 40"},
		{"batch: 2", "batch: 4", "train.batch is 2 there, not 4"},
	} {
		edited := open(strings.Replace(text, c.old, c.new, 1))
		if _, err := edited.Do(context.Background(), Jobs{}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.new, err)
		}
		if _, err := edited.Estimate(context.Background()); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s, estimated: %v", c.new, err)
		}
		if _, err := (Launch{On: "slurm"}).Write(edited); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s, launched: %v", c.new, err)
		}
		unchanged(t, c.new, was, files(t, filepath.Join(dir, "runs")))
	}
	more := strings.NewReplacer("[1, 2]", "[1, 2, 3]", "lr: [1e-3,", "lr: [5e-4, 1e-3,", "  b: ",
		"  c: {attention: {groups: 1}}\n  b: ").Replace(text)
	if table, err := open(more).Do(context.Background(), Jobs{}); err != nil || len(table.Arms) != 3 ||
		len(table.Arms[1].Trials) != 3 {
		t.Errorf("with more arms, rates and seeds: %v, %+v", err, table)
	}
}

// TestTrainRefusesAnotherText: a run does not go on with another text, or with shards that are damaged.
func TestTrainRefusesAnotherText(t *testing.T) {
	dir := shards(t)
	r := Run{Dir: filepath.Join(dir, "run"), Config: load(t, tiny(dir), "train.schedule=constant"), Resume: true}
	if _, err := r.Do(context.Background()); err != nil {
		t.Fatal(err)
	}
	r.Config = load(t, tiny(dir), "train.schedule=constant", "train.steps=9")
	again(t, dir, "train", strings.Repeat("a cat sat on a mat and ate a rat. ", 60))
	if _, err := r.Do(context.Background()); err == nil ||
		!strings.HasPrefix(err.Error(), "lab: data.train is another text than the one that "+r.Dir+" has used") {
		t.Errorf("another text: %v", err)
	}
	shard := filepath.Join(dir, "train", "train_000000.bin")
	bin, err := os.ReadFile(shard)
	if err != nil {
		t.Fatal(err)
	}
	bin[len(bin)-2] ^= 1
	if err := os.WriteFile(shard, bin, 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Do(context.Background()); err == nil || !strings.Contains(err.Error(), "train_000000.bin: checksum ") {
		t.Errorf("a flipped bit: %v", err)
	}
	checkpoint, config, err := Checkpoint(r.Dir)
	if err != nil {
		t.Fatal(err)
	}
	config.Data.Val = map[string]string{"fox": filepath.Join(dir, "train")}
	if _, _, err := Measure(context.Background(), checkpoint, config); err == nil ||
		!strings.Contains(err.Error(), "train_000000.bin: checksum ") {
		t.Errorf("a flipped bit, measured: %v", err)
	}
}

// TestTextOfTheFirstCall: --text with another file than before is an error, with the same under another name it is not.
func TestTextOfTheFirstCall(t *testing.T) {
	dir := t.TempDir()
	fox, cat, renamed := filepath.Join(dir, "fox.txt"), filepath.Join(dir, "cat.txt"), filepath.Join(dir, "renamed.txt")
	for path, text := range map[string]string{fox: "the quick brown fox", cat: "a cat sat on a mat",
		renamed: "the quick brown fox"} {
		if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	out := filepath.Join(dir, "out")
	for _, c := range []struct{ path, want string }{{fox, ""}, {fox, ""}, {renamed, ""},
		{cat, "lab: " + out + " was made of another text than " + cat}} {
		err := makeShards(context.Background(), "bytes", out, []string{c.path}, nil)
		if err == nil != (c.want == "") || err != nil && !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: %v", c.path, err)
		}
	}
}
