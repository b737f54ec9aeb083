package graph

import (
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"headroom/kernels/ref"
)

// A Rotary says how fast the pairs of a rotary embedding turn.
type Rotary = ref.Rotary

// Rope rotates the last R dims of each head of x [B, T, Heads, D] by its position, half-split: dim i pairs with
// i + R/2 at the Rotary's frequency. The first D-R dims pass. Inverse turns the other way, which is its gradient.
type Rope struct {
	B, T, Heads, D, R int
	Rotary            Rotary
	Inverse           bool
}

// Rope rotates the last r dims of each head of x [B, T, heads, D].
func (b *Builder) Rope(x *Node, r int, rotary Rotary) *Node {
	if b.failed() {
		return nil
	}
	s := x.Shape()
	want(len(s) == 4 && r%2 == 0 && r <= s[3], "rope: x %v, rotary dim %d", s, r)
	return b.apply(Rope{B: s[0], T: s[1], Heads: s[2], D: s[3], R: r, Rotary: rotary}, x)
}

func (Rope) Kind() string              { return "rope" }
func (a Rope) outputs() []tensor.Shape { return []tensor.Shape{{a.B, a.T, a.Heads, a.D}} }
func (Rope) aux() []Aux                { return nil }

func (a Rope) grad(n *applied) (gorgonia.Nodes, error) {
	a.Inverse = !a.Inverse
	dx, err := n.apply(a, n.dout)
	return gorgonia.Nodes{dx}, err
}
