package eval

import (
	"context"
	"math"
	"testing"

	"headroom/data"
)

// TestEvaluationWithinDocuments: every target counts once, given the tokens of its window and document before it. The
// target at the end of a document is the token that begins the next, which says that the document ends.
func TestEvaluationWithinDocuments(t *testing.T) {
	const T, n, begin = 6, 33, 4
	store, m := tiny(t, 1)
	set := tokens(t, n, 0, 0)
	text := make([]int32, n)
	if err := set.Read(text, 0); err != nil {
		t.Fatal(err)
	}
	for _, stride := range []int{6, 4} {
		c := Config{Batch: 2, Context: T, Stride: stride}
		p, err := NewPerplexity(store, m, c, &data.Documents{Begin: begin})
		if err != nil {
			t.Fatal(err)
		}
		got, err := p.Measure(context.Background(), "set", set)
		p.Close()
		if err != nil {
			t.Fatal(err)
		}
		want, inside := 0.0, 0
		for j := 1; j < n; j++ {
			start := max(0, (j-T+stride-1)/stride) * stride
			for at := start + 1; at < j; at++ {
				if text[at] == begin {
					start = at
					inside++
				}
			}
			want += alone(t, store, m, T, set, start, j)
		}
		want /= n - 1
		if inside == 0 {
			t.Fatal("no window has two documents")
		}
		if got.Tokens != n-1 || math.Abs(got.NLL-want) > 1e-5 || !got.Masked {
			t.Errorf("stride %d: %+v, not %d targets at %v", stride, got, n-1, want)
		}
		if whole := measure(t, store, m, c, set); math.Abs(whole.NLL-want) < 1e-4 || whole.Masked {
			t.Errorf("stride %d: without documents %+v", stride, whole)
		}
	}
}
