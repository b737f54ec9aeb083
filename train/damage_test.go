package train

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"headroom/model"
)

// flip turns one bit of a file.
func flip(t *testing.T, path string, at int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1 << 5
	if _, err := f.WriteAt(b[:], at); err != nil {
		t.Fatal(err)
	}
}

// older takes from a checkpoint what older versions did not write.
func older(t *testing.T, checkpoint string) {
	t.Helper()
	path := filepath.Join(checkpoint, stateFile)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var s map[string]any
	if err := json.Unmarshal(text, &s); err != nil {
		t.Fatal(err)
	}
	delete(s, "sha256")
	delete(s, "sum")
	if err := writeJSON(path, s); err != nil {
		t.Fatal(err)
	}
}

// logged catches what is logged in a test.
func logged(t *testing.T) *bytes.Buffer {
	var b bytes.Buffer
	was := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&b, nil)))
	t.Cleanup(func() { slog.SetDefault(was) })
	return &b
}

// TestFlippedBit: one bit in any file of a checkpoint, its state included, and the checkpoint is refused by the file's name.
func TestFlippedBit(t *testing.T) {
	dir, tokens, c := t.TempDir(), shard(t, 300), tinyConfig()
	c.Steps, c.Keep = 4, 1
	train(t, tiny(t, dir, tokens, c))
	checkpoint := filepath.Join(dir, checkpoints, stepName(4))
	if err := Check(checkpoint, model.WeightsFile, momentsFile); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{model.WeightsFile, momentsFile, stateFile} {
		path := filepath.Join(checkpoint, name)
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		places := []int64{info.Size() / 2, info.Size() - 4} // both within the tensors
		if name == stateFile {
			places = nil
			for at := range info.Size() { // every byte of the text
				places = append(places, at)
			}
		}
		for _, at := range places {
			flip(t, path, at)
			err := Check(checkpoint, model.WeightsFile, momentsFile)
			if err == nil || !strings.Contains(err.Error(), path+" is damaged: ") {
				t.Errorf("%s, byte %d: %v", name, at, err)
			}
			flip(t, path, at)
		}
		flip(t, path, info.Size()/2)
		from := tiny(t, t.TempDir(), tokens, c)
		from.Config.From = checkpoint
		if _, err := from.Train(context.Background()); name != momentsFile && (err == nil || !strings.Contains(err.Error(), path+" is damaged: ")) {
			t.Errorf("%s: trained on with %v", name, err)
		}
		r := tiny(t, dir, tokens, c)
		r.Resume = true
		if _, err := r.Train(context.Background()); name != stateFile && (err == nil || !strings.Contains(err.Error(), path+" is damaged: ")) {
			t.Errorf("%s: resumed with %v", name, err)
		}
		flip(t, path, info.Size()/2)
	}
}

// TestOlderCheckpoint: without checksums a checkpoint loads, with a warning; weights alone load without one.
func TestOlderCheckpoint(t *testing.T) {
	dir, tokens, c := t.TempDir(), shard(t, 300), tinyConfig()
	train(t, tiny(t, dir, tokens, c))
	checkpoint := filepath.Join(dir, checkpoints, stepName(10))
	older(t, checkpoint)
	log := logged(t)
	r := tiny(t, dir, tokens, c)
	r.Resume = true
	if sum := train(t, r); sum.Step != 10 || !strings.Contains(log.String(), "the checkpoint has no checksums") {
		t.Errorf("resumed to %+v, saying %q", sum, log)
	}
	log.Reset()
	alone := t.TempDir()
	if err := os.Rename(filepath.Join(checkpoint, model.WeightsFile), filepath.Join(alone, model.WeightsFile)); err != nil {
		t.Fatal(err)
	}
	if err := Check(alone, model.WeightsFile); err != nil || log.Len() > 0 {
		t.Errorf("weights alone: %v, %s", err, log)
	}
}
