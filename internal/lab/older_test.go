package lab

import (
	"context"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"headroom/configs"
)

// TestOlderRunsGoOn: runs that revision 0dbbdf2 stopped at step 8 of 10, whose files say nothing of the keys that came
// later, load, have the perplexity that they had, resume and end as they did.
func TestOlderRunsGoOn(t *testing.T) {
	for _, kind := range []string{"gqa", "gla_q"} {
		t.Run(kind, func(t *testing.T) { olderRunGoesOn(t, kind) })
	}
}

func olderRunGoesOn(t *testing.T, kind string) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("testdata/older/"+kind)); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(dir, "shards"), os.DirFS("testdata/older/shards")); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir) // where the paths of its configuration begin
	log, err := os.ReadFile(filepath.Join(dir, "metrics.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(log)), "\n")
	var want struct {
		Loss float64
		Eval []struct{ NLL float64 }
	}
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &want); err != nil {
		t.Fatal(err)
	}
	c, err := configs.Load(configs.Input{File: filepath.Join(dir, configName)})
	if err != nil {
		t.Fatal(err)
	}
	r, err := Run{Dir: dir, Config: c.Run, Resume: true}.Do(context.Background())
	if err != nil {
		t.Fatalf("%s: %v", kind, err)
	}
	if math.Abs(r.Loss-want.Loss) > 1e-5 || math.Abs(r.Sets[0].NLL-want.Eval[0].NLL) > 1e-5 {
		t.Errorf("%s ends with a loss of %v and %v on its set, and ended with %v and %v", kind, r.Loss, r.Sets[0].NLL,
			want.Loss, want.Eval[0].NLL)
	}
}
