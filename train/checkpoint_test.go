package train

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
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

func TestLatestPassesOverWhatIsNotWhole(t *testing.T) {
	for name, spoil := range map[string]func(dir string) error{
		"no state":        func(dir string) error { return os.Remove(filepath.Join(dir, "state.json")) },
		"half a state":    func(dir string) error { return os.Truncate(filepath.Join(dir, "state.json"), 20) },
		"missing weights": func(dir string) error { return os.Remove(filepath.Join(dir, "model.safetensors")) },
		"half the weights": func(dir string) error {
			return os.Truncate(filepath.Join(dir, "model.safetensors"), 3)
		},
		"another step": func(dir string) error { return os.Rename(dir, filepath.Join(filepath.Dir(dir), stepName(3))) },
		"temporary name": func(dir string) error {
			return os.Rename(dir, filepath.Join(filepath.Dir(dir), unfinished+stepName(2)))
		},
		"name of no step":  func(dir string) error { return os.Rename(dir, filepath.Join(filepath.Dir(dir), "step-2")) },
		"a file of a name": func(dir string) error { return errors.Join(os.RemoveAll(dir), os.WriteFile(dir, nil, 0o666)) },
	} {
		run := t.TempDir()
		put(t, run, 1)
		put(t, run, 2)
		if err := spoil(filepath.Join(run, checkpoints, stepName(2))); err != nil {
			t.Fatal(err)
		}
		if _, s, err := Latest(run); err != nil || s.Step != 1 {
			t.Errorf("%s: latest is step %d, %v", name, s.Step, err)
		}
		put(t, run, 2)
		if got := steps(t, run); !slices.Equal(got, []int{1, 2}) {
			t.Errorf("%s: after writing step 2 again there are %v", name, got)
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
