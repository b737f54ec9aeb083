package ref

import "math"

// A StepProduct is Y = norm(X)·Wᵀ + Bias: X [Rows, In] at row stride LdX, Norm [In] or nil, W [Out, In], Bias [Out]
// or nil, Y [Rows, Out] at row stride LdY; a stride of 0 is the width. Add makes it Y += X·Wᵀ + Bias. With Gate, W
// is [2·Out, In], the rows of the gate first, and Y is silu(gate)·up. Sums are float64; Round, where given, rounds
// X·Norm before 1/rms, as a kernel does that multiplies in bf16.
type StepProduct struct {
	Rows, In, Out, LdX, LdY int
	X, Norm, W, Bias, Y     []float32
	Eps                     float32
	Add, Gate               bool
	Round                   func(float64) float64
}

// Run executes the kernel.
func (k *StepProduct) Run() {
	ldx, ldy := stride(k.LdX, k.In), stride(k.LdY, k.Out)
	x := make([]float64, k.In)
	for r := range k.Rows {
		k.norm(x, k.X[r*ldx:][:k.In])
		y := k.Y[r*ldy:][:k.Out]
		for o := range y {
			v := wideDot(x, k.W[o*k.In:][:k.In])
			if k.Gate {
				v *= wideDot(x, k.W[(k.Out+o)*k.In:][:k.In]) / (1 + math.Exp(-v))
			}
			if k.Bias != nil {
				v += float64(k.Bias[o])
			}
			if k.Add {
				v += float64(y[o])
			}
			y[o] = float32(v)
		}
	}
}

// norm is the row that is multiplied.
func (k *StepProduct) norm(y []float64, x []float32) {
	scale := 1.0
	if k.Norm != nil {
		squares := 0.0
		for _, v := range x {
			squares += float64(v) * float64(v)
		}
		scale = 1 / math.Sqrt(squares/float64(k.In)+float64(k.Eps))
	}
	for i, v := range x {
		y[i] = float64(v)
		if k.Norm != nil {
			y[i] *= float64(k.Norm[i])
		}
		if k.Round != nil {
			y[i] = k.Round(y[i])
		}
		y[i] *= scale
	}
}

// A StepHeads is a product for each of H heads: Y[r, h] = X[r, h]·W[h]ᵀ + Bias[h], with W [H, Out, In], Bias [H,
// Out] or nil, X and Y at strides LdX and LdY of a row and StepX and StepY of a head. The Copy columns that follow X's
// In go behind Y's Out unchanged.
type StepHeads struct {
	Rows, H, In, Out, Copy int
	LdX, StepX, LdY, StepY int
	X, W, Bias, Y          []float32
}

// Run executes the kernel.
func (k *StepHeads) Run() {
	for h := range k.H {
		x, y := k.X[h*k.StepX:], k.Y[h*k.StepY:]
		p := StepProduct{Rows: k.Rows, In: k.In, Out: k.Out, LdX: k.LdX, LdY: k.LdY, X: x, W: k.W[h*k.Out*k.In:], Y: y}
		if k.Bias != nil {
			p.Bias = k.Bias[h*k.Out:]
		}
		p.Run()
		for r := range k.Rows {
			copy(y[r*k.LdY+k.Out:][:k.Copy], x[r*k.LdX+k.In:])
		}
	}
}

// A StepPick is the place of each row's largest logit, the first of equals. Logits [Rows, V], Tokens [Rows].
type StepPick struct {
	Rows, V int
	Logits  []float32
	Tokens  []int32
}

// Run executes the kernel.
func (k *StepPick) Run() {
	for r := range k.Rows {
		best, row := 0, k.Logits[r*k.V:][:k.V]
		for i, v := range row {
			if v > row[best] {
				best = i
			}
		}
		k.Tokens[r] = int32(best)
	}
}

func stride(ld, width int) int {
	if ld == 0 {
		return width
	}
	return ld
}

func wideDot(x []float64, w []float32) (s float64) {
	for i, v := range x {
		s += v * float64(w[i])
	}
	return s
}
