package graph

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
)

// hand is a graph of a few rows made op by op, with what every node of it must hold.
type hand struct {
	t    *testing.T
	b    *Builder
	want map[*Node][]float32
	name map[*Node]string
}

const handRows, handCols = 3, 4

// leaf is the embedding of one token a row: row r, column c of table is base + 10·r + c.
func (h *hand) leaf(name string) *Node {
	table := h.b.Param(Param{Name: name, Shape: []int{handRows, handCols}})
	n := h.b.Embed(table, h.b.Tokens("tokens"))
	return h.keep(n, name, h.values(name))
}

// values are those of a leaf by its name.
func (*hand) values(name string) (x []float32) {
	for i := range handRows * handCols {
		x = append(x, float32(10*int(name[0])+i))
	}
	return x
}

func (h *hand) keep(n *Node, name string, x []float32) *Node {
	if h.name[n] == "" {
		h.want[n], h.name[n] = x, name
	}
	return n
}

// twice is 2·x by a kernel that can add to what is there: dx = dy·Wᵀ of a weight that is twice the identity.
func (h *hand) twice(name string, x *Node) *Node {
	w := h.b.Param(Param{Name: "double", Shape: []int{handCols, handCols}})
	n := h.b.apply(LinearDX{last{}, handRows, 1, handCols, handCols, toShape4(x.Shape())}, w, x)
	out := make([]float32, len(h.want[x]))
	for i, v := range h.want[x] {
		out[i] = 2 * v
	}
	return h.keep(n, name, out)
}

func (h *hand) add(name string, x, y *Node) *Node {
	out := make([]float32, len(h.want[x]))
	for i := range out {
		out[i] = h.want[x][i] + h.want[y][i]
	}
	return h.keep(h.b.Add(x, y), name, out)
}

// TestPlanByHand runs graphs in which a sum may be made in place, or must not be because somebody reads an operand
// after it: another sum, a kernel between, or the caller. Every output must hold what its node stands for, and the
// kernels that are left say whether the sum cost one.
func TestPlanByHand(t *testing.T) {
	for _, c := range []struct {
		name  string
		build func(h *hand) []*Node
		adds  int // kernels of sums
	}{
		{"in place", func(h *hand) []*Node {
			a := h.twice("a", h.leaf("x"))
			return []*Node{h.add("a+b", a, h.twice("b", h.leaf("y")))}
		}, 0},
		{"in place, the operands in the other order", func(h *hand) []*Node {
			a := h.twice("a", h.leaf("x"))
			return []*Node{h.add("b+a", h.twice("b", h.leaf("y")), a)}
		}, 0},
		{"in place, the early operand read before the late one is made", func(h *hand) []*Node {
			a := h.twice("a", h.leaf("x"))
			r := h.twice("2a", a)
			return []*Node{r, h.add("a+b", a, h.twice("b", h.leaf("y")))}
		}, 0},
		{"the late operand is made of the early one", func(h *hand) []*Node {
			a := h.twice("a", h.leaf("x"))
			return []*Node{h.add("a+2a", a, h.twice("2a", a))}
		}, 1},
		{"the early operand has a second reader after the sum", func(h *hand) []*Node {
			a := h.twice("a", h.leaf("x"))
			sum := h.add("a+b", a, h.twice("b", h.leaf("y")))
			return []*Node{sum, h.twice("2a", a)}
		}, 1},
		{"the early operand is in two sums", func(h *hand) []*Node {
			a := h.twice("a", h.leaf("x"))
			sum := h.add("a+b", a, h.twice("b", h.leaf("y")))
			return []*Node{sum, h.add("a+c", a, h.twice("c", h.leaf("z")))}
		}, 1},
		{"the late operand has a second reader", func(h *hand) []*Node {
			a, b := h.twice("a", h.leaf("x")), h.twice("b", h.leaf("y"))
			return []*Node{h.add("a+b", a, b), h.twice("2b", b)}
		}, 1},
		{"the early operand is an output", func(h *hand) []*Node {
			a := h.twice("a", h.leaf("x"))
			return []*Node{a, h.add("a+b", a, h.twice("b", h.leaf("y")))}
		}, 1},
		{"the late operand is an output", func(h *hand) []*Node {
			a, b := h.twice("a", h.leaf("x")), h.twice("b", h.leaf("y"))
			return []*Node{h.add("a+b", a, b), b}
		}, 1},
		{"a value with itself", func(h *hand) []*Node {
			a := h.twice("a", h.leaf("x"))
			return []*Node{h.add("a+a", a, a)}
		}, 1},
		{"a chain of sums", func(h *hand) []*Node {
			sum := h.twice("a", h.leaf("x"))
			for i, name := range []string{"y", "z", "u"} {
				sum = h.add(fmt.Sprintf("sum %d", i), sum, h.twice("2"+name, h.leaf(name)))
			}
			return []*Node{sum}
		}, 0},
		{"a chain whose middle has a second reader", func(h *hand) []*Node {
			one := h.add("a+b", h.twice("a", h.leaf("x")), h.twice("b", h.leaf("y")))
			two := h.add("a+b+c", one, h.twice("c", h.leaf("z")))
			return []*Node{two, h.twice("2(a+b)", one)}
		}, 1},
		{"sums that no kernel adds up", func(h *hand) []*Node {
			x, y := h.leaf("x"), h.leaf("y")
			sum := h.add("x+y", x, y)
			return []*Node{h.add("x+y+z", sum, h.leaf("z")), h.add("x+y again", x, y), sum}
		}, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			var h *hand
			var nodes []*Node
			store := handStore(t)
			p, err := Compile(store, handRows, 1, func(b *Builder) []*Node {
				h = &hand{t, b, map[*Node][]float32{}, map[*Node]string{}}
				nodes = c.build(h)
				return nodes
			})
			if err != nil {
				t.Fatal(err)
			}
			if err := p.SetTokens("tokens", []int32{0, 1, 2}); err != nil {
				t.Fatal(err)
			}
			for range 2 { // a second run begins with what the first left in the arena
				if err := p.RunAll(); err != nil {
					t.Fatal(err)
				}
			}
			for i, n := range nodes {
				got, err := p.Output(i, nil)
				if err != nil {
					t.Fatal(err)
				}
				if fmt.Sprint(got) != fmt.Sprint(h.want[n]) {
					t.Errorf("%s is %v, want %v", h.name[n], got, h.want[n])
				}
			}
			adds := 0
			for _, in := range p.instrs {
				if _, ok := in.Attr.(Add); ok {
					adds++
				}
			}
			if adds != c.adds {
				t.Errorf("%d kernels of sums, want %d", adds, c.adds)
			}
		})
	}
}

// handStore has the leaves that hand graphs read, and twice the identity.
func handStore(t *testing.T) *Store {
	t.Helper()
	var ps []Param
	for _, name := range []string{"x", "y", "z", "u"} {
		ps = append(ps, Param{Name: name, Shape: []int{handRows, handCols}})
	}
	s, err := NewStore(NewCPU(), append(ps, Param{Name: "double", Shape: []int{handCols, handCols}}))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range ps {
		if err := s.Set(p.Name, (*hand)(nil).values(p.Name)); err != nil {
			t.Fatal(err)
		}
	}
	double := make([]float32, handCols*handCols)
	for i := range handCols {
		double[i*handCols+i] = 2
	}
	if err := s.Set("double", double); err != nil {
		t.Fatal(err)
	}
	return s
}

// TestCollisionInAPass: two parameters whose nodes share a hash, in ops that do not, are found before the plan is made,
// and the pass is built again with other hashes.
func TestCollisionInAPass(t *testing.T) {
	const a, b = "p1139599", "p1322382" // found by search: inputs of these names and one shape share their hash
	ps := []Param{{Name: a, Shape: []int{2, 3}}, {Name: b, Shape: []int{2, 3}}}
	logits := func(bb *Builder) *Node {
		return bb.Logits(bb.Embed(bb.Param(ps[0]), bb.Tokens("tokens")), bb.Param(ps[1]))
	}
	if bb := NewBuilder(1, 2); distinct([]*Node{logits(bb)}) != errCollision || bb.Err() != nil {
		t.Fatal("the two names were meant to collide, and to be found out by the planner alone")
	}
	s, err := NewStore(NewCPU(), ps)
	if err != nil {
		t.Fatal(err)
	}
	for i, x := range [][]float32{{1, 2, 3, 4, 5, 6}, {1, 0, 0, 0, 0, 1}} {
		if err := s.Set(ps[i].Name, x); err != nil {
			t.Fatal(err)
		}
	}
	p, err := Compile(s, 1, 2, func(bb *Builder) []*Node { return []*Node{logits(bb)} })
	if err != nil {
		t.Fatal(err)
	}
	if err := p.SetTokens("tokens", []int32{1, 0}); err != nil {
		t.Fatal(err)
	}
	if err := p.RunAll(); err != nil {
		t.Fatal(err)
	}
	if got, err := p.Output(0, nil); err != nil || fmt.Sprint(got) != "[4 6 1 3]" {
		t.Errorf("logits %v, %v", got, err)
	}
	tr, err := NewTrainer(s, 1, 2, 1, func(bb *Builder) *Node {
		return bb.Loss(bb.Embed(bb.Param(ps[0]), bb.Tokens("tokens")), bb.Param(ps[1]), bb.Tokens("targets"), 0)
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := tr.Gradients([]Batch{{"tokens": {1, 0}, "targets": {1, 1}}}); err != nil {
		t.Fatal(err)
	}
	want := (math.Log(1+math.Exp(-2)) + math.Log(1+math.Exp(-2))) / 2 // logits 4, 6 and 1, 3
	if l, err := tr.Loss(); err != nil || math.Abs(l-want) > 1e-6 {
		t.Errorf("loss %v, %v, want %v", l, err, want)
	}
}

// TestNoRoom: what is beyond the machine is refused with its bytes before anything is allocated, a product of sizes
// that no integer holds too.
func TestNoRoom(t *testing.T) {
	store := newStore(t, 2, 4, true)
	for _, T := range []int{1 << 36, 1 << 60} {
		_, err := NewTrainer(store, 2, T, 1, func(b *Builder) *Node { return small.loss(b, true) })
		if noRoom := (*MemoryError)(nil); !errors.As(err, &noRoom) || noRoom.Need < 1<<38 ||
			!strings.Contains(err.Error(), fmt.Sprintf("(%d bytes)", noRoom.Need)) {
			t.Errorf("T = %d: %v", T, err)
		}
		if _, err := Compile(store, 2, T, func(b *Builder) []*Node { return []*Node{small.loss(b, true)} }); err == nil ||
			!strings.Contains(err.Error(), "the tensors of a step need ") {
			t.Errorf("a pass of T = %d: %v", T, err)
		}
	}
	for _, shape := range [][]int{{1 << 40, 4}, {1 << 32, 1 << 32}} {
		if _, err := NewStore(NewCPU(), []Param{{Name: "w", Shape: shape}}); err == nil ||
			!strings.Contains(err.Error(), "GiB") {
			t.Errorf("a parameter of shape %v: %v", shape, err)
		}
	}
	free := HostFree(0)
	if free < 1<<20 || free == math.MaxInt {
		t.Errorf("this machine is said to have %d bytes free", free)
	}
	if left := HostFree(free / 2); left > free/4*3 { // what was taken is not written yet, and other processes come and go
		t.Errorf("with half of %d bytes taken it is said to have %d", free, left)
	}
	if left := HostFree(1 << 50); left != 0 {
		t.Errorf("with all taken it is said to have %d bytes", left)
	}
}
