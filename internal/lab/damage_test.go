package lab

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"headroom/model"
)

// TestFlippedBit: whatever reads a checkpoint finds it here, and one turned bit is refused by the file's name, wherever
// the checkpoint lies.
func TestFlippedBit(t *testing.T) {
	dir := shards(t)
	r := Run{Dir: filepath.Join(dir, "run"), Config: load(t, tiny(dir))}
	result, err := r.Do(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	weights := filepath.Join(result.Checkpoint, model.WeightsFile)
	text, err := os.ReadFile(weights)
	if err != nil {
		t.Fatal(err)
	}
	text[len(text)-100] ^= 0x40
	if err := os.WriteFile(weights, text, 0o666); err != nil {
		t.Fatal(err)
	}
	moved := filepath.Join(t.TempDir(), "moved")
	for _, path := range []string{r.Dir, result.Checkpoint, moved} {
		if path == moved {
			if err := os.Rename(result.Checkpoint, moved); err != nil {
				t.Fatal(err)
			}
		}
		if _, _, err := Checkpoint(path); err == nil ||
			!strings.Contains(err.Error(), "model.safetensors is damaged: its SHA-256 is ") {
			t.Errorf("%s: %v", path, err)
		}
	}
	if err := os.Truncate(filepath.Join(moved, model.WeightsFile), 9); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(moved, result.Checkpoint); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Checkpoint(r.Dir); err == nil ||
		!strings.Contains(err.Error(), "model.safetensors is damaged: it has 9 bytes, not the ") {
		t.Errorf("cut weights: %v", err)
	}
}

// TestStartThatFailed: a run that could not start leaves nothing that keeps another from its directory, and one that
// did a step does.
func TestStartThatFailed(t *testing.T) {
	dir := shards(t)
	r := Run{Dir: filepath.Join(dir, "run"), Config: load(t, tiny(dir), "train.batch=1000000000")}
	if _, err := r.Do(context.Background()); err == nil || !strings.Contains(err.Error(), "the tensors of a step need ") {
		t.Fatal(err)
	}
	r.Config = load(t, tiny(dir))
	if _, err := r.Do(context.Background()); err != nil {
		t.Fatal(err)
	}
	r.Config = load(t, tiny(dir), "train.batch=3")
	if _, err := r.Do(context.Background()); err == nil ||
		!strings.Contains(err.Error(), "holds another run: train.batch is 2 there, not 3") {
		t.Errorf("another run in its place: %v", err)
	}
}

// TestNoSuchCheckpoint: a mistyped name gets a line that says what was wanted.
func TestNoSuchCheckpoint(t *testing.T) {
	_, _, err := Checkpoint("nosuch")
	const want = "lab: nothing is called nosuch: it should be a run directory or one of its checkpoints"
	if err == nil || err.Error() != want {
		t.Errorf("a name that nothing has: %v", err)
	}
}
