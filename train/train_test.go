package train

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"log/slog"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"headroom/data"
	"headroom/eval"
	"headroom/internal/graph"
	"headroom/model"
)

const vocab = 32

// shard writes n tokens in which every other one follows from its predecessor, so that there is something to learn.
func shard(tb testing.TB, n int) string {
	tb.Helper()
	r := rand.New(rand.NewPCG(7, 7))
	header := [256]uint32{20240520, 1, uint32(n)}
	var b []byte
	for _, x := range header {
		b = binary.LittleEndian.AppendUint32(b, x)
	}
	for last := 0; n > 0; n-- {
		if n%2 == 0 {
			last = r.IntN(vocab)
		} else {
			last = (7*last + 3) % vocab
		}
		b = binary.LittleEndian.AppendUint16(b, uint16(last))
	}
	path := filepath.Join(tb.TempDir(), "tokens.bin")
	if err := os.WriteFile(path, b, 0o666); err != nil {
		tb.Fatal(err)
	}
	return path
}

// tinyConfig saves at steps 4, 8, 10 and evaluates at 5 and 10.
func tinyConfig() Config {
	c := Default()
	c.Steps, c.Batch, c.Context, c.LR, c.Warmup, c.SaveEvery, c.EvalEvery, c.LogEvery = 10, 4, 16, 1e-2, 2, 4, 5, 5
	return c
}

// tinyRun is a run of the tiny model, evaluated on a part of its tokens.
func tinyRun(dir, tokens string, c Config) (Run, error) {
	return tinyRank(dir, tokens, c, nil, graph.ShardOptimizer)
}

// tinyRank is that of one rank of a group, or of a process alone where the group is nil.
func tinyRank(dir, tokens string, c Config, group graph.Group, shard graph.Sharding) (Run, error) {
	rank, ranks := 0, 1
	if group != nil {
		rank, ranks = group.Rank(), group.Size()
	}
	m, err := model.New(tinyConfigs())
	if err != nil {
		return Run{}, err
	}
	store, err := graph.NewGroupStore(graph.NewCPU(), m.Params(), group, shard)
	if err != nil {
		return Run{}, err
	}
	set, err := data.Open(tokens, data.OpenOptions{Vocab: vocab})
	if err != nil {
		return Run{}, err
	}
	loader, err := data.NewLoader(set, c.Context, c.Seed, rank, ranks)
	if err != nil {
		return Run{}, err
	}
	p, err := eval.NewPerplexity(store, m, eval.Config{Batch: 2, Context: 16, Tokens: 100}, nil)
	if err != nil {
		return Run{}, err
	}
	return Run{
		Dir: dir, Config: c, Model: m, Store: store, Data: loader, Log: slog.New(slog.DiscardHandler),
		Evaluate: func(ctx context.Context) ([]eval.Result, error) {
			r, err := p.Measure(ctx, "part", set)
			return []eval.Result{r}, err
		},
	}, nil
}

func tiny(tb testing.TB, dir, tokens string, c Config) Run {
	tb.Helper()
	r, err := tinyRun(dir, tokens, c)
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

func train(tb testing.TB, r Run) Summary {
	tb.Helper()
	sum, err := r.Train(context.Background())
	if err != nil {
		tb.Fatal(err)
	}
	return sum
}

// lines reads metrics.jsonl.
func lines(tb testing.TB, dir string) (all []Line) {
	tb.Helper()
	f, err := os.Open(filepath.Join(dir, "metrics.jsonl"))
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		var l Line
		if err := json.Unmarshal(s.Bytes(), &l); err != nil {
			tb.Fatalf("%s: %v", s.Text(), err)
		}
		all = append(all, l)
	}
	return all
}

func losses(all []Line) (x []float64) {
	for _, l := range all {
		x = append(x, l.Loss)
	}
	return x
}

// sameRun demands equal losses, evaluations, weights and moments, bit for bit.
func sameRun(t *testing.T, a, b Run) {
	t.Helper()
	la, lb := lines(t, a.Dir), lines(t, b.Dir)
	if !slices.Equal(losses(la), losses(lb)) {
		t.Errorf("losses differ:\n%v\n%v", losses(la), losses(lb))
	}
	for i := range la {
		if la[i].GradNorm != lb[i].GradNorm || la[i].Tokens != lb[i].Tokens || !reflect.DeepEqual(la[i].Eval, lb[i].Eval) {
			t.Errorf("lines differ:\n%+v\n%+v", la[i], lb[i])
		}
	}
	for _, p := range a.Store.Params() {
		for i, x := range tensors(t, a.Store, p.Name) {
			if !slices.Equal(x, tensors(t, b.Store, p.Name)[i]) {
				t.Errorf("%s of %s differs", []string{"value", "first moment", "second moment"}[i], p.Name)
			}
		}
	}
}

func tensors(t *testing.T, s *graph.Store, name string) [3][]float32 {
	t.Helper()
	w, err := s.Value(name)
	if err != nil {
		t.Fatal(err)
	}
	m, v, err := s.Moments(name)
	if err != nil {
		t.Fatal(err)
	}
	return [3][]float32{w, m, v}
}

func TestLossFallsAndTheRunIsComplete(t *testing.T) {
	dir, c := t.TempDir(), tinyConfig()
	c.Steps = 60
	sum := train(t, tiny(t, dir, shard(t, 500), c))
	all := lines(t, dir)
	if first, last := all[0].Loss, all[59].Loss; last > first-1 {
		t.Errorf("the loss went from %v to %v", first, last)
	}
	for i, l := range all {
		if l.Step != i+1 || l.Tokens != int64(64*(i+1)) || l.LR != c.rate(i+1) || l.GradNorm <= 0 || l.TokensSec <= 0 ||
			(len(l.Eval) == 1) != (l.Step%5 == 0) {
			t.Errorf("line %d: %+v", i, l)
		}
	}
	if sum.Step != 60 || sum.Interrupted || sum.Loss != all[59].Loss || sum.Tokens != 60*64 || sum.TokensPerSecond <= 0 {
		t.Errorf("summary %+v", sum)
	}
	if path, _, err := Latest(dir); err != nil || path != sum.Checkpoint {
		t.Errorf("latest is %s, %v, the summary says %s", path, err, sum.Checkpoint)
	}
	if to := link(t, dir, best); to != stepName(sum.Best.Step) {
		t.Errorf("best is %s, the summary says %+v", to, sum.Best)
	}
	var starts []Environment
	text, err := os.ReadFile(filepath.Join(dir, "env.json"))
	if err != nil || json.Unmarshal(text, &starts) != nil || len(starts) != 1 || starts[0].Backend != "cpu" ||
		starts[0].Cores == 0 {
		t.Errorf("env.json: %s, %v", text, err)
	}
}

func TestTwoRunsOfOneSeedAreEqual(t *testing.T) {
	tokens := shard(t, 500)
	a, b := tiny(t, t.TempDir(), tokens, tinyConfig()), tiny(t, t.TempDir(), tokens, tinyConfig())
	train(t, a)
	train(t, b)
	sameRun(t, a, b)
	c := tinyConfig()
	c.Seed = 2
	other := tiny(t, t.TempDir(), tokens, c)
	train(t, other)
	if slices.Equal(losses(lines(t, a.Dir)), losses(lines(t, other.Dir))) {
		t.Error("another seed gives the same losses")
	}
}

func TestAccumulationEqualsTheLargerBatch(t *testing.T) {
	tokens, c := shard(t, 500), tinyConfig()
	whole := tiny(t, t.TempDir(), tokens, c)
	c.Batch, c.Accumulate = 1, 4
	parts := tiny(t, t.TempDir(), tokens, c)
	train(t, whole)
	train(t, parts)
	la, lb := lines(t, whole.Dir), lines(t, parts.Dir)
	for i := range la {
		if math.Abs(la[i].Loss-lb[i].Loss) > 1e-4 || math.Abs(la[i].GradNorm/lb[i].GradNorm-1) > 1e-3 {
			t.Errorf("step %d: loss %v and norm %v, in parts %v and %v", i+1, la[i].Loss, la[i].GradNorm,
				lb[i].Loss, lb[i].GradNorm)
		}
	}
}

// Ten losses of this model on these tokens, from our own runs of the OpenBLAS and the plain build, which agree to six
// digits. They hold to float rounding on any machine; a change beyond it means that training computes something else.
func TestTenLosses(t *testing.T) {
	want := []float64{
		3.487736, 3.510844, 3.545409, 3.404219, 3.413385, 3.385895, 3.314592, 3.123130, 3.122286, 3.192460,
	}
	r := tiny(t, t.TempDir(), shard(t, 500), tinyConfig())
	train(t, r)
	got := losses(lines(t, r.Dir))
	for i := range want {
		if math.Abs(got[i]-want[i]) > 2e-5*want[i] {
			t.Errorf("step %d: loss %v, want %v", i+1, got[i], want[i])
		}
	}
	if len(got) != len(want) {
		t.Errorf("losses %v, want %v", got, want)
	}
}

func TestDivergenceStopsTheRun(t *testing.T) {
	c := tinyConfig()
	c.LR, c.Warmup, c.Schedule, c.EvalEvery, c.SaveEvery = 1e38, 0, "constant", 0, 1
	r := tiny(t, t.TempDir(), shard(t, 500), c)
	_, err := r.Train(context.Background())
	var d *Diverged
	if !errors.As(err, &d) {
		t.Fatalf("a rate of 1e38 ends with %v", err)
	}
	const want = " and leaves weights that are not finite (tensor embed is not finite: value 0 of 512 is +Inf); no " +
		"checkpoint was saved before"
	if !strings.HasPrefix(err.Error(), "train: step 1 has loss 3.") || !strings.HasSuffix(err.Error(), want) {
		t.Errorf("the message is %v", err)
	}
	if good, _, err := Latest(r.Dir); d.Step != 1 || d.Checkpoint != "" || good != "" || err != nil {
		t.Errorf("%+v, newest checkpoint %s, %v", d, good, err)
	}
	if n := len(lines(t, r.Dir)); n != 1 {
		t.Errorf("%d lines of metrics", n)
	}
	c.LR, c.SaveEvery = 1e30, 1 // the weights of step 1 are finite, what comes of them is not
	r = tiny(t, t.TempDir(), shard(t, 500), c)
	_, err = r.Train(context.Background())
	good, _, _ := Latest(r.Dir)
	if !errors.As(err, &d) || d.Step != 2 || d.Checkpoint != good || filepath.Base(good) != stepName(1) {
		t.Errorf("%v, newest checkpoint %s", err, good)
	}
	if want := "; the last good checkpoint is " + good; err == nil ||
		!strings.HasPrefix(err.Error(), "train: step 2 has loss ") || !strings.HasSuffix(err.Error(), want) {
		t.Errorf("the message is %v", err)
	}
	message := "train: step 3 has loss +Inf and gradient norm 2; no checkpoint was saved before"
	if got := (&Diverged{Step: 3, Loss: math.Inf(1), GradNorm: 2}).Error(); got != message {
		t.Error(got)
	}
}

// evaluations makes a run see the given likelihoods, one after the other.
func evaluations(r *Run, nll ...float64) {
	r.Evaluate = func(context.Context) ([]eval.Result, error) {
		x := nll[0]
		nll = nll[1:]
		return []eval.Result{{Set: "a", NLL: x - 1}, {Set: "b", NLL: x + 1}}, nil
	}
}

func TestTheBestIsKept(t *testing.T) {
	c := tinyConfig()
	c.SaveEvery, c.EvalEvery, c.Keep = 3, 2, 1
	r := tiny(t, t.TempDir(), shard(t, 500), c)
	evaluations(&r, 5, 4, 4.5, 4, 6)
	sum := train(t, r)
	if *sum.Best != (Best{Step: 4, NLL: 4}) || link(t, r.Dir, best) != stepName(4) ||
		link(t, r.Dir, latest) != stepName(10) {
		t.Errorf("best %+v, links %s and %s", sum.Best, link(t, r.Dir, best), link(t, r.Dir, latest))
	}
	if got := steps(t, r.Dir); !slices.Equal(got, []int{4, 10}) {
		t.Errorf("kept %v", got)
	}
}

func TestEvaluationErrorStopsTheRun(t *testing.T) {
	r := tiny(t, t.TempDir(), shard(t, 500), tinyConfig())
	bad := errors.New("shard is gone")
	r.Evaluate = func(context.Context) ([]eval.Result, error) { return nil, bad }
	if _, err := r.Train(context.Background()); !errors.Is(err, bad) {
		t.Errorf("got %v", err)
	}
}

func TestOneProcessARun(t *testing.T) {
	r := tiny(t, t.TempDir(), shard(t, 500), tinyConfig())
	other := tiny(t, r.Dir, shard(t, 500), tinyConfig())
	r.Evaluate = func(context.Context) ([]eval.Result, error) {
		_, err := other.Train(context.Background())
		return nil, err
	}
	_, err := r.Train(context.Background())
	if err == nil || err.Error() != "train: another process is training in "+r.Dir {
		t.Errorf("a second run in the same directory: %v", err)
	}
}
