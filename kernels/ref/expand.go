package ref

// An Expand is Y[row] = Scale·A[row]·B[row], small products of factors: A [Rows, H, R], B [Rows, R, D], Y [Rows, H, D].
type Expand struct {
	A, B, Y       []float32
	Rows, H, R, D int
	Scale         float32
}

// Run executes the kernel on all cores.
func (k *Expand) Run() { parallel(k, k.Rows, 1+words/(k.H*k.D)) }

func (k *Expand) span(_ *worker, lo, hi int) {
	for i := lo; i < hi; i++ {
		b := k.B[i*k.R*k.D:][:k.R*k.D]
		for h := i * k.H; h < (i+1)*k.H; h++ {
			a, y := k.A[h*k.R:][:k.R], k.Y[h*k.D:][:k.D]
			clear(y)
			for r, x := range a {
				x *= k.Scale
				for d, z := range b[r*k.D:][:k.D] {
					y[d] += x * z
				}
			}
		}
	}
}

// An ExpandGrad is DA[row] = Scale·DY[row]·B[row]ᵀ and DB[row] = Scale·A[row]ᵀ·DY[row].
type ExpandGrad struct {
	A, B, DY, DA, DB []float32
	Rows, H, R, D    int
	Scale            float32
}

// Run executes the kernel on all cores.
func (k *ExpandGrad) Run() { parallel(k, k.Rows, 1+words/(k.H*k.D)) }

func (k *ExpandGrad) span(_ *worker, lo, hi int) {
	for i := lo; i < hi; i++ {
		b, db := k.B[i*k.R*k.D:][:k.R*k.D], k.DB[i*k.R*k.D:][:k.R*k.D]
		clear(db)
		for h := i * k.H; h < (i+1)*k.H; h++ {
			dy := k.DY[h*k.D:][:k.D]
			for r, x := range k.A[h*k.R:][:k.R] {
				k.DA[h*k.R+r] = k.Scale * vec.dot(dy, b[r*k.D:][:k.D])
				x *= k.Scale
				to := db[r*k.D:][:k.D]
				for d, g := range dy {
					to[d] += x * g
				}
			}
		}
	}
}
