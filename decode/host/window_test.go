package host_test

import (
	"fmt"
	"slices"
	"testing"

	"headroom/attention"
	"headroom/decode/decodetest"
	"headroom/decode/host"
	"headroom/model"
)

// windows end within a page, at its edges and beyond every text.
var windows = []int{1, 64, 65, 100, 250}

// TestWindows decodes texts in any split, over the edges of windows of all sizes, and holds it against the forward
// pass.
func TestWindows(t *testing.T) {
	for i, kind := range decodetest.Kinds {
		for j, window := range windows {
			m := decodetest.Windowed(t, kind, window)
			texts := decodetest.Texts(m)
			for n, y := range decodetest.Split(t, host.NewDevice(m, 20), m, uint64(i*len(windows)+j), texts) {
				decodetest.Near(t, fmt.Sprintf("%s in a window of %d", kind, window), y, decodetest.Forward(t, m, texts[n]))
			}
		}
	}
}

// TestWindowIsSeen: a model with a window computes something else than without, after as many tokens.
func TestWindowIsSeen(t *testing.T) {
	for _, kind := range decodetest.Kinds {
		all := func(window int) []float32 {
			m := decodetest.Tiny(t, kind, func(_ *model.Config, a *attention.Config) { a.Window = window })
			return decodetest.Forward(t, m, decodetest.Texts(m)[2])
		}
		full, windowed := all(0), all(20)
		V := len(full) / 65
		decodetest.Near(t, kind+" before the window ends", windowed[:20*V], full[:20*V])
		for i := 20; i < 65; i++ {
			if slices.Equal(full[i*V:(i+1)*V], windowed[i*V:(i+1)*V]) {
				t.Errorf("%s: row %d is the same with a window of 20 as without", kind, i)
			}
		}
	}
}
