package ref

// An AddScaled is Y = X + A·Z, where column c of the rows of Z is multiplied by A[c]. X, Y, Z [Rows, C]; A [C]. Y may
// alias X or Z.
type AddScaled struct {
	X, Z, A, Y []float32
	Rows, C    int
}

// Run executes the kernel on all cores.
func (k *AddScaled) Run() { parallel(k, k.Rows, 1+words/k.C) }

func (k *AddScaled) span(_ *worker, lo, hi int) {
	for row := lo; row < hi; row++ {
		at := row * k.C
		x, z, y := k.X[at:at+k.C], k.Z[at:at+k.C], k.Y[at:at+k.C]
		for c, a := range k.A[:k.C] {
			y[c] = x[c] + a*z[c]
		}
	}
}

// An AddScaledGrad is DZ = A·DY and DA = Σ_rows Z·DY. Accumulate adds to DA.
type AddScaledGrad struct {
	Z, A, DY, DZ, DA []float32
	Rows, C          int
	Accumulate       bool
}

// Run executes the kernel on all cores.
func (k *AddScaledGrad) Run() { parallel(k, k.C, 64) }

func (k *AddScaledGrad) span(_ *worker, lo, hi int) {
	a, da := k.A[lo:hi], k.DA[lo:hi]
	if !k.Accumulate {
		clear(da)
	}
	for row := range k.Rows {
		z, dy, dz := k.Z[row*k.C+lo:row*k.C+hi], k.DY[row*k.C+lo:row*k.C+hi], k.DZ[row*k.C+lo:row*k.C+hi]
		for c, g := range dy {
			dz[c] = a[c] * g
			da[c] += z[c] * g
		}
	}
}
