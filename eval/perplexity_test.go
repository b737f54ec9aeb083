package eval

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"headroom/data"
	"headroom/internal/graph"
	"headroom/model"
)

// tokens opens a shard of n tokens, with a meta.json that counts bytes and words where there are any.
func tokens(t *testing.T, n, byteCount, words int) *data.Tokens {
	t.Helper()
	header := [256]uint32{20240520, 1, uint32(n)}
	var b bytes.Buffer
	_ = binary.Write(&b, binary.LittleEndian, header)
	for i := range n {
		_ = binary.Write(&b, binary.LittleEndian, uint16(i*i%7+i%3))
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "x.bin")
	if err := os.WriteFile(path, b.Bytes(), 0o666); err != nil {
		t.Fatal(err)
	}
	if byteCount > 0 {
		meta := fmt.Sprintf(
			`{"tokenizer": "bytes", "vocab": 11, "tokens": %d, "bytes": %d, "words": %d, "shards": [{"file": "x.bin", "tokens": %d}]}`, n, byteCount, words, n)
		if err := os.WriteFile(filepath.Join(dir, "meta.json"), []byte(meta), 0o666); err != nil {
			t.Fatal(err)
		}
		path = dir
	}
	set, err := data.Open(path, data.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { set.Close() })
	return set
}

// tiny is a model of context 6 with random weights, or with all zeros for seed 0.
func tiny(t *testing.T, seed uint64) (*graph.Store, *model.Transformer) {
	t.Helper()
	m, err := model.New(tinyConfigs())
	if err != nil {
		t.Fatal(err)
	}
	store, err := graph.NewStore(graph.NewCPU(), m.Params())
	if err != nil {
		t.Fatal(err)
	}
	if seed > 0 {
		if err := store.Init(seed); err != nil {
			t.Fatal(err)
		}
	}
	return store, m
}

func measure(t *testing.T, store *graph.Store, m *model.Transformer, c Config, set *data.Tokens) Result {
	t.Helper()
	p, err := NewPerplexity(store, m, c, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	r, err := p.Measure(context.Background(), "set", set)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// alone is the likelihood of target j of a set, given the tokens from start on: one window, one target.
func alone(t *testing.T, store *graph.Store, m *model.Transformer, T int, set *data.Tokens, start, j int) float64 {
	t.Helper()
	prog, err := graph.Compile(store, 1, T, func(b *graph.Builder) []*graph.Node {
		return []*graph.Node{m.NLL(b, b.Tokens("tokens"), b.Tokens("targets"))}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer prog.Close()
	inputs, targets := make([]int32, T), make([]int32, T)
	for i := range targets {
		targets[i] = -1
	}
	if err := errors.Join(set.Read(inputs[:j-start], int64(start)), set.Read(targets[j-start-1:j-start], int64(j)),
		prog.SetTokens("tokens", inputs), prog.SetTokens("targets", targets), prog.RunAll()); err != nil {
		t.Fatal(err)
	}
	nll, err := prog.Output(0, nil)
	if err != nil {
		t.Fatal(err)
	}
	return float64(nll[j-start-1])
}

func TestEveryTargetCountsOnceWithItsContext(t *testing.T) {
	store, m := tiny(t, 1)
	for _, c := range []struct{ n, B, T, stride int }{
		{2, 1, 6, 6}, {6, 2, 6, 6}, {7, 2, 6, 6}, {8, 2, 6, 6}, {13, 2, 6, 0}, {14, 3, 6, 6}, {12, 1, 4, 4},
		{13, 2, 6, 3}, {14, 1, 6, 4}, {15, 4, 6, 5}, {11, 2, 5, 1}, {7, 3, 1, 1}, {9, 2, 6, 2},
	} {
		set := tokens(t, c.n, 0, 0)
		got := measure(t, store, m, Config{Batch: c.B, Context: c.T, Stride: c.stride}, set)
		stride := c.stride
		if stride == 0 {
			stride = c.T
		}
		want := 0.0
		for j := 1; j < c.n; j++ {
			window := max(0, (j-c.T+stride-1)/stride) // the first window that reaches j
			want += alone(t, store, m, c.T, set, window*stride, j)
		}
		want /= float64(c.n - 1)
		if got.Tokens != int64(c.n-1) || math.Abs(got.NLL-want) > 1e-5 || got.Stride != stride || got.Context != c.T {
			t.Errorf("%+v: got %+v, want %d targets at %v", c, got, c.n-1, want)
		}
		if got.Bytes != 0 || got.BitsPerByte != 0 || got.WordPerplexity != 0 {
			t.Errorf("%+v: figures by byte and word of a set without counts: %+v", c, got)
		}
	}
}

func TestFiguresOfAUniformModel(t *testing.T) {
	store, m := tiny(t, 0)
	got := measure(t, store, m, Config{Batch: 2}, tokens(t, 21, 40, 8))
	nats := 20 * math.Log(11)
	for name, x := range map[string][2]float64{
		"nll":             {got.NLL, math.Log(11)},
		"perplexity":      {got.Perplexity, 11},
		"bits per byte":   {got.BitsPerByte, nats / math.Ln2 / 40},
		"word perplexity": {got.WordPerplexity, math.Exp(nats / 8)},
	} {
		if math.Abs(x[0]/x[1]-1) > 1e-6 {
			t.Errorf("%s is %v, want %v", name, x[0], x[1])
		}
	}
	if got.Set != "set" || got.Bytes != 40 || got.Words != 8 || got.Tokens != 20 {
		t.Errorf("counts %+v", got)
	}
}

func TestOnePassServesManySetsAndFollowsTheWeights(t *testing.T) {
	store, m := tiny(t, 1)
	p, err := NewPerplexity(store, m, Config{Batch: 2}, nil)
	if err != nil {
		t.Fatal(err)
	}
	long, short := tokens(t, 40, 0, 0), tokens(t, 9, 0, 0)
	first, err := p.Measure(context.Background(), "long", long)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Measure(context.Background(), "short", short); err != nil {
		t.Fatal(err)
	}
	again, err := p.Measure(context.Background(), "long", long)
	if err != nil || !reflect.DeepEqual(again, first) {
		t.Errorf("a second time %+v, %v, first %+v", again, err, first)
	}
	if err := store.Init(2); err != nil {
		t.Fatal(err)
	}
	if changed, err := p.Measure(context.Background(), "long", long); err != nil || changed.NLL == first.NLL {
		t.Errorf("other weights give the same %v, %v", changed.NLL, err)
	}
}

func TestALimitMeasuresTheFirstTargets(t *testing.T) {
	store, m := tiny(t, 1)
	set := tokens(t, 40, 100, 20)
	got := measure(t, store, m, Config{Batch: 4, Tokens: 15}, set)
	want := measure(t, store, m, Config{Batch: 4}, tokens(t, 16, 0, 0))
	if got.Tokens != 15 || math.Abs(got.NLL-want.NLL) > 1e-6 || got.Bytes != 0 || got.BitsPerByte != 0 ||
		got.WordPerplexity != 0 {
		t.Errorf("the first 15 targets: %+v, want %+v", got, want)
	}
	if all := measure(t, store, m, Config{Batch: 4, Tokens: 39}, set); all.Tokens != 39 || all.BitsPerByte == 0 {
		t.Errorf("a limit of all: %+v", all)
	}
}

func TestPerplexityRefuses(t *testing.T) {
	store, m := tiny(t, 1)
	for _, c := range []struct {
		config Config
		want   string
	}{
		{Config{Batch: 1, Context: 7}, "eval: context must be at most the model's 6, not 7"},
		{Config{Batch: 1, Stride: 7}, "eval: stride must be at most the context 6, not 7"},
		{Config{Batch: 0}, "eval: batch must be at least 1, not 0"},
		{Config{Batch: 1, Context: -1}, "eval: context must be at least 0, not -1"},
		{Config{Batch: 1, Stride: -1}, "eval: stride must be at least 0, not -1"},
		{Config{Batch: 1, Tokens: -1}, "eval: tokens must be at least 0, not -1"},
		{Config{Batch: 1, Sets: map[string]string{"books": ""}}, `eval: sets must give each name a path, not "books": ""`},
	} {
		if _, err := NewPerplexity(store, m, c.config, nil); err == nil || err.Error() != c.want {
			t.Errorf("%+v:\ngot  %v\nwant %s", c.config, err, c.want)
		}
	}
	p, err := NewPerplexity(store, m, Default(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Measure(context.Background(), "one", tokens(t, 1, 0, 0)); err == nil ||
		!strings.HasPrefix(err.Error(), "eval: one: data: 1 tokens") {
		t.Errorf("a set of one token: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := p.Measure(ctx, "set", tokens(t, 9, 0, 0)); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end: %v", err)
	}
}

func TestProgressOfALongMeasurement(t *testing.T) {
	var out bytes.Buffer
	p := newProgress(&out, "books", 100, "tokens")
	p.at(1)
	if out.Len() > 0 {
		t.Errorf("a short one says %q", out.String())
	}
	p.spoke = p.spoke.Add(-every)
	p.at(50)
	p.at(51)
	p.done()
	if out.String() != "evaluating books: 50 of 100 tokens\n" {
		t.Errorf("it says %q", out.String())
	}
}

// TestNoFigureOfNoNumbers: weights that overflow have no perplexity, and a text of few spaces has one but none per
// word.
func TestNoFigureOfNoNumbers(t *testing.T) {
	store, m := tiny(t, 1)
	words := measure(t, store, m, Config{Batch: 4}, tokens(t, 2000, 2000, 1))
	if _, err := json.Marshal(words); err != nil || words.WordPerplexity != 0 || words.Perplexity == 0 {
		t.Errorf("a text of one word: %+v, %v", words, err)
	}
	x, err := store.Value("norm")
	if err != nil {
		t.Fatal(err)
	}
	for i := range x {
		x[i] = 3e38
	}
	if err := store.Set("norm", x); err != nil {
		t.Fatal(err)
	}
	p, err := NewPerplexity(store, m, Default(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if r, err := p.Measure(context.Background(), "set", tokens(t, 40, 0, 0)); err == nil ||
		!strings.Contains(err.Error(), "which is no perplexity: its weights are damaged") {
		t.Errorf("weights that overflow: %+v, %v", r, err)
	}
}
