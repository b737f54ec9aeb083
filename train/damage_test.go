package train

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"headroom/internal/disk"
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
	if err := disk.ReplaceJSON(path, s); err != nil {
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

// TestFlippedBit: one bit in any file of a checkpoint, its state included, and the checkpoint is refused by the file's
// name.
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
		if _, err := from.Train(context.Background()); name != momentsFile &&
			(err == nil || !strings.Contains(err.Error(), path+" is damaged: ")) {
			t.Errorf("%s: trained on with %v", name, err)
		}
		r := tiny(t, dir, tokens, c)
		r.Resume = true
		if _, err := r.Train(context.Background()); err == nil || !strings.Contains(err.Error(), path+" is damaged: ") {
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
	if err := os.Rename(filepath.Join(checkpoint, model.WeightsFile),
		filepath.Join(alone, model.WeightsFile)); err != nil {
		t.Fatal(err)
	}
	if err := Check(alone, model.WeightsFile); err != nil || log.Len() > 0 {
		t.Errorf("weights alone: %v, %s", err, log)
	}
}

// TestDamagedRun: a run is never begun over another's remains, whatever is left of it, and with or without Resume.
func TestDamagedRun(t *testing.T) {
	tokens := shard(t, 300)
	each := func(t *testing.T, dir string, do func(checkpoint string) error) {
		t.Helper()
		all, err := filepath.Glob(filepath.Join(dir, checkpoints, "step-*"))
		if err != nil || len(all) != 2 {
			t.Fatal(all, err)
		}
		for _, c := range all {
			if err := do(c); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, test := range map[string]struct {
		spoil func(t *testing.T, dir string)
		want  []string
	}{
		"cut weights": {func(t *testing.T, dir string) {
			each(t, dir, func(c string) error { return os.Truncate(filepath.Join(c, model.WeightsFile), 100) })
		}, []string{"no checkpoint is whole", stepName(8) + "/model.safetensors is damaged: it has 100 bytes",
			stepName(10) + "/model.safetensors"}},
		"edited states": {func(t *testing.T, dir string) {
			each(t, dir, func(c string) error {
				text, err := os.ReadFile(filepath.Join(c, stateFile))
				if err != nil {
					return err
				}
				return os.WriteFile(filepath.Join(c, stateFile), bytes.Replace(text, []byte(`"seed"`), []byte(`"sead"`), 1), 0o666)
			})
		}, []string{"no checkpoint is whole", stepName(10) + "/state.json is damaged: "}},
		"empty checkpoints": {func(t *testing.T, dir string) {
			if err := errors.Join(os.RemoveAll(filepath.Join(dir, checkpoints)),
				os.Mkdir(filepath.Join(dir, checkpoints), 0o777)); err != nil {
				t.Fatal(err)
			}
		}, []string{"it saved step 10, but ", "checkpoints has no checkpoint"}},
		"only the links": {func(t *testing.T, dir string) {
			each(t, dir, os.RemoveAll)
			if err := os.Remove(filepath.Join(dir, environmentName)); err != nil { // as an older version noted nothing
				t.Fatal(err)
			}
		}, []string{"it saved step 10, but "}},
		"cut env.json": {func(t *testing.T, dir string) {
			each(t, dir, os.RemoveAll)
			if err := os.Truncate(filepath.Join(dir, environmentName), 30); err != nil {
				t.Fatal(err)
			}
		}, []string{"env.json is damaged"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir, c := t.TempDir(), tinyConfig()
			train(t, tiny(t, dir, tokens, c))
			test.spoil(t, dir)
			before := lines(t, dir)
			for _, resume := range []bool{false, true} {
				r := tiny(t, dir, tokens, c)
				r.Resume = resume
				_, err := r.Train(context.Background())
				for _, want := range append(test.want, dir) {
					if err == nil || !strings.Contains(err.Error(), want) {
						t.Errorf("resume %t: %v, without %q", resume, err, want)
					}
				}
				if after := lines(t, dir); len(after) != len(before) {
					t.Errorf("resume %t: %d lines of metrics, there were %d", resume, len(after), len(before))
				}
			}
		})
	}
}

// TestOlderWholeCheckpoint: where the newest checkpoint is damaged a run goes on from the one before, says so, and ends
// with the same bits; the damaged one is kept under another name.
func TestOlderWholeCheckpoint(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, checkpoint string){
		"cut":     func(t *testing.T, c string) { must(t, os.Truncate(filepath.Join(c, momentsFile), 50)) },
		"flipped": func(t *testing.T, c string) { flip(t, filepath.Join(c, momentsFile), 5000) },
	} {
		dir, tokens, c := t.TempDir(), shard(t, 300), tinyConfig()
		whole := tiny(t, t.TempDir(), tokens, c)
		train(t, whole)
		train(t, tiny(t, dir, tokens, c))
		newest := filepath.Join(dir, checkpoints, stepName(10))
		spoil(t, newest)
		log := logged(t)
		r := tiny(t, dir, tokens, c)
		r.Resume = true
		train(t, r)
		if !strings.Contains(log.String(), "goes on from an older checkpoint") ||
			!strings.Contains(log.String(), momentsFile+" is damaged") {
			t.Errorf("%s: it says %q", name, log)
		}
		sameRun(t, whole, r)
		if _, err := os.Stat(filepath.Join(dir, checkpoints, setAside+stepName(10), momentsFile)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestCutMetrics: lines that are lost are named, and those after them stay.
func TestCutMetrics(t *testing.T) {
	dir, tokens, c := t.TempDir(), shard(t, 300), tinyConfig()
	train(t, tiny(t, dir, tokens, c))
	path := filepath.Join(dir, "metrics.jsonl")
	info, err := os.Stat(path)
	must(t, err)
	must(t, os.Truncate(path, info.Size()-20))
	log := logged(t)
	r := tiny(t, dir, tokens, c)
	r.Resume = true
	train(t, r)
	if !strings.Contains(log.String(), "metrics.jsonl has been damaged or cut") ||
		!strings.Contains(log.String(), "first_lost=10") {
		t.Errorf("it says %q", log)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
