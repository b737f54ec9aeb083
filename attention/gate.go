package attention

import (
	"fmt"

	"headroom/internal/graph"
)

// How an output gate multiplies what the heads have attended.
const (
	NoGate      = "none"
	HeadGate    = "head"    // one number for each head
	ElementGate = "element" // one for each column of each head
)

// outputGate is the gate of "Gated Attention for Large Language Models" (arXiv 2505.06708) between attention and the
// output projection, made of the layer's input:
//
//	y = (o ⊙ sigmoid(x·Wg)) · Wo
//
// In the authors' code Wg is further columns of Wq: it starts as any other weight, with a bias only where queries have
// one, which here they have not. So a gate begins at about a half. With a gate_width, the first columns of x alone make
// the gate, which costs less. A layer without a gate has nil.
type outputGate struct {
	Wg graph.Param // [C, H·D], or [C, H] by head; with a gate_width of w [w, ...]
	C  int
}

// Gated says that there is an output gate.
func (c Config) Gated() bool { return c.Gate != "" && c.Gate != NoGate }

func newGate(c Config, C int, w weights) *outputGate {
	if !c.Gated() {
		return nil
	}
	in, out := C, c.Heads
	if c.GateWidth > 0 {
		in = c.GateWidth
	}
	if c.Gate == ElementGate {
		out *= c.HeadDim
	}
	return &outputGate{w.matrix("Wg", in, out), C}
}

func checkGate(c Config) error {
	switch {
	case c.Gate != "" && c.Gate != NoGate && c.Gate != HeadGate && c.Gate != ElementGate:
		return fmt.Errorf("gate is none, head or element, not %q", c.Gate)
	case c.GateWidth < 0:
		return fmt.Errorf("gate_width must not be negative, it is %d", c.GateWidth)
	case c.GateWidth > 0 && !c.Gated():
		return fmt.Errorf("gate_width is %d, and there is no gate: attention.gate is head or element", c.GateWidth)
	}
	return nil
}

func (g *outputGate) param() *graph.Param {
	if g == nil {
		return nil
	}
	return &g.Wg
}

// forward gates o [B, T, H·D] by x [B, T, C].
func (g *outputGate) forward(b *graph.Builder, o, x *graph.Node) *graph.Node {
	if g == nil {
		return o
	}
	if w := g.Wg.Shape[0]; w < g.C {
		x = b.Columns(x, w) // [B, T, w]
	}
	return b.Gate(o, b.Linear(x, b.Param(g.Wg), nil)) // [B, T, H·D]
}

// product makes x·Wg, right behind the other products of x.
func (g *outputGate) product(s Step, x graph.Buf) (gate graph.Buf) {
	if g == nil {
		return gate
	}
	if w := g.Wg.Shape[0]; w < g.C {
		x = s.Columns(x, w) // [N, w]
	}
	return s.Linear(x, g.Wg, nil) // [N, H·D] or [N, H]
}

// decode gates o [N, H·D] by that product.
func (g *outputGate) decode(s Step, o, gate graph.Buf) graph.Buf {
	if g == nil {
		return o
	}
	return s.Gate(o, gate) // [N, H·D]
}
