package eval

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"headroom/data"
)

// TestPasses: the passes that are foretold are those that measuring makes.
func TestPasses(t *testing.T) {
	for _, n := range []int{2, 3, 6, 7, 8, 25, 61, 62} {
		set := tokens(t, n, 0, 0)
		for _, c := range []Config{{Batch: 1}, {Batch: 4}, {Batch: 2, Stride: 2}, {Batch: 3, Context: 4, Stride: 3},
			{Batch: 2, Tokens: 20}, {Batch: 2, Stride: 1, Tokens: 9}} {
			context, stride := c.Context, c.Stride
			if context == 0 {
				context = 6
			}
			if stride == 0 {
				stride = context
			}
			windows, err := data.NewWindows(set, context, stride)
			if err != nil {
				t.Fatal(err)
			}
			want, batch, passes := windows.Targets(), data.NewBatch(c.Batch, context), int64(0)
			if c.Tokens > 0 {
				want = min(want, int64(c.Tokens))
			}
			for counted := int64(0); counted < want; passes++ {
				if err := windows.Next(batch); errors.Is(err, io.EOF) {
					break
				}
				for _, target := range batch.Targets {
					if target >= 0 {
						counted++
					}
				}
			}
			if got := c.Passes(int64(n), 6); got != passes {
				t.Errorf("%d tokens, %+v: %d passes, not %d", n, c, got, passes)
			}
		}
	}
	if got := (Config{Batch: 1}).Passes(1, 6); got != 0 {
		t.Errorf("nothing to measure takes %d passes", got)
	}
}

func TestPassTime(t *testing.T) {
	store, m := tiny(t, 1)
	p, err := NewPerplexity(store, m, Config{Batch: 2}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if took, err := p.PassTime(context.Background(), m.Config.Vocab, time.Millisecond); err != nil || took <= 0 {
		t.Errorf("a pass takes %v, %v", took, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := p.PassTime(ctx, m.Config.Vocab, time.Millisecond); err == nil {
		t.Error("goes on after its end")
	}
}
