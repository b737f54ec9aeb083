package ref

import (
	"fmt"
	"testing"
)

// The step's products are those of training: norm, product, gate and addition, one after the other.
func TestStepProduct(t *testing.T) {
	for _, d := range []struct{ rows, in, out int }{{1, 64, 3}, {3, 40, 17}, {16, 8, 64}} {
		for _, form := range []string{"plain", "norm", "add", "gate"} {
			t.Run(fmt.Sprint(d, form), func(t *testing.T) {
				s := newSource(uint64(d.in))
				ldx, ldy := d.in+8, d.out+1
				k := &StepProduct{Rows: d.rows, In: d.in, Out: d.out, LdX: ldx, LdY: ldy, X: s.normal(d.rows * ldx),
					W: s.normal(2 * d.out * d.in), Bias: s.normal(d.out), Eps: 1e-5}
				k.Y = s.normal(d.rows * ldy)
				before := append([]float32(nil), k.Y...)
				x := make([]float32, d.rows*d.in)
				for i := range x {
					x[i] = k.X[i/d.in*ldx+i%d.in]
				}
				if form == "norm" || form == "gate" {
					k.Norm = s.normal(d.in)
					rstd := make([]float32, d.rows)
					(&RMSNorm{X: x, W: k.Norm, Y: x, Rstd: rstd, Rows: d.rows, Groups: 1, C: d.in, Eps: k.Eps}).Run()
				}
				product := func(w []float32) []float32 {
					y := make([]float32, d.rows*d.out)
					(&Gemm{TransB: true, M: d.rows, N: d.out, K: d.in, A: x, B: w, C: y, Lda: d.in, Ldb: d.in,
						Ldc: d.out, Batch: 1}).Run()
					return y
				}
				want := product(k.W)
				switch form {
				case "gate":
					k.Gate, k.Bias = true, nil
					(&SwiGLU{Gate: want, Up: product(k.W[d.out*d.in:]), Y: want}).Run()
				case "add":
					k.Add = true
				}
				k.Run()
				got, all := make([]float32, len(want)), wide(want)
				for i := range got {
					at := i/d.out*ldy + i%d.out
					got[i] = k.Y[at]
					if k.Bias != nil {
						all[i] += float64(k.Bias[i%d.out])
					}
					if k.Add {
						all[i] += float64(before[at])
					}
					k.Y[at] = before[at]
				}
				near(t, "y", got, all, 2e-5)
				for i, v := range k.Y {
					if v != before[i] {
						t.Fatalf("element %d, which lies between rows, changed", i)
					}
				}
			})
		}
	}
}

func TestStepHeads(t *testing.T) {
	const rows, H, in, out, extra = 3, 4, 16, 8, 6
	s := newSource(1)
	k := &StepHeads{Rows: rows, H: H, In: in, Out: out, Copy: extra, LdX: H * (in + extra), StepX: in + extra,
		LdY: H * (out + extra), StepY: out + extra,
		X: s.normal(rows * H * (in + extra)), W: s.normal(H * out * in), Bias: s.normal(H * out),
		Y: s.guarded(rows * H * (out + extra))}
	want := make([]float64, len(k.Y))
	for i := range want {
		r, h, c := i/k.LdY, i/k.StepY%H, i%k.StepY
		x := k.X[r*k.LdX+h*k.StepX:]
		if c >= out {
			want[i] = float64(x[in+c-out])
			continue
		}
		want[i] = float64(k.Bias[h*out+c])
		for j := range in {
			want[i] += float64(x[j]) * float64(k.W[(h*out+c)*in+j])
		}
	}
	twice(t, k, k.Y)
	near(t, "y", k.Y, want, 1e-6)
	s.check(t)
}

func TestStepPick(t *testing.T) {
	k := &StepPick{Rows: 3, V: 4, Logits: []float32{1, 3, 3, 2, -4, -2, -3, -2, 0, 0, 0, 0}, Tokens: make([]int32, 3)}
	k.Run()
	if k.Tokens[0] != 1 || k.Tokens[1] != 1 || k.Tokens[2] != 0 {
		t.Errorf("%v, want the first of equals: [1 1 0]", k.Tokens)
	}
}
