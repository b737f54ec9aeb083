package train

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// put commits a checkpoint with one file.
func put(t *testing.T, run string, step int) {
	t.Helper()
	err := commit(run, State{Step: step}, func(dir string) error {
		return os.WriteFile(filepath.Join(dir, "model.safetensors"), []byte("weights"), 0o666)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func steps(t *testing.T, run string) []int {
	t.Helper()
	s, err := Steps(run)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func link(t *testing.T, run, name string) string {
	t.Helper()
	to, err := os.Readlink(filepath.Join(run, checkpoints, name))
	if err != nil {
		t.Fatal(err)
	}
	return to
}

func TestCommitPointsLatest(t *testing.T) {
	run := t.TempDir()
	if path, _, err := Latest(run); path != "" || err != nil {
		t.Fatalf("an empty run has checkpoint %q, %v", path, err)
	}
	put(t, run, 1)
	put(t, run, 12)
	path, s, err := Latest(run)
	if err != nil || s.Step != 12 || filepath.Base(path) != "step-00000012" || s.Files["model.safetensors"] != 7 {
		t.Errorf("latest is %s %+v, %v", path, s, err)
	}
	if to := link(t, run, latest); to != "step-00000012" {
		t.Errorf("the link points to %s", to)
	}
	if _, err := os.Stat(filepath.Join(run, checkpoints, latest, "model.safetensors")); err != nil {
		t.Error(err)
	}
}

func TestWhatIsNotWhole(t *testing.T) {
	for _, test := range []struct {
		name  string
		spoil func(dir string) error
		want  string // what Latest says of it; nothing where it is no checkpoint at all
	}{
		{"no state", func(dir string) error { return os.Remove(filepath.Join(dir, "state.json")) },
			"state.json: no such file"},
		{"half a state", func(dir string) error { return os.Truncate(filepath.Join(dir, "state.json"), 20) },
			"state.json is damaged: "},
		{"missing weights", func(dir string) error { return os.Remove(filepath.Join(dir, "model.safetensors")) },
			"model.safetensors: no such file"},
		{"half the weights", func(dir string) error { return os.Truncate(filepath.Join(dir, "model.safetensors"), 3) },
			"model.safetensors is damaged: it has 3 bytes, not the 7 that were written"},
		{"another step", func(dir string) error { return os.Rename(dir, filepath.Join(filepath.Dir(dir), stepName(3))) },
			"state.json is of step 2"},
		{"temporary name", func(dir string) error {
			return os.Rename(dir, filepath.Join(filepath.Dir(dir), unfinished+stepName(2)))
		}, ""},
		{"name of no step", func(dir string) error { return os.Rename(dir, filepath.Join(filepath.Dir(dir), "step-2")) }, ""},
		{"a file of a name", func(dir string) error { return errors.Join(os.RemoveAll(dir), os.WriteFile(dir, nil, 0o666)) },
			"state.json: not a directory"},
	} {
		run := t.TempDir()
		put(t, run, 1)
		put(t, run, 2)
		if err := test.spoil(filepath.Join(run, checkpoints, stepName(2))); err != nil {
			t.Fatal(err)
		}
		path, s, err := Latest(run)
		older := filepath.Join(run, checkpoints, stepName(1))
		switch {
		case test.want == "" && (err != nil || s.Step != 1 || path != older):
			t.Errorf("%s: latest is step %d, %v", test.name, s.Step, err)
		case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want) ||
			!strings.HasSuffix(err.Error(), "the newest whole one is "+older)):
			t.Errorf("%s: latest is step %d, %v", test.name, s.Step, err)
		}
		if err := os.RemoveAll(older); err != nil {
			t.Fatal(err)
		}
		if _, _, err := Latest(run); test.want != "" &&
			(err == nil || !strings.Contains(err.Error(), " has no whole checkpoint: ") ||
				!strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s, alone: %v", test.name, err)
		}
		put(t, run, 1)
		put(t, run, 2)
		if got := steps(t, run); !slices.Equal(got, []int{1, 2}) {
			t.Errorf("%s: after writing step 2 again there are %v", test.name, got)
		}
	}
}

func TestFailedCommitLeavesNothing(t *testing.T) {
	run := t.TempDir()
	put(t, run, 1)
	full := errors.New("no space left on device")
	err := commit(run, State{Step: 2}, func(dir string) error {
		return errors.Join(os.WriteFile(filepath.Join(dir, "model.safetensors"), nil, 0o666), full)
	})
	if !errors.Is(err, full) {
		t.Errorf("commit says %v", err)
	}
	entries, err := os.ReadDir(filepath.Join(run, checkpoints))
	if err != nil || len(entries) != 2 || link(t, run, latest) != "step-00000001" {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

func TestPruneKeepsTheNewestAndTheBest(t *testing.T) {
	run := t.TempDir()
	for step := 1; step <= 6; step++ {
		put(t, run, step)
		if err := prune(run, 2, &Best{Step: 2}); err != nil {
			t.Fatal(err)
		}
	}
	if got := steps(t, run); !slices.Equal(got, []int{2, 5, 6}) {
		t.Errorf("kept %v", got)
	}
	if err := os.Mkdir(filepath.Join(run, checkpoints, unfinished+"old-"+stepName(4)), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := sweep(run); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(run, checkpoints, unfinished+"*")); len(left) > 0 {
		t.Errorf("swept, but %v is there", left)
	}
}

func TestDifferencesNameTheKey(t *testing.T) {
	was, now := map[string]string{}, map[string]string{}
	c := Default()
	c.settings(was)
	c.LR, c.SaveEvery, c.Steps = 2e-3, 7, 2000
	c.settings(now)
	want := []string{`train.lr was "0.001", now "0.002"`, `train.steps was "1000", now "2000"`}
	if got := differences(was, now); !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	c.Schedule = "constant"
	now = map[string]string{}
	c.settings(now)
	if _, ok := now["train.steps"]; ok {
		t.Error("a constant rate does not depend on the number of steps")
	}
}

func TestSettingsOfNestedStructs(t *testing.T) {
	got := map[string]string{}
	type inner struct {
		Kind string `mapstructure:"kind"`
	}
	settings(got, "model", struct {
		Attention inner `mapstructure:"attention"`
		Layers    int
	}{inner{"gta"}, 4})
	if len(got) != 2 || got["model.attention.kind"] != "gta" || got["model.layers"] != "4" {
		t.Errorf("got %v", got)
	}
}
