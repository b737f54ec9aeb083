package ref

import (
	"fmt"
	"math"
	"testing"
)

// crossEntropy is the oracle: the loss and each row's part.
func crossEntropy(k *Classifier, x, w []float64) (loss float64, nll []float64) {
	nll = make([]float64, k.N)
	count := 0
	for i := range k.N {
		t := k.Targets[i]
		if t < 0 {
			continue
		}
		count++
		sum := 0.0
		for v := range k.V {
			sum += math.Exp(dot64(x[i*k.C:(i+1)*k.C], w[v*k.C:(v+1)*k.C]))
		}
		lse := math.Log(sum)
		nll[i] = lse - dot64(x[i*k.C:(i+1)*k.C], w[int(t)*k.C:int(t+1)*k.C])
		loss += nll[i] + float64(k.ZLoss)*lse*lse
	}
	return loss / float64(max(count, 1)), nll
}

func TestClassifier(t *testing.T) {
	for _, d := range [][3]int{{1, 1, 1}, {3, 4, 5}, {65, 3, 7}, {5, 3, 63}, {5, 2, 64}, {4, 3, 127}} {
		for _, chunk := range []int{0, 1, 2, 64} {
			for _, z := range []float32{0, 0.1} {
				t.Run(fmt.Sprintf("%v/%d/%g", d, chunk, z), func(t *testing.T) { testClassifier(t, d[0], d[1], d[2], chunk, z) })
			}
		}
	}
}

func testClassifier(t *testing.T, n, c, v, chunk int, z float32) {
	s := newSource(uint64(n + v))
	k := &Classifier{X: s.normal(n * c), W: s.normal(v * c), Targets: make([]int32, n), N: n, C: c, V: v, ZLoss: z,
		NLL: s.guarded(n), Loss: s.guarded(1), Chunk: chunk}
	for i := range k.Targets {
		k.Targets[i] = int32(s.IntN(v+1)) - 1
	}
	x, w := wide(k.X), wide(k.W)
	loss, nll := crossEntropy(k, x, w)
	twice(t, k, k.NLL, k.Loss)
	near(t, "nll", k.NLL, nll, 2e-6)
	near(t, "loss", k.Loss, []float64{loss}, 2e-6)

	k.DX, k.DW = s.guarded(n*c), s.guarded(v*c)
	twice(t, k, k.NLL, k.Loss, k.DX, k.DW)
	near(t, "nll", k.NLL, nll, 2e-6)
	f := func() float64 { l, _ := crossEntropy(k, x, w); return l }
	dx, dw := slope(f, x), slope(f, w)
	near(t, "dx", k.DX, dx, 1e-5)
	near(t, "dw", k.DW, dw, 1e-5)
	k.Accumulate = true
	accumulates(t, "dw", k, k.DW, dw, 1e-5)
	near(t, "dx", k.DX, dx, 1e-5)
	s.check(t)
}

// All targets ignored: no loss and no gradient, and a NaN in the input is seen in the loss.
func TestClassifierEdges(t *testing.T) {
	s := newSource(1)
	k := &Classifier{X: s.normal(8), W: s.normal(6), Targets: []int32{-1, -100, -1, -1}, N: 4, C: 2, V: 3,
		NLL: s.normal(4), Loss: []float32{9}, DX: s.normal(8), DW: s.normal(6)}
	k.Run()
	for _, x := range [][]float32{k.NLL, k.Loss, k.DX, k.DW} {
		near(t, "ignored", x, make([]float64, len(x)), 0)
	}
	k.Targets[2] = 1
	k.X[4] = float32(math.NaN())
	if k.Run(); k.Loss[0] == k.Loss[0] {
		t.Errorf("the loss of a NaN is %g", k.Loss[0])
	}
}
