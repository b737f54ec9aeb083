package graph

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
)

// A taping backend counts the recordings that are open.
type taping struct {
	*CPU
	open atomic.Int64
}

func (b *taping) Capture(ks []Kernel) (Recording, error) {
	r, err := b.CPU.Capture(ks)
	b.open.Add(1)
	return tape{r, b}, err
}

type tape struct {
	Recording
	of *taping
}

func (t tape) Close() error {
	t.of.open.Add(-1)
	return t.Recording.Close()
}

// A strict group refuses to end where NCCL would wait for ever: while a recording is open.
type strict struct {
	Group
	backend *taping
}

func (g strict) Close() error {
	if n := g.backend.open.Load(); n > 0 {
		return fmt.Errorf("%d recordings are open", n)
	}
	return g.Group.Close()
}

// TestGroupEndsAfterItsRecordings trains and evaluates on two ranks, and then ends in the stated order: trainer and
// program, group, store.
func TestGroupEndsAfterItsRecordings(t *testing.T) {
	const B, T = 2, 5
	for _, shard := range []Sharding{ShardOptimizer, ShardWeights} {
		var all sync.WaitGroup
		for rank, group := range Loopback(2) {
			all.Go(func() {
				if err := trainStrictly(t, B, T, group, shard); err != nil {
					t.Errorf("sharding %v, rank %d: %v", shard, rank, err)
				}
			})
		}
		all.Wait()
	}
}

func trainStrictly(t *testing.T, B, T int, group Group, shard Sharding) error {
	b := &taping{CPU: NewCPU()}
	g := strict{group, b}
	store, err := NewGroupStore(b, params(t, B, T, true), g, shard)
	if err != nil {
		return err
	}
	if err := store.Init(7); err != nil {
		return err
	}
	build := func(b *Builder) *Node { return small.loss(b, true) }
	tr, err := NewTrainer(store, B, T, 2, build)
	if err != nil {
		return err
	}
	p, err := Compile(store, B, T, func(b *Builder) []*Node { return []*Node{build(b)} })
	if err != nil {
		return err
	}
	batch := randomBatch(rand.New(rand.NewPCG(3, 4)), B*T)
	if err := tr.Stage([]Batch{batch, batch}); err != nil {
		return err
	}
	if err := tr.Begin(Hyper{LR: 1e-2, Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, Step: 1}, false); err != nil {
		return err
	}
	if _, err := tr.End(); err != nil {
		return err
	}
	if g.Close() == nil {
		return fmt.Errorf("the group ended with %d recordings open", b.open.Load())
	}
	if err := tr.Close(); err != nil {
		return err
	}
	if err := p.Close(); err != nil {
		return err
	}
	return g.Close()
}
