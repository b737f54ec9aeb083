package graph

import (
	"math/rand/v2"
	"slices"
	"testing"

	"headroom/kernels/ref"
)

// pairing is the CPU as a device that fuses sums with their norms and takes the rows last to first, as a GPU may: a
// row's results are written before the operands of the rows before it are read.
type pairing struct{ *CPU }

func (pairing) fuses() {}

func (p pairing) Compile(in *Instr) (Kernel, error) {
	a, ok := in.Attr.(AddRMSNorm)
	if !ok {
		return p.CPU.Compile(in)
	}
	x, add, w := floats(in.In[0]), floats(in.In[1]), floats(in.In[2])
	sum, y, rstd := floats(in.Out[0].Buf), floats(in.Out[1].Buf), floats(in.Aux[0].Buf)
	return func() error {
		for r := a.Rows - 1; r >= 0; r-- {
			lo, hi := r*a.C, (r+1)*a.C
			row := make([]float32, a.C)
			for i := range row {
				row[i] = x[lo+i] + add[lo+i]
			}
			copy(sum[lo:hi], row)
			(&ref.RMSNorm{X: row, W: w, Y: y[lo:hi], Rstd: rstd[r : r+1], Rows: 1, Groups: 1, C: a.C, Eps: float32(a.Eps)}).Run()
		}
		return nil
	}, nil
}

// TestFusedPairs: passes and training steps in which sums and norms are one kernel compute what the two apart do, to
// the last bit. What such a kernel reads must live until all that it writes is written: with lives counted before the
// pairs were joined, the statistics of a norm lay in the operand of its sum wherever a model had latents.
func TestFusedPairs(t *testing.T) {
	for _, size := range [][2]int{{1, 1}, {2, 5}, {3, 64}, {8, 33}} {
		B, T := size[0], size[1]
		tokens := randomBatch(rand.New(rand.NewPCG(1, 1)), B*T)
		var want [2][]float32
		for i, backend := range []Backend{NewCPU(), pairing{NewCPU()}} {
			store, err := NewStore(backend, params(t, B, T, true))
			if err != nil {
				t.Fatal(err)
			}
			if err := store.Init(7); err != nil {
				t.Fatal(err)
			}
			p, err := Compile(store, B, T, func(b *Builder) []*Node { return []*Node{small.loss(b, true)} })
			if err != nil {
				t.Fatal(err)
			}
			fused := 0
			for _, in := range p.instrs {
				if _, ok := in.Attr.(AddRMSNorm); ok {
					fused++
				}
			}
			if want := 6 * i; fused != want { // two in each of three layers
				t.Errorf("%d pairs are fused on device %d, not %d", fused, i, want)
			}
			for name, x := range tokens {
				if err := p.SetTokens(name, x); err != nil {
					t.Fatal(err)
				}
			}
			if err := p.RunAll(); err != nil {
				t.Fatal(err)
			}
			loss, err := p.Output(0, nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, recompute := range []bool{false, true} {
				tr, err := NewTrainer(store, B, T, 2, func(b *Builder) *Node {
					b.Recompute = recompute
					return small.loss(b, true)
				})
				if err != nil {
					t.Fatal(err)
				}
				for step := range 2 {
					h := Hyper{LR: 1e-2, Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, Clip: 1, Step: step + 1}
					stats, err := tr.Step([]Batch{tokens, tokens}, h)
					if err != nil {
						t.Fatal(err)
					}
					loss = append(loss, float32(stats.Loss), float32(stats.GradNorm))
				}
			}
			want[i] = loss
		}
		if !slices.Equal(want[0], want[1]) {
			t.Errorf("%d rows of %d tokens: %v, and fused %v", B, T, want[0], want[1])
		}
	}
}

// TestApart: an instruction that writes over what it reads, or one output over another, is found, and one that works in
// place is let be.
func TestApart(t *testing.T) {
	mem := &hostMemory{make([]byte, 1024)}
	at := func(off, n int) Buf { return Buf{Mem: mem, Off: off, Len: n} }
	norm := func(sum, y, rstd int) *Instr {
		return &Instr{Attr: AddRMSNorm{}, In: []Buf{at(0, 32), at(256, 32), at(512, 8)},
			Out: []Out{{Buf: at(sum, 32)}, {Buf: at(y, 32)}}, Aux: []Out{{Buf: at(rstd, 4)}}}
	}
	for _, c := range []struct {
		in *Instr
		ok bool
	}{
		{norm(0, 640, 600), true}, {norm(256, 640, 600), true}, {norm(128, 640, 600), true}, {norm(4, 640, 600), false},
		{norm(0, 256, 600), false},
		{norm(0, 640, 256), false}, {norm(0, 640, 380), false}, {norm(0, 640, 384), true}, {norm(640, 640, 600), false},
		{norm(0, 640, 764), false},
		{&Instr{Attr: Rope{}, In: []Buf{at(0, 32)}, Out: []Out{{Buf: at(0, 32)}}}, true},
		{&Instr{Attr: RMSNorm{}, In: []Buf{at(0, 32)}, Out: []Out{{Buf: at(0, 32)}}}, false},
	} {
		if err := c.in.apart(); (err == nil) != c.ok {
			t.Errorf("%+v: %v", c.in, err)
		}
	}
}
