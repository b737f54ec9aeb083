package graph

import (
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// RMSNorm is y = x · rsqrt(mean x² + Eps) · w over the last dim: x [Rows, Groups, C], w [Groups, C]. It keeps the
// reciprocal root [Rows, Groups].
type RMSNorm struct {
	Rows, Groups, C int
	Eps             float64
	Shape           shape4
}

// RMSNormGrad gives dx and dw from x, w and dy.
type RMSNormGrad struct {
	last
	Rows, Groups, C int
	X, W            shape4
}

// RMSNorm normalises the last dim of x. A weight [n, L] normalises each of the n blocks of x [.., n, L] on its own.
func (b *Builder) RMSNorm(x, w *Node, eps float64) *Node {
	if b.failed() {
		return nil
	}
	xs, ws := x.Shape(), w.Shape()
	k := len(ws)
	want(k <= len(xs) && tensor.Shape(xs[len(xs)-k:]).Eq(ws), "rmsnorm: w %v does not fit x %v", ws, xs)
	a := RMSNorm{Rows: rows(xs, k), Groups: rows(ws, 1), C: ws[k-1], Eps: eps, Shape: toShape4(xs)}
	return b.apply(a, x, w)
}

func (RMSNorm) Kind() string              { return "rmsnorm" }
func (a RMSNorm) outputs() []tensor.Shape { return []tensor.Shape{a.Shape.tensor()} }
func (a RMSNorm) aux() []Aux {
	return []Aux{{Shape: tensor.Shape{a.Rows, a.Groups}, Stat: true}}
}

func (a RMSNorm) grad(n *applied) (gorgonia.Nodes, error) {
	return n.parts(RMSNormGrad{Rows: a.Rows, Groups: a.Groups, C: a.C, X: a.Shape, W: toShape4(n.in[1].Shape())}, n.in[0],
		n.in[1], n.out, n.dout)
}

func (RMSNormGrad) Kind() string              { return "rmsnorm.grad" }
func (a RMSNormGrad) outputs() []tensor.Shape { return []tensor.Shape{a.X.tensor(), a.W.tensor()} }
