package configs

import (
	"os"
	"path/filepath"
	"testing"

	"headroom/data"
)

func pathy() Run {
	r := Default()
	r.Train.From = "runs/first/checkpoints/best"
	r.Data = data.Config{Train: "shards/web:0.7,s3://bucket/books:0.3",
		Val: map[string]string{"books": "../val", "far": "/far/val"}, Tokenizer: "tok.json"}
	r.Eval.Sets, r.Eval.Tasks = map[string]string{"wiki": "gs://bucket/wiki"},
		map[string]string{"piqa": "tasks/piqa.jsonl"}
	return r
}

// TestAbsolute: every path of a run means the same from everywhere afterwards, and nothing else is changed.
func TestAbsolute(t *testing.T) {
	dir := t.TempDir()
	here := filepath.Join(dir, "work")
	if err := os.Mkdir(here, 0o777); err != nil {
		t.Fatal(err)
	}
	t.Chdir(here)
	r := pathy()
	got := r.Absolute()
	want := pathy()
	want.Train.From = here + "/runs/first/checkpoints/best"
	want.Data.Train = here + "/shards/web:0.7,s3://bucket/books:0.3"
	want.Data.Val = map[string]string{"books": dir + "/val", "far": "/far/val"}
	want.Data.Tokenizer = here + "/tok.json"
	want.Eval.Tasks = map[string]string{"piqa": here + "/tasks/piqa.jsonl"}
	if got.YAML() != want.YAML() {
		t.Errorf("got\n%s\nwant\n%s", got.YAML(), want.YAML())
	}
	if r.YAML() != pathy().YAML() {
		t.Error("the run itself has changed")
	}
	if plain := Default().Absolute(); plain.YAML() != Default().YAML() {
		t.Errorf("a run without paths becomes\n%s", plain.YAML())
	}
	back := want
	back.Data.Val = map[string]string{"books": dir + "/val", "far": "/far/val"} // not below
	back.Train.From, back.Data.Train, back.Data.Tokenizer, back.Eval.Tasks = r.Train.From, r.Data.Train, r.Data.Tokenizer,
		r.Eval.Tasks
	if got := want.Relative(); got.YAML() != back.YAML() {
		t.Errorf("from here it is\n%s\nwant\n%s", got.YAML(), back.YAML())
	}
	odd := filepath.Join(dir, "a,b")
	if err := os.Mkdir(odd, 0o777); err != nil {
		t.Fatal(err)
	}
	t.Chdir(odd)
	if got := r.Absolute().Data.Train; got != r.Data.Train { // a mixture of paths with commas reads as one path
		t.Errorf("a mixture below a folder with a comma becomes %s", got)
	}
}

// TestChangesOfPaths: a run that was written down from one directory is the same from another, and other paths are
// others.
func TestChangesOfPaths(t *testing.T) {
	t.Chdir(t.TempDir())
	was := pathy().Absolute()
	if c := Changes(was, pathy()); len(c) > 0 {
		t.Errorf("from the same directory: %v", c)
	}
	t.Chdir(t.TempDir())
	moved := pathy()
	moved.Data.Val = was.Data.Val // one path leads out of the directory
	if c := Changes(was, moved); len(c) > 0 {
		t.Errorf("from another directory: %v", c)
	}
	if c := Changes(moved, was); len(c) > 0 {
		t.Errorf("the other way round: %v", c)
	}
	for key, spoil := range map[string]func(r *Run){
		"data.train":     func(r *Run) { r.Data.Train = "shards/web:0.6,s3://bucket/books:0.4" },
		"data.val":       func(r *Run) { r.Data.Val = map[string]string{"books": "other/val", "far": "/far/val"} },
		"data.tokenizer": func(r *Run) { r.Data.Tokenizer = "kot.json" },
		"eval.tasks":     func(r *Run) { r.Eval.Tasks = map[string]string{"piqa": "piqa.json"} },
		"train.from":     func(r *Run) { r.Train.From = "best" },
	} {
		other := moved
		spoil(&other)
		c := Changes(was, other)
		if key == "train.from" { // the end of a path may be all that was written
			if len(c) > 0 {
				t.Errorf("%s: %v", key, c)
			}
			continue
		}
		if len(c) != 1 || c[0].Key != key {
			t.Errorf("%s: %v", key, c)
		}
	}
}
