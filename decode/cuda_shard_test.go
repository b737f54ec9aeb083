//go:build gpu

package decode

import (
	"math/rand/v2"
	"slices"
	"testing"

	"headroom/attention"
	"headroom/internal/device"
	"headroom/internal/graph"
	"headroom/model"
)

// onPapers is a model in parts, each on paper.
func onPapers(typ device.Type, parts int) Backend {
	b := &shards{cut: map[*Model][]*Model{}}
	sum := newSum(parts)
	for rank := range parts {
		one := onPaper(typ)
		one.rank, one.ranks = rank, parts
		open := one.queue
		one.queue = func() (queue, error) {
			q, err := open()
			q.(*paper).shards, q.(*paper).rank = sum, rank
			return q, err
		}
		b.parts = append(b.parts, one)
	}
	return b
}

// TestShardsOnPaper serves random requests with a model in 2 and 4 parts of a GPU on paper, and with the whole on the CPU.
func TestShardsOnPaper(t *testing.T) {
	for _, kind := range []string{"mha", "gqa-4", "gta-4", "mla", "gla-2"} {
		for _, typ := range []device.Type{device.F32, device.BF16} {
			for _, parts := range []int{2, 4} {
				sayTheSame(t, kind, onPapers(typ, parts))
			}
		}
	}
}

// TestShardsCUDA does so on two GPUs, in float32, where there are two.
func TestShardsCUDA(t *testing.T) {
	if device.Count() < 2 {
		t.Skip("fewer than two GPUs")
	}
	on, err := OnCUDAs(2, graph.F32)
	if err != nil {
		t.Fatal(err)
	}
	defer on.Close()
	for _, kind := range []string{"mha", "gqa-4", "gta-4", "mla", "gla-2"} {
		sayTheSame(t, kind, on)
	}
}

func sayTheSame(t *testing.T, kind string, on Backend) {
	t.Helper()
	m := tiny(t, kind, wide, func(_ *model.Config, a *attention.Config) { a.Heads = 8 })
	serve := func(on Backend) (all []*Sequence) {
		e, err := Open(m, on, Options{Pages: 12, Rows: 3, Chunk: 24})
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		r := rand.New(rand.NewPCG(5, 6))
		for i := range 4 {
			q := Request{Prompt: randomTokens(r, 1+r.IntN(40), m.Config.Vocab), MaxTokens: 6}
			if i == 3 {
				q.Sampling = Sampling{Temperature: 0.7, Seed: 4}
			}
			all = append(all, submit(t, e, q))
		}
		finish(t, e)
		return all
	}
	want := serve(OnCPU())
	for i, s := range serve(on) {
		if !slices.Equal(s.Tokens, want[i].Tokens) {
			t.Errorf("%s on %s: request %d: %v, on the CPU %v", kind, on.Name(), i, s.Output(), want[i].Output())
		}
	}
}
