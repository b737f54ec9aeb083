package attention

import (
	"fmt"
	"slices"

	"headroom/internal/graph"
)

// What qk_norm norms, beside nothing. Checkpoints that do not say it norm nothing.
const (
	NoNorm   = "none"
	HeadNorm = "head"
	AllNorm  = "all"
)

// queryKeyNorm is RMSNorm of queries and keys before their rotation: of each head apart with one weight [D] for all of
// them, as Qwen3 and Gemma 3 have it, or of all heads as one vector with weights [H·D] and [G·D], as OLMo-2. Without
// weights there is no norm.
type queryKeyNorm struct {
	queries *graph.Param // [D] or [H·D]
	keys    *graph.Param // [D] or [G·D]
	dim     int          // of a head, D
	eps     float64
}

func newQueryKeyNorm(c Config, p Place, w weights) (n queryKeyNorm) {
	heads, groups := 1, 1
	switch c.QKNorm {
	case AllNorm:
		heads, groups = c.Heads, c.Groups
	case HeadNorm:
	default:
		return n
	}
	queries, keys := w.norm("normQueries", heads*c.HeadDim), w.norm("normKeys", groups*c.HeadDim)
	return queryKeyNorm{&queries, &keys, c.HeadDim, p.NormEps}
}

// forward norms q [B, T, H, D] and k [B, T, G, D].
func (n queryKeyNorm) forward(b *graph.Builder, q, k *graph.Node) (*graph.Node, *graph.Node) {
	if n.queries == nil {
		return q, k
	}
	return n.node(b, q, *n.queries), n.node(b, k, *n.keys)
}

func (n queryKeyNorm) node(b *graph.Builder, x *graph.Node, w graph.Param) *graph.Node {
	width := w.Shape[0]
	if width == n.dim {
		return b.RMSNorm(x, b.Param(w), n.eps)
	}
	x = b.Reshape(x, b.B, b.T, width) // all heads as one
	x = b.RMSNorm(x, b.Param(w), n.eps)
	return b.Reshape(x, b.B, b.T, width/n.dim, n.dim)
}

// decode norms q [N, H·D] and k [N, G·D].
func (n queryKeyNorm) decode(s Step, q, k graph.Buf) (graph.Buf, graph.Buf) {
	if n.queries == nil {
		return q, k
	}
	return s.RMSNorm(q, *n.queries, n.eps), s.RMSNorm(k, *n.keys, n.eps)
}

// NormsQK says that queries and keys are normed.
func (c Config) NormsQK() bool { return c.QKNorm != "" && c.QKNorm != NoNorm }

// checkQKNorm says why a kind has no such norm.
func (c Config) checkQKNorm(d Description) error {
	switch {
	case !slices.Contains([]string{"", NoNorm, HeadNorm, AllNorm}, c.QKNorm):
		return fmt.Errorf("qk_norm is none, head or all, not %q", c.QKNorm)
	case !c.NormsQK() || slices.Contains(d.Keys, "qk_norm"):
		return nil
	case d.Cache == Tied:
		return fmt.Errorf("qk_norm must be none, not %s: a key here is the state that is its value too, and a norm of the "+
			"one would change the other", c.QKNorm)
	case d.Cache == Latent:
		return fmt.Errorf("qk_norm must be none, not %s: decoding absorbs the up-projection of keys into the query, and a "+
			"norm of the up-projected key cannot be absorbed", c.QKNorm)
	}
	return fmt.Errorf("qk_norm must be none, not %s: this kind has no norm of queries and keys", c.QKNorm)
}
