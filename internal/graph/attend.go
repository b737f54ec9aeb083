package graph

import (
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// A Mask says which keys a query reads beside the causal rule: the one at position t reads those from the first that
// the mask leaves it to t.
type Mask struct {
	Window int // so many keys at most, its own with them: from t-Window+1; 0 is all
}

// Documents names the input [B,T] of a pass whose Builder has Documents: where the document of each position starts in
// its row. In a row it never falls, and no position stands before the start of its own.
const Documents = "documents"

// Attend is causal attention of H query heads over G key and value heads; head h reads group h/(H/G). A key is P
// columns of its head in the K operand, then R columns of a rope key that all heads share; a value is Dv columns of its
// head in the V operand. It keeps the log-sum-exp [B, H, T].
//
// With R = 0 the operands are q [B,T,H,P], k [B,T,G,P], v [B,T,G,Dv]. With Shared they are q [B,T,H,P+R],
// kv [B,T,G,W] and kr [B,T,1,R]: keys and values are columns of one tensor, and where they overlap (GTA's tied state)
// their gradients sum.
type Attend struct {
	B, T, H, G, P, R, Dv int
	Shared               bool
	W, VOff              int // Shared: width of a head of kv, first column of its value
	Scale                float64
	Window               int  // of the Mask
	Documents            bool // a fourth operand is the input of that name: keys before a document's start are not read
}

// AttendGrad gives the gradients of Attend's three operands, from them, the output, its gradient and the documents.
type AttendGrad struct {
	last
	Attend Attend
}

// Attend is softmax(q·kᵀ·scale)·v, causal and under a mask: q [B,T,H,D], k [B,T,G,D], v [B,T,G,Dv] -> [B,T,H,Dv].
func (b *Builder) Attend(q, k, v *Node, m Mask, scale float64) *Node {
	if b.failed() {
		return nil
	}
	qs, ks, vs := q.Shape(), k.Shape(), v.Shape()
	want(len(qs) == 4 && len(ks) == 4 && len(vs) == 4 && qs[3] == ks[3] && ks[2] == vs[2] && qs[2]%ks[2] == 0 &&
		qs[0] == ks[0] && qs[1] == ks[1],
		"attend: q %v, k %v, v %v", qs, ks, vs)
	return b.attend(m, Attend{B: qs[0], T: qs[1], H: qs[2], G: ks[2], P: ks[3], Dv: vs[3], Scale: scale}, q, k, v)
}

// AttendShared is Attend where keys and values are columns of one tensor kv [B,T,G,W] and a rope key kr [B,T,1,R] is
// shared by all heads: key = [kv[..., :key] | kr], value = kv[..., valueOff:valueOff+value].
func (b *Builder) AttendShared(q, kv, kr *Node, key, valueOff, value int, m Mask, scale float64) *Node {
	if b.failed() {
		return nil
	}
	qs, ks, rs := q.Shape(), kv.Shape(), kr.Shape()
	want(len(qs) == 4 && len(ks) == 4 && len(rs) == 4 && rs[2] == 1 && qs[3] == key+rs[3] && qs[2]%ks[2] == 0 &&
		valueOff+value <= ks[3] && key <= ks[3],
		"attend: q %v, kv %v, kr %v with key %d, value %d at %d", qs, ks, rs, key, value, valueOff)
	a := Attend{B: qs[0], T: qs[1], H: qs[2], G: ks[2], P: key, R: rs[3], Dv: value, Shared: true, W: ks[3],
		VOff: valueOff, Scale: scale}
	return b.attend(m, a, q, kv, kr)
}

// attend applies an operation under a mask and, where the pass has documents, within them. A window that every query
// lies in whole is none.
func (b *Builder) attend(m Mask, a Attend, in ...*Node) *Node {
	want(m.Window >= 0, "attend: a window of %d", m.Window)
	if m.Window < a.T {
		a.Window = m.Window
	}
	if a.Documents = b.Documents; a.Documents {
		want(a.B == b.B && a.T == b.T, "attend: documents of [%d, %d] tokens, q of [%d, %d]", b.B, b.T, a.B, a.T)
		in = append(in, b.Tokens(Documents))
	}
	return b.apply(a, in...)
}

// Tied says that keys and values share columns.
func (a Attend) Tied() bool { return a.Shared && a.VOff < a.P }

func (Attend) Kind() string              { return "attend" }
func (a Attend) outputs() []tensor.Shape { return []tensor.Shape{{a.B, a.T, a.H, a.Dv}} }
func (a Attend) aux() []Aux {
	return []Aux{{Shape: tensor.Shape{a.B, a.H, a.T}, Stat: true}}
}

func (a Attend) grad(n *applied) (gorgonia.Nodes, error) {
	in := gorgonia.Nodes{n.in[0], n.in[1], n.in[2], n.out, n.dout}
	if !a.Documents {
		return n.parts(AttendGrad{Attend: a}, in...)
	}
	grads, err := n.parts(AttendGrad{Attend: a}, append(in, n.in[3])...)
	return append(grads, nil), err
}

func (AttendGrad) Kind() string { return "attend.grad" }
func (g AttendGrad) outputs() []tensor.Shape {
	a := g.Attend
	q := tensor.Shape{a.B, a.T, a.H, a.P + a.R}
	if a.Shared {
		return []tensor.Shape{q, {a.B, a.T, a.G, a.W}, {a.B, a.T, 1, a.R}}
	}
	return []tensor.Shape{q, {a.B, a.T, a.G, a.P}, {a.B, a.T, a.G, a.Dv}}
}
