package graph

import (
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// Loss is the mean negative log-likelihood of the targets under softmax(x·headᵀ), plus ZLoss times the mean squared
// log-sum-exp. It works through the logits in chunks of rows and never holds them all; the gradients of x and head
// come out of the same pass, as its aux buffers. With PerToken its output is the likelihood of each target instead,
// and it has no gradient.
type Loss struct {
	B, T, C, V int
	ZLoss      float64
	PerToken   bool
}

// Logits is x·headᵀ: [B, T, C] -> [B, T, V].
type Logits struct {
	last
	B, T, C, V int
}

// Loss is the mean negative log-likelihood of targets [B, T] given x [B, T, C] and head [V, C], in nats. Negative
// targets do not count.
func (b *Builder) Loss(x, head, targets *Node, zloss float64) *Node {
	return b.loss(Loss{ZLoss: zloss}, x, head, targets)
}

// NLL is the negative log-likelihood of each of targets [B, T], 0 where a target is negative.
func (b *Builder) NLL(x, head, targets *Node) *Node {
	return b.loss(Loss{PerToken: true}, x, head, targets)
}

func (b *Builder) loss(a Loss, x, head, targets *Node) *Node {
	if b.failed() {
		return nil
	}
	xs, hs := x.Shape(), head.Shape()
	want(len(xs) == 3 && len(hs) == 2 && xs[2] == hs[1], "loss: x %v and head %v", xs, hs)
	a.B, a.T, a.C, a.V = xs[0], xs[1], xs[2], hs[0]
	return b.apply(a, x, head, targets)
}

// Logits is x·headᵀ for every token.
func (b *Builder) Logits(x, head *Node) *Node {
	if b.failed() {
		return nil
	}
	xs, hs := x.Shape(), head.Shape()
	want(len(xs) == 3 && len(hs) == 2 && xs[2] == hs[1], "logits: x %v and head %v", xs, hs)
	return b.apply(Logits{B: xs[0], T: xs[1], C: xs[2], V: hs[0]}, x, head)
}

func (Loss) Kind() string { return "loss" }
func (a Loss) outputs() []tensor.Shape {
	if a.PerToken {
		return []tensor.Shape{{a.B, a.T}}
	}
	return []tensor.Shape{tensor.ScalarShape()}
}

// aux holds dx and dhead, both of the loss itself.
func (a Loss) aux() []Aux {
	if a.PerToken {
		return nil
	}
	return []Aux{{Shape: tensor.Shape{a.B, a.T, a.C}}, {Shape: tensor.Shape{a.V, a.C}}}
}

func (a Loss) grad(n *applied) (gorgonia.Nodes, error) {
	if a.PerToken {
		return nil, errSecondGrad
	}
	dx, err := n.apply(Saved{Index: 0, Shape: shape4{a.B, a.T, a.C}}, n.out, n.dout)
	if err != nil {
		return nil, err
	}
	dhead, err := n.apply(Saved{Index: 1, Shape: shape4{a.V, a.C}}, n.out, n.dout)
	return gorgonia.Nodes{dx, dhead, nil}, err
}

func (Logits) Kind() string              { return "logits" }
func (a Logits) outputs() []tensor.Shape { return []tensor.Shape{{a.B, a.T, a.V}} }
