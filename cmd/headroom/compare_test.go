package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"headroom/eval"
)

// TestMain is the program itself where a test, or what a test runs, starts it as a process of its own. Without that a
// comparison's children would run all tests, comparisons included.
func TestMain(m *testing.M) {
	if os.Getenv("HEADROOM_AS_PROGRAM") != "" {
		main()
	}
	if err := os.Setenv("HEADROOM_AS_PROGRAM", "1"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

func program(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return exec.Command(self, args...)
}

// kinds writes a comparison of two kinds with two seeds and two learning rates that takes a second, and its text.
func kinds(t *testing.T, extra string) (file, text string) {
	t.Helper()
	dir := t.TempDir()
	put(t, strings.Repeat("the quick brown fox jumps over the lazy dog. ", 60), dir, "fox.txt")
	put(t, `name: kinds
base:
  model: {layers: 1, width: 16, mlp: 24, vocab: 257, context: 16}
  attention: {heads: 2, head_dim: 8, groups: 2}
  data: {tokenizer: bytes, train: none, val: {fox: none}}
  train: {steps: 12, batch: 2, warmup: 2, eval_every: 4, save_every: 3, log_every: 100}
baseline: gqa-2
seeds: [1, 2]
lr: [1e-3, 2e-3]
lr_seeds: 1
match: parameters
arms: {gqa-2: {}, gta-2: {attention: {kind: gta}}}
`+extra, dir, "kinds.yaml")
	return filepath.Join(dir, "kinds.yaml"), filepath.Join(dir, "fox.txt")
}

// result is what a comparison is worth: the trials without their speed.
func result(t *testing.T, dir string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "comparison.json"))
	if err != nil {
		t.Fatal(err)
	}
	var c eval.Comparison
	if err := json.Unmarshal(text, &c); err != nil {
		t.Fatal(err)
	}
	s := ""
	for _, a := range c.Arms {
		s += fmt.Sprintln(a.Name, a.LR, a.Rates, a.Failures)
		for _, trial := range a.Trials {
			s += fmt.Sprintln(trial.Seed, trial.Perplexity)
		}
	}
	return s
}

func TestCompareSurvivesKilling(t *testing.T) {
	file, text := kinds(t, "decode: [2x8]\n")
	args := []string{"compare", file, "--text", "train=" + text, "--text", "fox=" + text, "--extend-rates",
		"--jobs", "2", "--out"}
	whole, killed := filepath.Join(t.TempDir(), "whole"), filepath.Join(t.TempDir(), "killed")
	began := time.Now()
	if out, err := program(t, append(args, whole)...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	took := time.Since(began)
	for kills := range 5 {
		cmd := program(t, append(args, killed)...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration((0.1 + 0.3*rand.Float64()) * float64(took)))
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err == nil {
			t.Logf("finished before kill %d", kills+1)
		}
	}
	out, err := program(t, append(args, killed)...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if got, want := result(t, killed), result(t, whole); got != want || strings.Count(want, "map[fox:") != 4 {
		t.Errorf("after kills\n%s\nnot\n%s\n%s", got, want, out)
	}
	page, err := os.ReadFile(filepath.Join(killed, "report.html"))
	if err != nil || !strings.Contains(string(page), "Decode speed") || !strings.Contains(string(page), "Learning rates") {
		t.Errorf("the report is incomplete, %v", err)
	}
}

// TestCompareExtendsRates: a rate that is too small is followed by larger ones, also where runs are processes of their
// own; a dry run says how many there may be.
func TestCompareExtendsRates(t *testing.T) {
	file, text := kinds(t, "")
	put(t, strings.Replace(read(t, file), "lr: [1e-3, 2e-3]", "lr: [1e-5, 1e-4]", 1), file)
	dir := filepath.Join(t.TempDir(), "runs")
	args := []string{"compare", file, "--text", "train=" + text, "--text", "fox=" + text, "--extend-rates", "--out", dir}
	code, out, logs := headroom(append(args, "--dry-run")...)
	if code != 0 || !strings.Contains(out,
		"At most 16 runs more try learning rates beyond these, up to 4 on a side of each arm's, about ") {
		t.Errorf("exit code %d\n%s%s", code, out, logs)
	}
	said, err := program(t, append(args, "--jobs", "2")...).CombinedOutput()
	if err != nil || !strings.Contains(string(said),
		`msg="compare: at the edge: one rate more" arm=gqa-2 best=0.0001 optimum=higher rate=0.001`) {
		t.Fatalf("%v\n%s", err, said)
	}
	c, err := eval.ReadComparison(dir)
	if err != nil || len(c.Arms[0].Rates) < 3 || c.Arms[0].LR < 1e-3 {
		t.Errorf("%v in\n%s", err, said)
	}
	code, _, logs = headroom("compare", "--collect", dir, "--extend-rates")
	if code == 0 || !strings.Contains(logs, "none of the others can be") {
		t.Errorf("exit code %d\n%s", code, logs)
	}
}

// TestCompareNull: the baseline against itself in processes of its own, the number with and without the flag's sign,
// and gathered again.
func TestCompareNull(t *testing.T) {
	file, text := kinds(t, "")
	dir := filepath.Join(t.TempDir(), "runs")
	args := []string{"compare", file, "--text", "train=" + text, "--text", "fox=" + text, "--out", dir, "--jobs", "2"}
	if said, err := program(t, args...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	out, err := program(t, append(args, "--null", "2")...).Output()
	if err != nil || !strings.HasPrefix(string(out),
		"kinds-null: gqa-2 against itself on fox, 2 seeds a pair, learning rate 0.00") {
		t.Fatalf("%v\n%s", err, out)
	}
	again, err := program(t, append(args, "--null=2")...).Output()
	if err != nil || string(again) != string(out) {
		t.Errorf("%v\n%s\nnot\n%s", err, again, out)
	}
	code, gathered, logs := headroom("compare", "--collect", filepath.Join(dir, "null"))
	if code != 0 || gathered != string(out) {
		t.Errorf("exit code %d\n%s\n%s\nnot\n%s", code, logs, gathered, out)
	}
	for line, want := range map[string]string{
		"--null=0": "--null must be at least 1 pair, not 0", "--null x": `--null takes a number of pairs, not "x"`,
		file: "one FILE or preset at a time", "--null --extend-rates": "none of the others can be",
	} {
		code, _, logs := headroom(append([]string{"compare", file}, strings.Fields(line)...)...)
		if code == 0 || !strings.Contains(logs, want) {
			t.Errorf("%s: exit code %d\n%s", line, code, logs)
		}
	}
}

// A disk that fills up stops the comparison with one line and no failed arm; with room, the same command finishes it.
func TestCompareOnAFullDisk(t *testing.T) {
	for _, jobs := range []string{"1", "2"} {
		disk := t.TempDir()
		if err := unix.Mount("tmpfs", disk, "tmpfs", 0, "size=900k"); err != nil {
			t.Skipf("no small disk without the right to mount one: %v", err)
		}
		defer unix.Unmount(disk, unix.MNT_DETACH)
		file, text := kinds(t, "")
		out := filepath.Join(disk, "runs")
		args := []string{"compare", file, "--text", "train=" + text, "--text", "fox=" + text, "--jobs", jobs, "--out", out}
		said, err := program(t, args...).CombinedOutput()
		lines := strings.Split(strings.TrimSpace(string(said)), "\n")
		if last := lines[len(lines)-1]; err == nil ||
			!strings.HasPrefix(last, "headroom: lab: there is no room left in "+out) ||
			strings.Contains(string(said), "run failed") {
			t.Fatalf("jobs %s: %v\n%s", jobs, err, said)
		}
		if err := unix.Mount("tmpfs", disk, "tmpfs", unix.MS_REMOUNT, "size=20m"); err != nil {
			t.Fatal(err)
		}
		if said, err := program(t, args...).CombinedOutput(); err != nil {
			t.Fatalf("jobs %s, with room: %v\n%s", jobs, err, said)
		}
		if got := result(t, out); strings.Count(got, "map[fox:") != 4 || strings.Contains(got, "failed") {
			t.Errorf("jobs %s: got %s", jobs, got)
		}
	}
}

func TestCompareNamesAFailedArm(t *testing.T) {
	file, text := kinds(t, "vary: [attention.*, model.mlp, train.batch]\n")
	put(t, strings.Replace(read(t, file), "gta-2: {", "gta-2: {train: {batch: 100000000}, ", 1), file)
	dir := filepath.Join(t.TempDir(), "runs")
	for _, jobs := range []string{"1", "2"} {
		cmd := program(t, "compare", file, "--text", "train="+text, "--text", "fox="+text, "--jobs", jobs, "--out", dir)
		said, err := cmd.CombinedOutput()
		if cmd.ProcessState.ExitCode() != 1 ||
			!strings.Contains(string(said), "gta-2, learning rate 0.001, seed 1, failed: ") ||
			!strings.Contains(string(said), "gta-2 (1 failed)") {
			t.Errorf("jobs %s: %v\n%s", jobs, err, said)
		}
		if got := result(t, dir); strings.Count(got, "map[fox:") != 2 {
			t.Errorf("jobs %s: the other arm has no two trials in %s", jobs, got)
		}
	}
}

// What array jobs leave is gathered whatever state it is in.
func TestCompareCollects(t *testing.T) {
	file, text := kinds(t, "")
	dir := filepath.Join(t.TempDir(), "runs")
	cmd := program(t, "compare", file, "--text", "train="+text, "--text", "fox="+text, "--out", dir, "--launch", "slurm")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	collect := func(code int, want ...string) {
		t.Helper()
		got, out, logs := headroom("compare", "--collect", dir)
		for _, w := range want {
			if got != code || !strings.Contains(out+logs, w) {
				t.Errorf("code %d, no %q in\n%s%s", got, w, out, logs)
			}
		}
	}
	collect(1, "gqa-2, seed 1, failed: lab: gqa-2 has no learning rate yet: ",
		"lab: 2 of 6 runs failed or are not finished")
	for task := 1; task <= 5; task++ {
		if code, _, logs := headroom("compare", dir, "--task", fmt.Sprint(task)); code != 0 {
			t.Fatal(logs)
		}
	}
	collect(1, "gta-2, seed 2, failed: not started", "lab: 1 of 6 runs failed")
	if code, _, logs := headroom("compare", dir, "--task", "6"); code != 0 {
		t.Fatal(logs)
	}
	collect(0, "gta-2")
	if code, _, logs := headroom("compare", dir, "--task", "7"); code != 2 || !strings.Contains(logs, "has no task 7") {
		t.Errorf("code %d, %s", code, logs)
	}
	seed2, err := filepath.Glob(filepath.Join(dir, "gta-2", "lr-*", "seed-2"))
	if err != nil || len(seed2) != 1 {
		t.Fatal(seed2, err)
	}
	for _, c := range []struct{ file, text, want string }{
		{"result.json", "{", "gta-2, seed 2, failed: lab: " + seed2[0] + "/result.json: unexpected end of JSON input"},
		{"config.yaml", "model: {depth: 3}\n", "gta-2, seed 2, failed: "},
		{"result.json", "", "gta-2, seed 2, failed: not finished: its newest checkpoint is at step 12"},
	} {
		was := read(t, filepath.Join(seed2[0], c.file))
		if c.text == "" {
			if err := os.Remove(filepath.Join(seed2[0], c.file)); err != nil {
				t.Fatal(err)
			}
		} else {
			put(t, c.text, seed2[0], c.file)
		}
		collect(1, c.want, "gqa-2")
		put(t, was, seed2[0], c.file)
	}
	collect(0, "gta-2")
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestCompareWarnsOfAnMLPThatIsGone: the file that a newcomer writes leaves MLA next to no MLP, and still more
// parameters.
func TestCompareWarnsOfAnMLPThatIsGone(t *testing.T) {
	dir := t.TempDir()
	put(t, strings.Repeat("the quick brown fox jumps over the lazy dog. ", 60), dir, "fox.txt")
	put(t, `name: newcomer
base:
  model: {layers: 1, width: 64, mlp: 172, vocab: 257, context: 16}
  attention: {kind: gqa, heads: 4, head_dim: 16, groups: 4}
  data: {tokenizer: bytes, train: none, val: {fox: none}}
  train: {steps: 2, batch: 2, warmup: 1}
baseline: gqa-4
seeds: [1]
match: parameters
arms: {gqa-4: {}, mla: {attention: {kind: mla}}}
`, dir, "newcomer.yaml")
	file, text := filepath.Join(dir, "newcomer.yaml"), filepath.Join(dir, "fox.txt")
	code, out, logs := headroom("compare", file, "--dry-run")
	words := strings.Join(strings.Fields(out), " ")
	for _, want := range []string{"arm attention rope dim latent dim query latent dim MLP", "gqa-4 gqa-4 16 - - 172",
		"mla mla 32 64 128 8",
		"WARNING: mla is not matched to gqa-4: its MLP has a width of 8, that of gqa-4 172, and its parameters still " +
			"differ by +"} {
		if code != 0 || !strings.Contains(words, want) {
			t.Errorf("code %d, no %q in\n%s%s", code, want, out, logs)
		}
	}
	said, err := program(t, "compare", file, "--text", "train="+text, "--text", "fox="+text, "--out",
		filepath.Join(dir, "runs")).CombinedOutput()
	if want := "mla is not matched to gqa-4: its MLP has a width of 8"; err != nil ||
		strings.Count(string(said), "WARNING: "+want) != 1 ||
		!strings.Contains(string(said), `level=WARN msg="compare: `+want) {
		t.Errorf("%v, no warning in\n%s", err, said)
	}
}

func TestCompareDryRun(t *testing.T) {
	file, _ := kinds(t, "sizes: {small: {}, wide: {model: {width: 32, mlp: 48}, train: {lr: 5e-4}}}\n")
	dir := filepath.Join(t.TempDir(), "runs")
	code, out, logs := headroom("compare", file, "--set", "data.train=nowhere", "--dry-run", "--out", dir)
	for _, want := range []string{"small/gqa-2", "wide/gta-2", "12 runs, ", " FLOPs, about ",
		"WARNING: data.train is not there yet: data: stat nowhere: no such file"} {
		if code != 0 || !strings.Contains(out, want) {
			t.Errorf("code %d, no %q in\n%s%s", code, want, out, logs)
		}
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("a dry run left a directory")
	}
	code, out, _ = headroom("compare", file, "--set", "data.train=nowhere", "--dry-run", "--json")
	var got struct {
		Arms []struct {
			Runs                int
			Tokens              int     `json:"tokens_per_run"`
			FLOPs               float64 `json:"flops_per_run"`
			Parameters, Seconds float64
		}
		Warnings []string
	}
	if err := json.Unmarshal([]byte(out), &got); code != 0 || err != nil || len(got.Arms) != 4 || got.Arms[0].Runs != 3 ||
		got.Arms[0].Tokens != 12*2*16 ||
		got.Arms[0].FLOPs < 3*got.Arms[0].Parameters*float64(got.Arms[0].Tokens) || got.Arms[0].Seconds <= 0 ||
		got.Arms[2].Parameters <= got.Arms[0].Parameters ||
		!slices.ContainsFunc(got.Warnings,
			func(w string) bool { return strings.HasPrefix(w, "data.train is not there yet") }) {
		t.Errorf("code %d, %v, %+v", code, err, got)
	}
}
