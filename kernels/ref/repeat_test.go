package ref

import (
	"slices"
	"testing"
)

// TestRepeat repeats parts of rows and adds them up again.
func TestRepeat(t *testing.T) {
	x := []float32{1, 2, 3, 4}
	y, sum := make([]float32, 12), make([]float32, 4)
	k := &Repeat{X: x, Y: y, Rows: 2, Times: 3, Inner: 2, Scale: 2}
	twice(t, k, y)
	if want := []float32{2, 4, 2, 4, 2, 4, 6, 8, 6, 8, 6, 8}; !slices.Equal(y, want) {
		t.Errorf("repeated %v, want %v", y, want)
	}
	y[1], y[11] = 7, 1 // so that the times differ
	twice(t, &Fold{X: y, Y: sum, Rows: 2, Times: 3, Inner: 2, Scale: 0.5}, sum)
	if want := []float32{3, 7.5, 9, 8.5}; !slices.Equal(sum, want) {
		t.Errorf("folded %v, want %v", sum, want)
	}
}
