package ref

import (
	"math"
	"os"
	"os/exec"
	"runtime"
	"testing"

	"golang.org/x/sys/cpu"
)

// onCores runs f with a pool of n workers.
func onCores(t *testing.T, n int, f func()) {
	t.Helper()
	before := runtime.GOMAXPROCS(n)
	old := cores.workers
	cores.workers = nil
	defer func() {
		for _, w := range cores.workers {
			close(w.wake)
		}
		cores.workers = old
		runtime.GOMAXPROCS(before)
	}()
	f()
}

// Every kernel gives the same bits with any number of cores, on every kernel set that OpenBLAS chooses by processor.
// Products of the AVX2 sets (Haswell, Zen) sum the rows at a tile's edge in another order than those inside.
func TestCores(t *testing.T) {
	stepOnCores(t)
	gemmOnCores(t)
	if BLAS != "openblas" || os.Getenv("OPENBLAS_CORETYPE") != "" {
		return
	}
	for _, set := range []struct {
		name string
		runs bool
	}{{"Haswell", cpu.X86.HasAVX2 && cpu.X86.HasFMA}, {"Zen", cpu.X86.HasAVX2 && cpu.X86.HasFMA},
		{"SkylakeX", cpu.X86.HasAVX512VL}} {
		t.Run(set.name, func(t *testing.T) {
			if !set.runs {
				t.Skip("this processor cannot run the kernels for " + set.name)
			}
			c := exec.Command(os.Args[0], "-test.run=^TestCores$")
			c.Env = append(os.Environ(), "OPENBLAS_CORETYPE="+set.name)
			if out, err := c.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// stepOnCores compares every word that the kernels of a training step leave behind.
func stepOnCores(t *testing.T) {
	var first [][]float32
	for _, n := range []int{1, 2, 3, 8} {
		onCores(t, n, func() {
			s := newStep(shape{L: 1, C: 96, H: 3, D: 32, F: 200, B: 8, T: 300, V: 517})
			for _, c := range s.calls {
				c.r.Run()
			}
			if first == nil {
				first = s.src.words
			}
			for i, words := range s.src.words {
				if j := differs(words, first[i]); j >= 0 {
					t.Fatalf("a training step on %d cores: word %d of tensor %d is %g, on one core %g", n, j, i, words[j], first[i][j])
				}
			}
		})
	}
}

// gemmOnCores adds products whose sizes divide into no tile evenly, wide and tall ones, and such with a long sum.
func gemmOnCores(t *testing.T) {
	for i, d := range [][3]int{{1024, 48, 40}, {1000, 33, 70}, {515, 130, 96}, {37, 1201, 64}, {130, 257, 4099},
		{64, 96, 9000}, {2050, 17, 33}} {
		for mode := range 8 {
			var first []float32
			for _, n := range []int{1, 2, 3, 8} {
				onCores(t, n, func() {
					s := newSource(uint64(i))
					m, n2, k, batch := d[0], d[1], d[2], 1+mode>>2
					g := &Gemm{TransA: mode&1 != 0, TransB: mode&2 != 0, M: m, N: n2, K: k, Batch: batch, Lda: k, Ldb: n2, Ldc: n2,
						StrideA: m * k, StrideB: k * n2, StrideC: m * n2, A: s.normal(batch * m * k), B: s.normal(batch * k * n2),
						C: s.guarded(batch * m * n2)}
					if g.TransA {
						g.Lda = m
					}
					if g.TransB {
						g.Ldb = k
					}
					g.Run()
					if first == nil {
						first = g.C
					}
					if j := differs(g.C, first); j >= 0 {
						t.Fatalf("product %v, mode %d, on %d cores: word %d is %g, on one core %g", d, mode, n, j, g.C[j], first[j])
					}
				})
			}
		}
	}
}

// differs is the first index at which x and y differ in a bit, or -1.
func differs(x, y []float32) int {
	for i := range x {
		if math.Float32bits(x[i]) != math.Float32bits(y[i]) {
			return i
		}
	}
	return -1
}
