package graph

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"gorgonia.org/gorgonia"
)

// Stats is what a training step leaves behind.
type Stats struct {
	Loss     float64 // mean over the micro-batches, of all ranks
	GradNorm float64 // global, before clipping
	Stop     bool    // a rank asked that this step be the last
}

// A Trainer is one optimizer step as a unit: forward and backward over its micro-batches, clipping by the global norm
// and AdamW. Nothing in it waits for the device until End reads the loss.
type Trainer struct {
	executable
	accum     int
	first     Kernel // forward and backward of the first micro-batch, over the old gradients
	others    Kernel // of those between, added to them
	final     Kernel // of the last one, with the sum over the ranks; the first, where there is but one
	optimizer Optimizer
	feed      Feed
	names     []string  // of the inputs, in the order of the feed
	next      []int32   // the tokens of a step: micro-batch by micro-batch, input by input
	loss      Buf       // this rank's
	report    Buf       // [ranks, 2]: loss, and 1 where a rank wants to stop
	read      []float32 // where the report is copied to
}

// A Batch holds the inputs of one micro-batch by name.
type Batch map[string][]int32

// warmUp makes gorgonia hash its package-global constants once, before graphs are built in parallel.
var warmUp = func() error {
	b := NewBuilder(1, 1)
	x := b.Param(Param{Name: "x", Shape: []int{1, 1, 1}})
	_, err := gorgonia.Grad(b.Loss(x, b.Param(Param{Name: "w", Shape: []int{2, 1}}), b.Tokens("t"), 0), x)
	return err
}()

// NewTrainer builds a loss for B rows of T tokens, differentiates it and compiles both for the backend of the store.
// A step sums the gradients of accum micro-batches.
func NewTrainer(store *Store, B, T, accum int, build func(b *Builder) *Node) (*Trainer, error) {
	if warmUp != nil {
		return nil, warmUp
	}
	if err := store.train(); err != nil {
		return nil, err
	}
	var loss *Node
	var names []string
	var grads gorgonia.Nodes
	b, err := Build(B, T, func(b *Builder) (err error) {
		if loss = build(b); b.err != nil {
			return nil
		}
		if names, grads, err = gradients(b, loss); err != nil {
			return err
		}
		return distinct(append([]*Node{loss}, grads...))
	})
	if err != nil {
		return nil, err
	}
	t := &Trainer{executable: executable{store: store, inputs: map[string]Buf{}, together: store.Group != nil},
		accum: accum}
	if err := t.plan(b, loss, names, grads); err != nil {
		t.free()
		return nil, err
	}
	return t, nil
}

// gradients differentiates loss by every parameter of the pass.
func gradients(b *Builder, loss *Node) (names []string, grads gorgonia.Nodes, err error) {
	for name := range b.params {
		names = append(names, name)
	}
	slices.Sort(names)
	wrt := make(gorgonia.Nodes, len(names))
	for i, name := range names {
		wrt[i] = b.params[name]
	}
	grads, err = gorgonia.Grad(loss, wrt...)
	if err != nil && !errors.Is(err, errCollision) {
		err = fmt.Errorf("graph: gradient: %w", err)
	}
	return names, grads, err
}

func (t *Trainer) plan(b *Builder, loss *Node, names []string, grads gorgonia.Nodes) error {
	pl, err := lower(t.store.Backend.Activation(), append([]*Node{loss}, grads...), false, t.leaf(b))
	if err != nil {
		return err
	}
	if b.Recompute {
		pl.recompute(b.boundaries, loss.ID())
	}
	ranks, rank := 1, 0
	if g := t.store.Group; g != nil {
		ranks, rank = g.Size(), g.Rank()
	}
	t.read = make([]float32, 2*ranks)
	mem, err := t.alloc(len(t.read) * F32.Size())
	if err != nil {
		return err
	}
	t.report = Buf{Mem: mem, Len: len(t.read), Type: F32}
	t.loss = t.report.part(2*rank, 2*rank+1)
	pl.result(pl.of[loss][0], t.loss, false)
	readers := map[*value]int{}
	for _, g := range grads {
		readers[pl.of[g][0].root()]++
	}
	var sharded []gradient
	for i, name := range names {
		lo, hi, err := t.store.at(name)
		if err != nil {
			return err
		}
		v := pl.of[grads[i]][0]
		direct := readers[v.root()] == 1
		if t.store.Shard == ShardWeights {
			sharded = append(sharded, gradient{pl.float(v, direct), span{lo, hi}})
			continue
		}
		pl.result(v, t.store.grads.part(lo, hi), direct)
	}
	if len(sharded) > 0 {
		pl.reduce(t.store, sharded)
	}
	if err := t.settle(pl); err != nil {
		return err
	}
	return t.compileStep()
}

// result brings a value to a place outside the arena: by having its kernels write there, where direct says that it may
// and they can, or else by a copy at the end.
func (p *planner) result(v *value, to Buf, direct bool) {
	v = v.root()
	if direct && v.writable() {
		v.fixed, v.dtype = &to, to.Type
		return
	}
	v.kept = true
	p.copy(v, &value{len: to.Len, dtype: to.Type, fixed: &to})
}

// float makes a gradient float32 in the arena, as result does outside.
func (p *planner) float(v *value, direct bool) *value {
	v = v.root()
	if direct && v.writable() {
		v.dtype = F32
		return v
	}
	return p.copy(v, p.newValue(v.len, F32))
}

// writable says whether the kernels that make a value could make it in any place and as float32.
func (v *value) writable() bool {
	return v.fixed == nil && v.first != nil && len(v.uses) == 0 && !v.kept &&
		accumulates(v.first.attr, slices.Index(v.first.out, v))
}

// copy ends the program with a copy of v.
func (p *planner) copy(v, to *value) *value {
	s := &step{attr: Copy{N: to.len}, in: []*value{v}, out: []*value{to}, outputs: 1, accumulate: make([]bool, 1)}
	to.written(s, 0)
	p.steps = append(p.steps, s)
	return to
}

// compileStep compiles the first micro-batch and the others, which add to every gradient and to the loss.
func (t *Trainer) compileStep() (err error) {
	s := t.store
	last := t.instrs
	if t.accum > 1 {
		if t.first, err = t.compile(t.instrs); err != nil {
			return err
		}
		last = t.accumulating()
		if t.accum > 2 && s.Group != nil {
			if t.others, err = t.compile(last); err != nil {
				return err
			}
		}
	}
	if t.final, err = t.compile(t.reductions(last)); err != nil {
		return err
	}
	if s.Group == nil {
		t.others = t.final
	}
	t.optimizer, err = s.Backend.Optimizer(OptimizerBufs{
		Values: s.mine(s.values), Compute: s.mine(s.compute), Grads: s.mine(s.grads), M: s.m.Buf, V: s.v.Buf,
		Decayed: min(max(s.decayed-s.lo, 0), s.hi-s.lo), Accum: t.accum, Group: s.Group,
	})
	if err != nil {
		return err
	}
	size := 0
	for _, buf := range t.inputs {
		size += buf.Len
	}
	t.names, t.next = slices.Sorted(maps.Keys(t.inputs)), make([]int32, t.accum*size)
	t.feed, err = s.Backend.Feed(len(t.next))
	return err
}

// accumulating is the program with every result added to what is there.
func (t *Trainer) accumulating() []*Instr {
	add := func(outs []Out) []Out {
		outs = slices.Clone(outs)
		for i, o := range outs {
			if o.Mem == t.store.grads.Mem || o.Mem == t.loss.Mem {
				outs[i].Accumulate = true
			}
		}
		return outs
	}
	instrs := make([]*Instr, len(t.instrs))
	for i, in := range t.instrs {
		instrs[i] = &Instr{Attr: in.Attr, In: in.In, Out: add(in.Out), Aux: add(in.Aux)}
	}
	return instrs
}

// Step trains on the micro-batches, as many as the trainer was made for.
func (t *Trainer) Step(batches []Batch, h Hyper) (Stats, error) {
	if err := t.Stage(batches); err != nil {
		return Stats{}, err
	}
	if err := t.Begin(h, false); err != nil {
		return Stats{}, err
	}
	return t.End()
}

// Stage brings the micro-batches of the next step to the device, beside a step that has begun. They may change when it
// returns.
func (t *Trainer) Stage(batches []Batch) error {
	if len(batches) != t.accum {
		return fmt.Errorf("graph: a step takes %d micro-batches, not %d", t.accum, len(batches))
	}
	next := t.next
	for _, batch := range batches {
		for name := range batch {
			if _, ok := t.inputs[name]; !ok {
				return fmt.Errorf("graph: no input is named %s", name)
			}
		}
		for _, name := range t.names {
			n := t.inputs[name].Len
			if len(batch[name]) != n {
				return fmt.Errorf("graph: input %s takes %d tokens, not %d", name, n, len(batch[name]))
			}
			copy(next, batch[name])
			next = next[n:]
		}
	}
	return t.feed.Put(t.next)
}

// Begin starts a step on what was staged; stop tells the other ranks that this one wants to end after it. On a GPU it
// returns before the step is done.
func (t *Trainer) Begin(h Hyper, stop bool) error {
	g, s := t.store.Group, t.store
	if g != nil {
		s.whole = nil
		mine := t.report.part(2*g.Rank(), 2*g.Rank()+2)
		if err := s.Backend.Upload(mine, []float32{0, float32(bit(stop))}); err != nil {
			return err
		}
	}
	if err := t.optimizer.Set(h); err != nil {
		return err
	}
	if err := t.forwardBackward(); err != nil {
		return err
	}
	if err := t.optimizer.Run(); err != nil || g == nil {
		return err
	}
	if s.Shard == ShardOptimizer {
		if err := g.Gather(s.compute.Buf); err != nil {
			return err
		}
	}
	return g.Gather(t.report)
}

// End waits for the step.
func (t *Trainer) End() (stats Stats, err error) {
	if stats.Loss, err = t.Loss(); err != nil {
		return stats, err
	}
	for i := range len(t.read) / 2 {
		stats.Stop = stats.Stop || t.read[2*i+1] != 0
	}
	stats.GradNorm, err = t.optimizer.Norm()
	return stats, err
}

// Gradients runs forward and backward only; the gradients are sums over the micro-batches and the ranks.
func (t *Trainer) Gradients(batches []Batch) error {
	if err := t.Stage(batches); err != nil {
		return err
	}
	if err := t.forwardBackward(); err != nil {
		return err
	}
	return t.store.Backend.Sync()
}

func (t *Trainer) forwardBackward() error {
	at := 0
	for i := range t.accum {
		for _, name := range t.names {
			if err := t.feed.Take(t.inputs[name], at); err != nil {
				return err
			}
			at += t.inputs[name].Len
		}
		run := t.others
		switch i {
		case t.accum - 1:
			run = t.final
		case 0:
			run = t.first
		}
		if err := run(); err != nil {
			return err
		}
	}
	return nil
}

// Loss is the mean loss of the last step's micro-batches.
func (t *Trainer) Loss() (float64, error) {
	err := t.store.Backend.Download(t.read, t.report)
	sum, ranks := 0.0, len(t.read)/2
	for i := range ranks {
		sum += float64(t.read[2*i])
	}
	return sum / float64(t.accum*ranks), err
}

// Profile times every kernel of a step on its own, each several times in a row, and sums the times by kind of op. Their
// sum is larger than a step where kernels would have overlapped or been launched as one graph. It changes gradients,
// not weights.
func (t *Trainer) Profile() (map[string]time.Duration, error) {
	backend := t.store.Backend
	times := map[string]time.Duration{}
	for _, in := range t.instrs {
		k, err := backend.Compile(in)
		if err != nil {
			return nil, err
		}
		const runs = 3
		var began time.Time
		for i := range runs + 1 {
			if i == 1 { // the first is a warm-up
				if err := backend.Sync(); err != nil {
					return nil, err
				}
				began = time.Now()
			}
			if err := k(); err != nil {
				return nil, err
			}
		}
		if err := backend.Sync(); err != nil {
			return nil, err
		}
		times[in.Attr.Kind()] += time.Since(began) / runs
	}
	return times, nil
}

// Close frees the trainer's recordings and memory, not the store's. It comes before the end of the store's group.
func (t *Trainer) Close() error { return errors.Join(t.feed.Close(), t.free()) }
