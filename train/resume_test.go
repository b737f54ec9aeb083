package train

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"headroom/attention"
	"headroom/data"
	"headroom/internal/graph"
	"headroom/model"
)

// TestMain also is the child process of the tests below, which they kill, interrupt and starve of disk.
func TestMain(m *testing.M) {
	if mode := os.Getenv("TRAIN_TEST_CHILD"); mode != "" {
		os.Exit(child(mode, os.Getenv("TRAIN_TEST_DIR"), os.Getenv("TRAIN_TEST_TOKENS")))
	}
	os.Exit(m.Run())
}

// A hooked source calls before each batch, with how many it has handed out.
type hooked struct {
	data.Source
	n      int
	before func(n int)
}

func (h *hooked) Next(b *data.Batch) error {
	h.before(h.n)
	h.n++
	return h.Source.Next(b)
}

// child trains as cmd would, and meets its misfortune when the batch of step 8 is read, beside step 7: after the
// checkpoint of step 4 and the evaluation of step 5.
func child(mode, dir, tokens string) int {
	r, err := tinyRun(dir, tokens, tinyConfig())
	if err != nil {
		fmt.Println(err)
		return 3
	}
	ctx, stop := Interruptible(context.Background(), func() { os.Exit(130) })
	defer stop()
	r.Data = &hooked{Source: r.Data, before: func(n int) {
		if n != 7 {
			return
		}
		switch mode {
		case "kill":
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		case "full":
			limit := unix.Rlimit{Cur: 2500, Max: 2500}
			if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &limit); err != nil {
				fmt.Println(err)
			}
		case "signal":
			fmt.Println("ready")
			<-ctx.Done()
		case "stuck":
			fmt.Println("ready")
			<-ctx.Done()
			fmt.Println("ready")
			select {}
		}
	}}
	sum, err := r.Train(ctx)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("step", sum.Step, "interrupted", sum.Interrupted)
	return 0
}

// process starts a child; each line of its output wants a signal.
func process(t *testing.T, mode, dir, tokens string, signals ...os.Signal) (code int, last string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), "TRAIN_TEST_CHILD="+mode, "TRAIN_TEST_DIR="+dir, "TRAIN_TEST_TOKENS="+tokens)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for s := bufio.NewScanner(out); s.Scan(); {
		last = s.Text()
		if last == "ready" {
			if err := cmd.Process.Signal(signals[0]); err != nil {
				t.Fatal(err)
			}
			signals = signals[1:]
		}
	}
	_ = cmd.Wait() // its code says the same
	if ctx.Err() != nil {
		t.Fatalf("the child did not end: %s", last)
	}
	return cmd.ProcessState.ExitCode(), last
}

// resumed demands that a run goes on from a step to its end as if nothing had happened.
func resumed(t *testing.T, dir, tokens string, from int) {
	t.Helper()
	if _, s, err := Latest(dir); err != nil || s.Step != from {
		t.Fatalf("the newest checkpoint is of step %d, %v", s.Step, err)
	}
	whole := tiny(t, t.TempDir(), tokens, tinyConfig())
	train(t, whole)
	r := tiny(t, dir, tokens, tinyConfig())
	r.Resume = true
	if sum := train(t, r); sum.Step != 10 || sum.Tokens != 640 {
		t.Errorf("resumed to %+v", sum)
	}
	sameRun(t, whole, r)
}

func TestResumeAfterKillIsExact(t *testing.T) {
	dir, tokens := t.TempDir(), shard(t, 300) // the order of 18 windows ends within the run and begins anew
	if code, out := process(t, "kill", dir, tokens); code != -1 {
		t.Fatalf("the child ended by itself: %d, %s", code, out)
	}
	if n := len(lines(t, dir)); n != 6 { // the batch of step 8 is read while step 7 runs
		t.Fatalf("the child left %d lines, not 6", n)
	}
	debris := filepath.Join(dir, checkpoints, unfinished+stepName(8))
	if err := os.Mkdir(debris, 0o777); err != nil {
		t.Fatal(err)
	}
	resumed(t, dir, tokens, 5)
	if _, err := os.Stat(debris); !os.IsNotExist(err) {
		t.Errorf("what the crash left unfinished is still there: %v", err)
	}
}

func TestSignalSavesAndEnds(t *testing.T) {
	for _, sig := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		dir, tokens := t.TempDir(), shard(t, 300)
		code, out := process(t, "signal", dir, tokens, sig)
		if code != 0 || out != "step 7 interrupted true" {
			t.Fatalf("%v: exit code %d, %s", sig, code, out)
		}
		resumed(t, dir, tokens, 7)
	}
}

func TestSecondSignalEndsAtOnce(t *testing.T) {
	dir, tokens := t.TempDir(), shard(t, 300)
	if code, out := process(t, "stuck", dir, tokens, os.Interrupt, os.Interrupt); code != 130 {
		t.Fatalf("exit code %d, %s", code, out)
	}
	resumed(t, dir, tokens, 5)
}

func TestFullDiskLeavesThePreviousCheckpoint(t *testing.T) {
	dir, tokens := t.TempDir(), shard(t, 300)
	code, out := process(t, "full", dir, tokens)
	good := filepath.Join(dir, checkpoints, stepName(5))
	if code != 1 || !strings.HasPrefix(out, "train: checkpoint of step 8: ") ||
		!strings.HasSuffix(out, "file too large; the last good checkpoint is "+good) {
		t.Fatalf("exit code %d: %s", code, out)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, checkpoints, unfinished+"*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	resumed(t, dir, tokens, 5)
}

func TestResumeRefuses(t *testing.T) {
	dir, tokens := t.TempDir(), shard(t, 300)
	done := tiny(t, dir, tokens, tinyConfig())
	train(t, done)
	checkpoint := filepath.Join(dir, checkpoints, stepName(10))
	for _, test := range []struct {
		name   string
		change func(*Run)
		want   string
	}{
		{"no resume", func(r *Run) { r.Resume = false },
			"train: " + dir + " holds a run at step 10: go on with --resume, or choose another directory"},
		{"rate", func(r *Run) { r.Config.LR = 3e-4 }, "train: " + checkpoint +
			` was trained with other settings: train.lr was "0.01", now "0.0003"`},
		{"two keys", func(r *Run) { r.Config.Clip, r.Config.Accumulate = 2, 2 },
			"train: " + checkpoint +
				` was trained with other settings: train.accumulate was "1", now "2"; train.clip was "1", now "2"`},
		{"data", func(r *Run) { r.Settings = map[string]string{"data.train": "books"} },
			"train: " + checkpoint + ` was trained with other settings: data.train was "", now "books"`},
		{"tokens", func(r *Run) {
			set, err := data.Open(shard(t, 200), data.OpenOptions{})
			if err == nil {
				r.Data, err = data.NewLoader(set, 16, 1, 0, 1)
			}
			if err != nil {
				t.Fatal(err)
			}
		}, "train: " + checkpoint + ": data: position of other data: saved with 300 tokens"},
	} {
		r := tiny(t, dir, tokens, tinyConfig())
		r.Resume = true
		test.change(&r)
		if _, err := r.Train(context.Background()); err == nil || !strings.HasPrefix(err.Error(), test.want) {
			t.Errorf("%s:\ngot  %v\nwant %s", test.name, err, test.want)
		}
	}
	again := tiny(t, dir, tokens, tinyConfig())
	again.Resume = true
	if sum := train(t, again); sum.Step != 10 || sum.Interrupted || sum.Checkpoint != checkpoint {
		t.Errorf("resuming what is done: %+v", sum)
	}
	sameRun(t, done, again)
}

func TestResumeKeepsNoMoreThanItMay(t *testing.T) {
	dir, tokens, c := t.TempDir(), shard(t, 300), tinyConfig()
	c.Keep, c.SaveEvery, c.EvalEvery = 5, 2, 0
	train(t, tiny(t, dir, tokens, c))
	c.Keep = 2
	r := tiny(t, dir, tokens, c)
	r.Resume = true
	train(t, r)
	if got := steps(t, dir); !slices.Equal(got, []int{8, 10}) {
		t.Errorf("kept %v", got)
	}
}

func TestMoreStepsAtAConstantRate(t *testing.T) {
	dir, tokens, c := t.TempDir(), shard(t, 300), tinyConfig()
	c.Schedule = "constant"
	train(t, tiny(t, dir, tokens, c))
	c.Steps = 13
	r := tiny(t, dir, tokens, c)
	r.Resume = true
	if sum := train(t, r); sum.Step != 13 {
		t.Errorf("got %+v", sum)
	}
	c.Steps = 12
	r = tiny(t, dir, tokens, c)
	r.Resume = true
	if _, err := r.Train(context.Background()); err == nil ||
		!strings.HasSuffix(err.Error(), "is at step 13, beyond the 12 of this run") {
		t.Errorf("got %v", err)
	}
}

// TestWarmupOfTheCheckpoint: a warm-up that nobody gave stays that of the run's beginning, whether by fewer steps or by
// the rule of an older version.
func TestWarmupOfTheCheckpoint(t *testing.T) {
	dir, tokens := t.TempDir(), shard(t, 300)
	run := func(steps, warmup int) Run {
		c := tinyConfig()
		c.Schedule, c.Steps, c.Warmup, c.EvalEvery = "constant", steps, warmup, 0
		c, err := c.Resolve(16, 1)
		must(t, err)
		r := tiny(t, dir, tokens, c)
		r.Resume = true
		return r
	}
	first := run(10, 8) // a tenth of 20 is 2
	first.Config.Keep, first.Config.EvalEvery = 5, 0
	train(t, first)
	for _, step := range []int{8, 10} { // the warm-up is under way at step 4
		must(t, os.RemoveAll(filepath.Join(dir, checkpoints, stepName(step))))
	}
	on := run(20, -1)
	train(t, on)
	whole := tiny(t, t.TempDir(), tokens, run(20, 8).Config)
	train(t, whole)
	sameRun(t, whole, on)
}

// TestOlderSettings: what a checkpoint of an older version does not say was as it is by default.
func TestOlderSettings(t *testing.T) {
	dir, tokens, c := t.TempDir(), shard(t, 300), tinyConfig()
	train(t, tiny(t, dir, tokens, c))
	checkpoint := filepath.Join(dir, checkpoints, stepName(10))
	s, err := readState(checkpoint)
	must(t, err)
	delete(s.Settings, "model.init")
	delete(s.Settings, "attention.qk_norm")
	delete(s.Settings, "model.norm")
	delete(s.Settings, "attention.scale_dim")
	delete(s.Settings, "model.activation")
	delete(s.Settings, "model.embed_scale")
	delete(s.Settings, "attention.gate")
	delete(s.Settings, "attention.gate_width")
	delete(s.Settings, "attention.tie_kv")
	must(t, s.write(filepath.Join(checkpoint, stateFile)))
	r := tiny(t, dir, tokens, c)
	r.Resume = true
	train(t, r)
	r = tiny(t, dir, tokens, c)
	r.Resume = true
	other := r.Model.Config
	other.Init = model.Plain
	r.Model, err = model.New(other, r.Model.Attention)
	must(t, err)
	if _, err := r.Train(context.Background()); err == nil ||
		!strings.HasSuffix(err.Error(), `model.init was "scaled", now "plain"`) {
		t.Errorf("another start: %v", err)
	}

	dir = t.TempDir()
	latent := func(norm string) Run {
		r := tiny(t, dir, tokens, c)
		a := r.Model.Attention
		a.Kind, a.Groups, a.RopeDim, a.LatentDim, a.QueryLatentDim, a.QueryNorm = attention.GLAQ, 2, 0, 0, 0, norm
		r.Model, err = model.New(r.Model.Config, a)
		must(t, err)
		r.Store, err = graph.NewStore(graph.NewCPU(), r.Model.Params())
		must(t, err)
		r.Evaluate = nil
		return r
	}
	train(t, latent(attention.WholeNorm))
	checkpoint = filepath.Join(dir, checkpoints, stepName(10))
	s, err = readState(checkpoint)
	must(t, err)
	delete(s.Settings, "attention.query_norm")
	must(t, s.write(filepath.Join(checkpoint, stateFile)))
	r = latent(attention.WholeNorm)
	r.Resume = true
	train(t, r)
	r = latent("")
	r.Resume = true
	if _, err := r.Train(context.Background()); err == nil ||
		!strings.HasSuffix(err.Error(), `attention.query_norm was "whole", now "parts"`) {
		t.Errorf("another norm of the query latent: %v", err)
	}
}

func TestMetricsEndWhereTheCheckpointDoes(t *testing.T) {
	whole := "{\"step\":1}\n{\"step\":2}\n{\"step\":3}\n{\"st"
	spoilt := "{\"step\":1}\n{\"st3p\"2}\n{\"step\":3}\n{\"step\":4}\n"
	for _, test := range []struct {
		text             string
		step, end, lacks int
	}{
		{whole, 0, 0, 0}, {whole, 1, 11, 0}, {whole, 2, 22, 0}, {whole, 3, 33, 0},
		{whole, 4, 33, 4},                                                              // cut within the line of step 4
		{spoilt, 1, 11, 0}, {spoilt, 2, 11, 2}, {spoilt, 3, 32, 2}, {spoilt, 4, 43, 2}, // what comes after a bad line stays
		{"", 2, 0, 1},
	} {
		end, lacks, err := endOf(strings.NewReader(test.text), test.step)
		if err != nil || end != int64(test.end) || lacks != test.lacks {
			t.Errorf("%q after step %d: the lines end at %d and lack %d (%v), not at %d and %d", test.text, test.step, end,
				lacks, err, test.end, test.lacks)
		}
	}
}
