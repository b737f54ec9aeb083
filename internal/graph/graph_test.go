package graph

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// tiny is a decoder with every op in it: one grouped layer, gated by head, one tied in a window, gated by element from
// a few columns, and one latent with two latent heads, each of which every head reads apart.
type tiny struct{ V, C, F, H, D int }

var small = tiny{V: 11, C: 8, F: 12, H: 4, D: 4}

func (m tiny) param(b *Builder, name string, shape ...int) *Node {
	p := Param{Name: name, Shape: shape, Init: Init{Std: 0.3}, Decay: len(shape) > 1}
	if strings.Contains(name, "norm") {
		p.Init = Init{Mean: 1, Std: 0.1}
		p.Decay = false
	}
	return b.Param(p)
}

// loss builds the model; tie uses the embedding as the head.
func (m tiny) loss(b *Builder, tie bool) *Node {
	embed := m.param(b, "embed", m.V, m.C)
	x := b.Embed(embed, b.Tokens("tokens"))
	for i, attend := range []func(*Builder, string, *Node) *Node{m.grouped, m.tied, m.latent} {
		name := fmt.Sprintf("blocks.%d.", i)
		x = b.Boundary(x)
		y := attend(b, name, b.RMSNorm(x, m.param(b, name+"norm1", m.C), 1e-5))
		x = b.Add(x, b.Linear(y, m.param(b, name+"Wo", m.H*m.D, m.C), nil))
		h := b.RMSNorm(x, m.param(b, name+"norm2", m.C), 1e-5)
		gate := b.Linear(h, m.param(b, name+"Wgate", m.C, m.F), nil)
		up := b.Linear(h, m.param(b, name+"Wup", m.C, m.F), nil)
		x = b.Add(x, b.Linear(b.SwiGLU(gate, up), m.param(b, name+"Wdown", m.F, m.C), nil))
	}
	x = b.Boundary(x)
	head := embed
	if !tie {
		head = m.param(b, "head", m.V, m.C)
	}
	return b.Loss(b.RMSNorm(x, m.param(b, "norm", m.C), 1e-5), head, b.Tokens("targets"), 1e-3)
}

func (m tiny) grouped(b *Builder, name string, x *Node) *Node {
	G := 2
	q := b.Reshape(b.Linear(x, m.param(b, name+"Wq", m.C, m.H*m.D), nil), b.B, b.T, m.H, m.D)
	k := b.Reshape(b.Linear(x, m.param(b, name+"Wk", m.C, G*m.D), nil), b.B, b.T, G, m.D)
	v := b.Reshape(b.Linear(x, m.param(b, name+"Wv", m.C, G*m.D), nil), b.B, b.T, G, m.D)
	o := b.Attend(b.Rope(q, m.D, Rotary{Theta: 100}), b.Rope(k, m.D, Rotary{Theta: 100}), v, Mask{}, 0.5)
	return b.Gate(b.Reshape(o, b.B, b.T, -1), b.Linear(x, m.param(b, name+"Wg", m.C, m.H), nil))
}

func (m tiny) tied(b *Builder, name string, x *Node) *Node {
	G, R := 2, m.D/2
	q := b.Reshape(b.Linear(x, m.param(b, name+"Wq", m.C, m.H*m.D), nil), b.B, b.T, m.H, m.D)
	kv := b.Reshape(b.Linear(x, m.param(b, name+"Wkv", m.C, G*m.D), nil), b.B, b.T, G, m.D)
	kr := b.Reshape(b.Linear(x, m.param(b, name+"Wkr", m.C, R), m.param(b, name+"bkr", R)), b.B, b.T, 1, R)
	q, kr = b.Rope(q, R, Rotary{Theta: 100}), b.Rope(kr, R, Rotary{Theta: 100})
	o := b.AttendShared(q, kv, kr, m.D-R, 0, m.D, Mask{Window: 3}, 0.5)
	return b.Gate(b.Reshape(o, b.B, b.T, -1), b.Linear(b.Columns(x, 3), m.param(b, name+"Wg", 3, m.H*m.D), nil))
}

func (m tiny) latent(b *Builder, name string, x *Node) *Node {
	n, L, R := 2, 6, 2
	q := b.Reshape(b.Linear(x, m.param(b, name+"Wq", m.C, m.H*(m.D+R)), nil), b.B, b.T, m.H, m.D+R)
	c := b.Reshape(b.Linear(x, m.param(b, name+"Wdkv", m.C, n*L), nil), b.B, b.T, n, L)
	c = b.RMSNorm(c, m.param(b, name+"normkv", n, L), 1e-5)
	c = b.Scale(c, 1.3)
	kv := b.Linear(c, m.param(b, name+"Wukv", n, L, m.H*2*m.D), m.param(b, name+"bukv", n, m.H*2*m.D))
	kv = b.Reshape(kv, b.B, b.T, n*m.H, 2*m.D)
	kr := b.Reshape(b.Linear(x, m.param(b, name+"Wkr", m.C, R), nil), b.B, b.T, 1, R)
	q, kr = b.Rope(q, R, Rotary{Theta: 100}), b.Rope(kr, R, Rotary{Theta: 100})
	o := b.AttendShared(b.Repeat(q, 1, n), kv, kr, m.D, m.D, m.D, Mask{}, 0.4)
	return b.Reshape(b.Fold(o, 1, n, 0.7), b.B, b.T, -1)
}

// params collects what a pass declares.
func params(t testing.TB, B, T int, tie bool) []Param {
	t.Helper()
	b := NewBuilder(B, T)
	small.loss(b, tie)
	if b.Err() != nil {
		t.Fatal(b.Err())
	}
	var ps []Param
	for name, n := range b.params {
		p := Param{Name: name, Shape: n.Shape().Clone(), Init: Init{Std: 0.3}, Decay: n.Shape().Dims() > 1}
		if strings.Contains(name, "norm") {
			p.Init.Mean = 1
		}
		ps = append(ps, p)
	}
	slices.SortFunc(ps, func(a, b Param) int { return strings.Compare(a.Name, b.Name) })
	return ps
}

func newStore(t testing.TB, B, T int, tie bool) *Store {
	t.Helper()
	s, err := NewStore(NewCPU(), params(t, B, T, tie))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Init(7); err != nil {
		t.Fatal(err)
	}
	return s
}

func randomBatch(r *rand.Rand, n int) Batch {
	b := Batch{"tokens": make([]int32, n), "targets": make([]int32, n)}
	for i := range n {
		b["tokens"][i], b["targets"][i] = r.Int32N(int32(small.V)), r.Int32N(int32(small.V))
	}
	return b
}

// TestExecutorEqualsTape holds the executor, with its shared buffers, sums in place and aliases, against gorgonia's
// tape machine, which gives every node a buffer of its own and copies every view.
func TestExecutorEqualsTape(t *testing.T) {
	for _, c := range []struct{ tie, documents bool }{{false, false}, {true, false}, {true, true}} {
		t.Run(fmt.Sprintf("%+v", c), func(t *testing.T) {
			const B, T = 2, 5
			tie := c.tie
			store := newStore(t, B, T, tie)
			batch := randomBatch(rand.New(rand.NewPCG(1, 2)), B*T)
			if c.documents {
				batch[Documents] = []int32{0, 0, 2, 2, 2, 0, 1, 2, 2, 2}
			}
			tr, err := NewTrainer(store, B, T, 1, func(b *Builder) *Node {
				b.Documents = c.documents
				return small.loss(b, tie)
			})
			if err != nil {
				t.Fatal(err)
			}
			if err := tr.Gradients([]Batch{batch}); err != nil {
				t.Fatal(err)
			}
			loss, err := tr.Loss()
			if err != nil {
				t.Fatal(err)
			}
			wantLoss, want := tapeGradients(t, store, batch, B, T, tie)
			if math.Abs(loss-wantLoss) > 1e-6*wantLoss {
				t.Errorf("loss %v, the tape machine's %v", loss, wantLoss)
			}
			for _, p := range store.Params() {
				got, err := store.Grad(p.Name)
				if err != nil {
					t.Fatal(err)
				}
				if d := relative(got, want[p.Name]); !(d < 1e-5) {
					t.Errorf("%s: gradient differs from the tape machine's by %.2g", p.Name, d)
				}
			}
		})
	}
}

func tapeGradients(t *testing.T, store *Store, batch Batch, B, T int, tie bool) (float64, map[string][]float32) {
	t.Helper()
	b := NewBuilder(B, T)
	b.Documents = batch[Documents] != nil
	loss := small.loss(b, tie)
	names, grads, err := gradients(b, loss)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		x, err := store.Value(name)
		if err != nil {
			t.Fatal(err)
		}
		n := b.params[name]
		if err := gorgonia.Let(n, tensor.New(tensor.WithShape(n.Shape()...), tensor.WithBacking(x))); err != nil {
			t.Fatal(err)
		}
	}
	for name, n := range b.inputs {
		if err := gorgonia.Let(n, tensor.New(tensor.WithShape(B, T), tensor.WithBacking(batch[name]))); err != nil {
			t.Fatal(err)
		}
	}
	vm := gorgonia.NewTapeMachine(b.g)
	defer vm.Close()
	// Reading through Read keeps the value: what a node holds after a tape run may be another's.
	reads := make([]gorgonia.Value, len(grads)+1)
	gorgonia.Read(loss, &reads[0])
	for i, g := range grads {
		gorgonia.Read(g, &reads[i+1])
	}
	vm = gorgonia.NewTapeMachine(b.g)
	if err := vm.RunAll(); err != nil {
		t.Fatal(err)
	}
	out := map[string][]float32{}
	for i, name := range names {
		out[name] = reads[i+1].Data().([]float32)
	}
	return float64(reads[0].Data().(float32)), out
}

// relative is ‖a-b‖ / ‖b‖.
func relative(a, b []float32) float64 {
	var d, n float64
	for i := range b {
		d += float64(a[i]-b[i]) * float64(a[i]-b[i])
		n += float64(b[i]) * float64(b[i])
	}
	return math.Sqrt(d / n)
}

// TestGradientOfEachParameter holds the gradients against central differences of the loss.
func TestGradientOfEachParameter(t *testing.T) {
	const B, T, h = 2, 6, 1e-2
	store := newStore(t, B, T, true)
	batch := randomBatch(rand.New(rand.NewPCG(3, 4)), B*T)
	batch["targets"][3] = -1
	tr, err := NewTrainer(store, B, T, 1, func(b *Builder) *Node { return small.loss(b, true) })
	if err != nil {
		t.Fatal(err)
	}
	lossAt := func(name string, x []float32) float64 {
		if err := store.Set(name, x); err != nil {
			t.Fatal(err)
		}
		if err := tr.Gradients([]Batch{batch}); err != nil {
			t.Fatal(err)
		}
		l, err := tr.Loss()
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	r := rand.New(rand.NewPCG(5, 6))
	for _, p := range store.Params() {
		x, _ := store.Value(p.Name)
		lossAt(p.Name, x)
		g, err := store.Grad(p.Name)
		if err != nil {
			t.Fatal(err)
		}
		// Along the gradient plus noise the difference is large against the rounding of a float32 loss.
		dir, along := make([]float32, len(x)), 0.0
		norm := 0.0
		for i := range dir {
			norm += float64(g[i]) * float64(g[i])
		}
		norm = math.Sqrt(norm)
		for i := range dir {
			dir[i] = g[i]/float32(norm) + float32(0.5*r.NormFloat64())/float32(math.Sqrt(float64(len(x))))
			along += float64(dir[i]) * float64(g[i])
		}
		up, down := slices.Clone(x), slices.Clone(x)
		for i := range x {
			up[i] += h * dir[i]
			down[i] -= h * dir[i]
		}
		numeric := (lossAt(p.Name, up) - lossAt(p.Name, down)) / (2 * h)
		lossAt(p.Name, x)
		if math.Abs(numeric-along) > 0.01*math.Abs(along)+2e-5 {
			t.Errorf("%s: derivative along a direction is %.6g, by differences %.6g", p.Name, along, numeric)
		}
	}
}

// TestAccumulation: two micro-batches give the sum of their gradients and the mean of their losses.
func TestAccumulation(t *testing.T) {
	const B, T = 2, 5
	r := rand.New(rand.NewPCG(7, 8))
	batches := []Batch{randomBatch(r, B*T), randomBatch(r, B*T), randomBatch(r, B*T)}
	store := newStore(t, B, T, true)
	build := func(b *Builder) *Node { return small.loss(b, true) }
	one, err := NewTrainer(store, B, T, 1, build)
	if err != nil {
		t.Fatal(err)
	}
	sum := map[string][]float32{}
	mean := 0.0
	for _, batch := range batches {
		if err := one.Gradients([]Batch{batch}); err != nil {
			t.Fatal(err)
		}
		l, _ := one.Loss()
		mean += l / 3
		for _, p := range store.Params() {
			g, _ := store.Grad(p.Name)
			if sum[p.Name] == nil {
				sum[p.Name] = make([]float32, len(g))
			}
			for i := range g {
				sum[p.Name][i] += g[i]
			}
		}
	}
	three, err := NewTrainer(store, B, T, 3, build)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // a second step starts from zero again
		if err := three.Gradients(batches); err != nil {
			t.Fatal(err)
		}
	}
	if l, _ := three.Loss(); math.Abs(l-mean) > 1e-5 {
		t.Errorf("loss %v, the mean of the three is %v", l, mean)
	}
	for _, p := range store.Params() {
		g, _ := store.Grad(p.Name)
		if d := relative(g, sum[p.Name]); !(d < 1e-5) {
			t.Errorf("%s: accumulated gradient is off by %.2g", p.Name, d)
		}
	}
}

// TestStepAllocatesNothing after the first.
func TestStepAllocatesNothing(t *testing.T) {
	const B, T = 2, 5
	store := newStore(t, B, T, true)
	tr, err := NewTrainer(store, B, T, 1, func(b *Builder) *Node { return small.loss(b, true) })
	if err != nil {
		t.Fatal(err)
	}
	batches := []Batch{randomBatch(rand.New(rand.NewPCG(9, 10)), B*T)}
	h := Hyper{LR: 1e-3, Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, Decay: 0.1, Clip: 1, Step: 1}
	step := func() {
		h.Step++
		if _, err := tr.Step(batches, h); err != nil {
			t.Fatal(err)
		}
	}
	step()
	if n := testing.AllocsPerRun(10, step); n > 0 {
		t.Errorf("a step allocates %v times", n)
	}
}

// TestStepLearns overfits one batch, and twice the same bits.
func TestStepLearns(t *testing.T) {
	const B, T = 2, 5
	run := func() []float64 {
		store := newStore(t, B, T, true)
		tr, err := NewTrainer(store, B, T, 1, func(b *Builder) *Node { return small.loss(b, true) })
		if err != nil {
			t.Fatal(err)
		}
		batch := randomBatch(rand.New(rand.NewPCG(11, 12)), B*T)
		var losses []float64
		for i := range 60 {
			s, err := tr.Step([]Batch{batch}, Hyper{LR: 1e-2, Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, Clip: 1, Step: i + 1})
			if err != nil {
				t.Fatal(err)
			}
			losses = append(losses, s.Loss)
		}
		return losses
	}
	a, b := run(), run()
	if a[59] > a[0]/4 {
		t.Errorf("loss went from %v to %v only", a[0], a[59])
	}
	if !slices.Equal(a, b) {
		t.Error("two runs differ")
	}
}

// TestArenaIsPlanned: a stack of blocks needs at most half of the sum of its buffers.
func TestArenaIsPlanned(t *testing.T) {
	const B, T = 2, 16
	store := newStore(t, B, T, true)
	tr, err := NewTrainer(store, B, T, 1, func(b *Builder) *Node { return small.loss(b, true) })
	if err != nil {
		t.Fatal(err)
	}
	a := tr.Arena()
	if 2*a.Planned > a.Unplanned {
		t.Errorf("arena of %d bytes, more than half of %d", a.Planned, a.Unplanned)
	}
}

// TestRecompute: running blocks again changes no bit of a gradient and needs less memory.
func TestRecompute(t *testing.T) {
	const B, T = 2, 16
	batch := randomBatch(rand.New(rand.NewPCG(13, 14)), B*T)
	batch[Documents] = make([]int32, B*T)
	for i := range batch[Documents] {
		batch[Documents][i] = int32(i % T / 5 * 5)
	}
	grads := func(recompute bool) (map[string][]float32, Arena) {
		store := newStore(t, B, T, true)
		tr, err := NewTrainer(store, B, T, 1, func(b *Builder) *Node {
			b.Recompute, b.Documents = recompute, true
			return small.loss(b, true)
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := tr.Gradients([]Batch{batch}); err != nil {
			t.Fatal(err)
		}
		out := map[string][]float32{}
		for _, p := range store.Params() {
			out[p.Name], _ = store.Grad(p.Name)
		}
		return out, tr.Arena()
	}
	want, kept := grads(false)
	got, again := grads(true)
	for name := range want {
		if !slices.Equal(want[name], got[name]) {
			t.Errorf("%s: gradient differs", name)
		}
	}
	if again.Planned >= kept.Planned*3/4 {
		t.Errorf("arena of %d bytes, %d without recomputing", again.Planned, kept.Planned)
	}
}

// TestCollision: parameters whose nodes share a 32-bit hash would be one node to gorgonia; Build takes other hashes.
func TestCollision(t *testing.T) {
	const a, b = "p1139599", "p1322382" // found by search: inputs of these names and one shape share their hash
	build := func(b1 *Builder) (*Node, *Node, error) {
		x := b1.Param(Param{Name: a, Shape: []int{2, 3}})
		y := b1.Param(Param{Name: b, Shape: []int{2, 3}})
		return b1.Reshape(x, 6), b1.Reshape(y, 6), b1.Err()
	}
	if _, _, err := build(NewBuilder(1, 1)); err == nil {
		t.Fatal("the two names were meant to collide")
	}
	var x, y *Node
	bb, err := Build(1, 1, func(b *Builder) (err error) {
		x, y, err = build(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if x == y || bb.salt == 0 {
		t.Error("the nodes were merged")
	}
}
