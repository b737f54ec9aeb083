package lab

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"headroom/configs"
)

// TestFromAnotherDirectory: a run that was begun with paths of one directory is measured, resumed and trained on from
// another.
func TestFromAnotherDirectory(t *testing.T) {
	dir := shards(t)
	t.Chdir(dir)
	text := strings.ReplaceAll(tiny(dir), dir+"/", "")
	r := Run{Dir: "run", Config: load(t, text)}
	if _, err := r.Do(context.Background()); err != nil {
		t.Fatal(err)
	}
	if kept, err := Finished("run", r.Config); err != nil || kept == nil {
		t.Errorf("here it is finished: %v, %v", kept, err)
	}
	t.Chdir(t.TempDir())
	far := filepath.Join(dir, "run")
	checkpoint, c, err := Checkpoint(far)
	if err != nil {
		t.Fatal(err)
	}
	if sets, _, err := Measure(context.Background(), checkpoint, c); err != nil || len(sets) != 1 {
		t.Errorf("measured: %v, %v", sets, err)
	}
	stored, err := configs.Load(configs.Input{File: filepath.Join(far, configName)})
	if err != nil {
		t.Fatal(err)
	}
	again := Run{Dir: far, Config: stored.Run, Resume: true}
	if result, err := again.Do(context.Background()); err != nil || result.Steps != 6 {
		t.Errorf("resumed: %+v, %v", result, err)
	}
	if kept, err := Finished(far, r.Config); err != nil || kept == nil { // by the paths that it was begun with
		t.Errorf("from elsewhere it is finished: %v, %v", kept, err)
	}
	card, err := Card(far, checkpoint, c)
	if err != nil || !strings.Contains(card, "Trained on "+dir+"/train,") {
		t.Errorf("the card from elsewhere: %v\n%s", err, card)
	}
	t.Chdir(dir)
	if card, err = Card("run", checkpoint, c); err != nil || !strings.Contains(card, "Trained on train,") ||
		strings.Contains(strings.SplitN(card, "## Configuration", 2)[1], dir) {
		t.Errorf("the card from where it was trained: %v\n%s", err, card)
	}
	if err := os.WriteFile("train/meta.json", []byte("{"), 0o666); err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	if _, err := again.Do(context.Background()); err == nil {
		t.Error("a damaged text is trained on")
	}
}
