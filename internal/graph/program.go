package graph

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"gorgonia.org/gorgonia"
)

// An executable is a compiled graph: its instructions, its arena and its inputs on the store's backend.
type executable struct {
	store  *Store
	instrs []*Instr
	arena  Arena
	mem    []Memory
	inputs map[string]Buf
	taped  []Recording

	weights  map[*Node]span // parameters that are gathered
	together bool           // all ranks of the group compile and run it
}

// leaf finds the place of a parameter, or makes that of an input.
func (e *executable) leaf(b *Builder) func(n *Node) (*Buf, error) {
	return func(n *Node) (*Buf, error) {
		kind, name, _ := strings.Cut(strings.TrimPrefix(n.Name(), fmt.Sprintf("%d#", b.salt)), ".")
		if kind == "param" && e.store.Shard == ShardWeights {
			lo, hi, err := e.store.at(name)
			if e.weights == nil {
				e.weights = map[*Node]span{}
			}
			e.weights[n] = span{lo, hi}
			return nil, err
		}
		if kind == "param" {
			buf, err := e.store.view(e.store.compute, name)
			if err == nil && buf.Len != n.Shape().TotalSize() {
				err = fmt.Errorf("graph: parameter %s has %d elements in the store, %v in the graph", name, buf.Len, n.Shape())
			}
			return &buf, err
		}
		size := n.Shape().TotalSize()
		mem, err := e.alloc(size * I32.Size())
		if err != nil {
			return nil, &MemoryError{size * I32.Size(), err}
		}
		buf := Buf{Mem: mem, Len: size, Type: I32}
		e.inputs[name] = buf
		return &buf, nil
	}
}

func (e *executable) alloc(bytes int) (Memory, error) {
	mem, err := e.store.Backend.Alloc(bytes)
	if err == nil {
		e.mem = append(e.mem, mem)
	}
	return mem, err
}

// settle lays the plan out in an arena and binds its instructions.
func (e *executable) settle(p *planner) error {
	if len(e.weights) > 0 {
		weights := map[*value]span{}
		for n, where := range e.weights {
			weights[p.of[n][0]] = where
		}
		p.gather(weights)
	}
	if _, ok := e.store.Backend.(fuser); ok {
		p.fuse()
	}
	e.arena = p.layout()
	mem, err := e.alloc(e.arena.Planned)
	if err != nil {
		return &MemoryError{e.arena.Planned, err}
	}
	e.instrs = p.bind(mem)
	for _, in := range e.instrs {
		if err := in.apart(); err != nil {
			return err
		}
	}
	if n, ok := e.store.Backend.(noiser); ok {
		n.noise(mem)
	}
	return nil
}

// A noiser is a backend whose Compile times algorithms. Products of zeros draw little power, and so rank them otherwise
// than those of a step do: noise fills an arena with numbers near normal until a step writes its own.
type noiser interface{ noise(Memory) }

// compile makes one kernel of instructions. All ranks take the algorithms that rank 0 finds fastest, and before any of
// them runs the kernel, as capturing does: it may wait for the others.
func (e *executable) compile(instrs []*Instr) (Kernel, error) {
	if e.together && e.store.Group.Rank() != 0 {
		if err := e.store.agree(); err != nil {
			return nil, err
		}
	}
	ks := make([]Kernel, len(instrs))
	for i, in := range instrs {
		var err error
		switch a := in.Attr.(type) {
		case Reduce:
			ks[i], a.wait, err = e.store.Group.Reduce(in.In[0].part(a.Lo, a.Hi), a.To)
		case Gather:
			ks[i], a.wait, err = e.store.gather(in.Out[0].Buf, a.Lo, a.Hi)
		case Arrived:
			ks[i] = a.wait
		case Collect:
			var take Kernel
			take, err = e.store.Backend.Compile(
				&Instr{Attr: Copy{N: a.Hi - a.Lo}, In: []Buf{in.In[0].part(a.Lo, a.Hi)}, Out: in.Out})
			ks[i] = inOrder([]Kernel{a.wait, take})
		default:
			ks[i], err = e.store.Backend.Compile(in)
		}
		if err != nil {
			return nil, fmt.Errorf("graph: %v: %w", in, err)
		}
	}
	if e.together && e.store.Group.Rank() == 0 {
		if err := e.store.agree(); err != nil {
			return nil, err
		}
	}
	r, err := e.store.Backend.Capture(ks)
	if err != nil {
		return nil, err
	}
	e.taped = append(e.taped, r)
	return r.Run, nil
}

// listed is a recording on a device that records nothing.
type listed Kernel

func (r listed) Run() error { return r() }
func (listed) Close() error { return nil }

// inOrder is one kernel of several.
func inOrder(ks []Kernel) Kernel {
	return func() error {
		for _, k := range ks {
			if err := k(); err != nil {
				return err
			}
		}
		return nil
	}
}

// Arena is the memory that activations need, with and without planning.
func (e *executable) Arena() Arena { return e.arena }

// SetTokens uploads an input by name.
func (e *executable) SetTokens(name string, tokens []int32) error {
	buf, ok := e.inputs[name]
	if !ok {
		return fmt.Errorf("graph: no input is named %s", name)
	}
	if len(tokens) != buf.Len {
		return fmt.Errorf("graph: input %s takes %d tokens, not %d", name, buf.Len, len(tokens))
	}
	return e.store.Backend.UploadTokens(buf, tokens)
}

// free ends the recordings and then gives back the memory that they work on.
func (e *executable) free() (err error) {
	for _, r := range e.taped {
		err = errors.Join(err, r.Close())
	}
	for _, m := range e.mem {
		e.store.Backend.Free(m)
	}
	e.taped, e.mem = nil, nil
	return err
}

// A Program runs a forward pass over the parameters of a store. It implements gorgonia.VM.
type Program struct {
	executable
	run     Kernel
	outputs []Buf
}

var _ gorgonia.VM = (*Program)(nil)

// Compile builds a pass for B rows of T tokens and compiles it for the backend of the store. The nodes that build
// returns are the program's outputs.
func Compile(store *Store, B, T int, build func(b *Builder) []*Node) (*Program, error) {
	var nodes []*Node
	b, err := Build(B, T, func(b *Builder) error {
		if nodes = build(b); b.err != nil {
			return nil
		}
		return distinct(nodes)
	})
	if err != nil {
		return nil, err
	}
	p := &Program{executable: executable{store: store, inputs: map[string]Buf{}, together: store.Shard == ShardWeights}}
	if err := p.plan(b, nodes); err != nil {
		p.free()
		return nil, err
	}
	return p, nil
}

func (p *Program) plan(b *Builder, nodes []*Node) error {
	pl, err := lower(p.store.Backend.Activation(), nodes, true, p.leaf(b))
	if err != nil {
		return err
	}
	for _, n := range nodes {
		pl.of[n][0].root().kept = true
	}
	if err := p.settle(pl); err != nil {
		return err
	}
	for _, n := range nodes {
		v := pl.of[n][0].root()
		if v.fixed != nil {
			p.outputs = append(p.outputs, *v.fixed)
			continue
		}
		p.outputs = append(p.outputs, Buf{Mem: p.mem[len(p.mem)-1], Off: v.off, Len: v.len, Type: v.dtype})
	}
	p.run, err = p.compile(p.instrs)
	return err
}

// RunAll runs the pass on the inputs set before.
func (p *Program) RunAll() error { return p.run() }

// Reset does nothing: a run starts from its inputs alone.
func (p *Program) Reset() {}

// Close frees the program's recording and memory, not the store's. A program over divided weights is closed before the
// store's group.
func (p *Program) Close() error { return p.free() }

// Output copies output i of the last run to dst, which it grows as needed.
func (p *Program) Output(i int, dst []float32) ([]float32, error) {
	buf := p.outputs[i]
	dst = slices.Grow(dst[:0], buf.Len)[:buf.Len]
	return dst, p.store.Backend.Download(dst, buf)
}
