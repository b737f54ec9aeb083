package graph

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
)

// trained is what a few steps leave.
type trained struct {
	stats  []Stats
	values map[string][]float32
	m, v   map[string][]float32
	memory int
}

// trainRanks trains on rows in order, dealt out in blocks to so many ranks.
func trainRanks(t *testing.T, ranks, B, T, accum, steps int, shard Sharding, recompute bool) []trained {
	out := make([]trained, ranks)
	groups := Loopback(ranks)
	if ranks == 1 {
		groups[0] = nil
	}
	var all sync.WaitGroup
	for rank := range ranks {
		all.Go(func() {
			fail := func(err error) {
				if err != nil {
					panic(fmt.Sprint("rank ", rank, ": ", err))
				}
			}
			backend := NewCPU()
			store, err := NewGroupStore(backend, params(t, B, T, true), groups[rank], shard)
			fail(err)
			fail(store.Init(7))
			tr, err := NewTrainer(store, B, T, accum, func(b *Builder) *Node {
				b.Recompute = recompute
				return small.loss(b, true)
			})
			fail(err)
			r := rand.New(rand.NewPCG(3, 4))
			for step := range steps {
				var batches []Batch
				for range accum {
					for other := range ranks {
						if b := randomBatch(r, B*T); other == rank {
							batches = append(batches, b)
						}
					}
				}
				fail(tr.Stage(batches))
				fail(tr.Begin(Hyper{LR: 1e-2, Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, Decay: 0.1, Clip: 0.5, Step: step + 1},
					rank == 1 && step == 2))
				s, err := tr.End()
				fail(err)
				out[rank].stats = append(out[rank].stats, s)
			}
			fail(store.Assemble())
			out[rank].memory, _ = backend.Used()
			if rank > 0 {
				return
			}
			out[0].values, out[0].m, out[0].v = map[string][]float32{}, map[string][]float32{}, map[string][]float32{}
			for _, p := range store.Params() {
				out[0].values[p.Name], err = store.Value(p.Name)
				fail(err)
				out[0].m[p.Name], out[0].v[p.Name], err = store.Moments(p.Name)
				fail(err)
			}
		})
	}
	all.Wait()
	return out
}

// TestGroup: ranks with a part of the rows each end where one process with all of them does, up to rounding, say the
// same, and hold a part of the moments.
func TestGroup(t *testing.T) {
	const T, rows, steps = 5, 6, 4
	alone := trainRanks(t, 1, rows, T, 1, steps, ShardOptimizer, false)[0]
	for _, c := range []struct {
		ranks, accum int
		shard        Sharding
		bucket       int
		recompute    bool
	}{
		{2, 1, ShardOptimizer, 32 << 20, false}, {2, 1, ShardOptimizer, 1, false}, {3, 1, ShardOptimizer, 1 << 10, true},
		{1, 3, ShardOptimizer, 1, false},
		{3, 2, ShardOptimizer, 1 << 10, false}, {2, 3, ShardOptimizer, 1, false},
		{2, 1, ShardWeights, 0, false}, {3, 2, ShardWeights, 0, false}, {2, 3, ShardWeights, 0, true},
		{3, 1, ShardWeights, 0, true},
	} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			defer func(before int) { bucketBytes = before }(bucketBytes)
			bucketBytes = c.bucket
			run := func() []trained {
				return trainRanks(t, c.ranks, rows/c.ranks/c.accum, T, c.accum, steps, c.shard, c.recompute)
			}
			got, again := run(), run()
			for rank := range got {
				if !slices.Equal(got[rank].stats, got[0].stats) || !slices.Equal(got[rank].stats, again[rank].stats) {
					t.Errorf("rank %d: %v, rank 0 %v, again %v", rank, got[rank].stats, got[0].stats, again[rank].stats)
				}
			}
			for i, s := range got[0].stats {
				if d := math.Abs(s.Loss - alone.stats[i].Loss); !(d < 1e-5) {
					t.Errorf("step %d: loss %v, alone %v", i, s.Loss, alone.stats[i].Loss)
				}
				if d := math.Abs(s.GradNorm/alone.stats[i].GradNorm - 1); !(d < 1e-4) {
					t.Errorf("step %d: norm %v, alone %v", i, s.GradNorm, alone.stats[i].GradNorm)
				}
				if s.Stop != (i == 2 && c.ranks > 1) {
					t.Errorf("step %d: stop %v", i, s.Stop)
				}
			}
			for name := range alone.values {
				if d := relative(got[0].values[name], alone.values[name]); !(d < 1e-2) { // AdamW divides small by small
					t.Errorf("%s is off by %.2g", name, d)
				}
				for _, x := range [][2]map[string][]float32{{got[0].m, alone.m}, {got[0].v, alone.v}} {
					if d := relative(x[0][name], x[1][name]); !(d < 2e-3) {
						t.Errorf("%s: a moment is off by %.2g", name, d)
					}
				}
				if !slices.Equal(got[0].values[name], again[0].values[name]) {
					t.Errorf("%s: two runs differ", name)
				}
			}
		})
	}
}

// TestShardedMemory: ranks that divide the weights hold less of everything flat, and arenas that hold a few of them.
func TestShardedMemory(t *testing.T) {
	held := func(shard Sharding) int { return trainRanks(t, 3, 1, 5, 1, 1, shard, false)[1].memory }
	if whole, divided := held(ShardOptimizer), held(ShardWeights); divided >= whole {
		t.Errorf("%d bytes with divided weights, %d with whole ones", divided, whole)
	}
}

// TestShardedProgram: a forward pass over divided weights says what it says over whole ones, as often as it runs.
func TestShardedProgram(t *testing.T) {
	const B, T, ranks = 2, 5, 3
	tokens := randomBatch(rand.New(rand.NewPCG(1, 1)), B*T)
	pairs := make(chan int, ranks+1)
	run := func(group Group, shard Sharding) ([]float32, error) {
		store, err := NewGroupStore(NewCPU(), params(t, B, T, true), group, shard)
		if err != nil {
			return nil, err
		}
		if err := store.Init(7); err != nil {
			return nil, err
		}
		p, err := Compile(store, B, T, func(b *Builder) []*Node { return []*Node{small.loss(b, true)} })
		if err != nil {
			return nil, err
		}
		n := 0
		for _, in := range p.instrs {
			if _, ok := in.Attr.(AddRMSNorm); ok {
				n++
			}
		}
		pairs <- n
		for name, x := range tokens {
			if err := p.SetTokens(name, x); err != nil {
				return nil, err
			}
		}
		for range 2 {
			if err := p.RunAll(); err != nil {
				return nil, err
			}
		}
		return p.Output(0, nil)
	}
	want, err := run(nil, ShardOptimizer)
	if err != nil {
		t.Fatal(err)
	}
	fused := <-pairs
	var all sync.WaitGroup
	for rank, group := range Loopback(ranks) {
		all.Go(func() {
			got, err := run(group, ShardWeights)
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("rank %d: %v, %v; alone %v", rank, got, err, want)
				return
			}
			if n := <-pairs; n != fused {
				t.Errorf("rank %d: %d sums fused with their norms, alone %d", rank, n, fused)
			}
		})
	}
	all.Wait()
}

func TestShare(t *testing.T) {
	for _, text := range []string{"", "a", "abcd", "seven ünits"} {
		groups := Loopback(3)
		var all sync.WaitGroup
		for rank, g := range groups {
			all.Go(func() {
				s := &Store{Backend: NewCPU(), Group: g}
				if got, err := s.Share([]byte(text + fmt.Sprint(rank))); err != nil || string(got) != text+"0" {
					t.Errorf("rank %d got %q, %v", rank, got, err)
				}
			})
		}
		all.Wait()
	}
}
