package graph

import (
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// Embed reads row tokens[i] of table [V, C] for each of the B·T tokens.
type Embed struct{ B, T, V, C int }

// EmbedGrad sums the rows of dy by token, from tokens and dy.
type EmbedGrad struct {
	last
	B, T, V, C int
}

// Embed looks tokens [B, T] up in table [V, C].
func (b *Builder) Embed(table, tokens *Node) *Node {
	if b.failed() {
		return nil
	}
	ts, is := table.Shape(), tokens.Shape()
	return b.apply(Embed{B: is[0], T: is[1], V: ts[0], C: ts[1]}, table, tokens)
}

func (Embed) Kind() string              { return "embed" }
func (a Embed) outputs() []tensor.Shape { return []tensor.Shape{{a.B, a.T, a.C}} }
func (Embed) aux() []Aux                { return nil }

func (a Embed) grad(n *applied) (gorgonia.Nodes, error) {
	dtable, err := n.apply(EmbedGrad{B: a.B, T: a.T, V: a.V, C: a.C}, n.in[1], n.dout)
	return gorgonia.Nodes{dtable, nil}, err
}

func (EmbedGrad) Kind() string              { return "embed.grad" }
func (a EmbedGrad) outputs() []tensor.Shape { return []tensor.Shape{{a.V, a.C}} }
