//go:build gpu

package cuda

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"headroom/attention"
	"headroom/decode"
	"headroom/decode/decodetest"
	"headroom/decode/host"
	"headroom/internal/device"
	"headroom/internal/graph"
	"headroom/model"
)

// simulateParts is a backend of several simulated devices that hold shards of a model, and reach each other's memory
// or not.
func simulateParts(typ device.Type, parts int, reaches bool) decode.Backend {
	var all []decode.Backend
	sum := host.NewSum(parts)
	for rank := range parts {
		one := simulate(typ)
		one.rank, one.ranks, one.reaches = rank, parts, reaches
		open := one.queue
		one.queue = func(sums bool) (queue, error) {
			q, err := open(sums)
			q.(*simulated).shards, q.(*simulated).rank = sum, rank
			return q, err
		}
		all = append(all, one)
	}
	return decode.Sharded(all...)
}

// TestShardsSimulated serves random requests with a model in 2 and 4 parts on simulated devices, and with the whole on
// the CPU.
func TestShardsSimulated(t *testing.T) {
	for _, kind := range []string{"mha", "gqa-4", "gta-4", "mla", "gla-2"} {
		for _, typ := range []device.Type{device.F32, device.BF16} {
			for _, parts := range []int{2, 4} {
				sayTheSame(t, kind, simulateParts(typ, parts, true))
			}
		}
	}
	sayTheSame(t, "gqa-4", simulateParts(device.BF16, 2, true), withNorm(attention.HeadNorm))
	vocab := func(V int, tie bool) func(*model.Config, *attention.Config) {
		return func(c *model.Config, _ *attention.Config) { c.Vocab, c.Tie = V, tie }
	}
	for _, tie := range []bool{false, true} {
		for _, V := range []int{37, 40, 264} { // 37 is not divided
			sayTheSame(t, "gqa-4", simulateParts(device.BF16, 2, true), vocab(V, tie))
			sayTheSame(t, "gqa-4", simulateParts(device.BF16, 4, false), vocab(V, tie))
			sayTheSame(t, "mla", simulateParts(device.F32, 2, false), vocab(V, tie))
		}
	}
}

// TestScoresOfShards holds all logits of sequences that are cut into passes at random, where each of two devices has
// those of half the vocabulary, against the CPU.
func TestScoresOfShards(t *testing.T) {
	m := decodetest.Tiny(t, "gqa-4", wide, func(c *model.Config, a *attention.Config) { a.Heads, c.Vocab = 8, 40 })
	texts := decodetest.Texts(m)
	limits := decode.Limits{Pages: 20, Rows: 4, Tokens: 300, Scores: 300, Context: m.Config.Context}
	want := decodetest.Split(t, host.NewDevice(m, 20), m, 1, texts)
	for _, reaches := range []bool{false, true} {
		on := simulateParts(device.F32, 2, reaches)
		d, err := on.Open(m, limits)
		if err != nil {
			t.Fatal(err)
		}
		for i, got := range decodetest.Split(t, d, m, 1, texts) {
			for j, x := range got {
				if diff := math.Abs(float64(x - want[i][j])); !(diff < 1e-3) {
					t.Fatalf("reaches %v: text %d, logit %d is %v, %v on the CPU", reaches, i, j, x, want[i][j])
				}
			}
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestShardsCUDA serves random requests on two GPUs, in float32, where there are two.
func TestShardsCUDA(t *testing.T) {
	if device.Count() < 2 {
		t.Skip("fewer than two GPUs")
	}
	on, err := Sharded(2, graph.F32, "")
	if err != nil {
		t.Fatal(err)
	}
	defer on.Close()
	for _, kind := range []string{"mha", "gqa-4", "gta-4", "mla", "gla-2"} {
		sayTheSame(t, kind, on)
		sayTheSame(t, kind, on, func(c *model.Config, _ *attention.Config) { c.Vocab = 40 }) // divided
	}
}

func sayTheSame(t *testing.T, kind string, on decode.Backend, change ...func(*model.Config, *attention.Config)) {
	t.Helper()
	gates := map[string]string{"gqa-4": attention.HeadGate, "gta-4": attention.ElementGate, "gla-2": attention.HeadGate}
	change = append(change, wide, func(_ *model.Config, a *attention.Config) { a.Heads, a.Gate = 8, gates[kind] })
	m := decodetest.Tiny(t, kind, change...)
	serve := func(on decode.Backend) (all []*decode.Sequence) {
		e, err := decode.Open(m, on, decode.Options{Pages: 12, Rows: 3, Chunk: 24})
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		r := rand.New(rand.NewPCG(5, 6))
		for i := range 4 {
			q := decode.Request{Prompt: decodetest.Tokens(r, 1+r.IntN(40), m.Config.Vocab), MaxTokens: 6}
			if i == 3 {
				q.Sampling = decode.Sampling{Temperature: 0.7, Seed: 4}
			}
			all = append(all, decodetest.Submit(t, e, q))
		}
		decodetest.Finish(t, e)
		return all
	}
	want := serve(host.New())
	for i, s := range serve(on) {
		if !slices.Equal(s.Tokens, want[i].Tokens) {
			t.Errorf("%s on %s: request %d: %v, on the CPU %v", kind, on.Name(), i, s.Output(), want[i].Output())
		}
	}
}
