//go:build gpu

package kernels

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"headroom/kernels/ref"
)

// TestRepeat: parts that are repeated and their sums, in both directions, of lengths that are multiples of 16 bytes and
// that are not.
func TestRepeat(t *testing.T) {
	for _, typ := range types {
		for _, d := range [][3]int{{1, 1, 100000}, {3, 2, 33}, {512, 4, 192}, {1000, 2, 1152}, {7, 1, 1}} {
			t.Run(fmt.Sprint(typ, d), func(t *testing.T) {
				r, rng := newRig(t), rand.New(rand.NewPCG(8, uint64(d[0])))
				rows, times, inner := d[0], d[1], d[2]
				n := rows * inner
				few, many := normal(rng, n), normal(rng, n*times)
				bfew, bmany := r.in(typ, few), r.in(typ, many)
				repeated, sums := make([]float32, n*times), make([]float32, n)

				(&ref.Repeat{X: few, Y: repeated, Rows: rows, Times: times, Inner: inner, Scale: 1.7}).Run()
				k := Repeat{X: bfew, Y: r.out(typ, n*times), Rows: rows, Times: times, Inner: inner, Scale: 1.7}
				r.check(k.Launch, result{"repeated", k.Y, repeated, nil, 0})

				(&ref.Fold{X: many, Y: sums, Rows: rows, Times: times, Inner: inner, Scale: 0.7}).Run()
				f := Fold{X: bmany, Y: r.out(typ, n), Rows: rows, Times: times, Inner: inner, Scale: 0.7}
				r.check(f.Launch, result{"sums", f.Y, sums, nil, 0})
			})
		}
	}
}
