package ref

// An Embed is Y[i] = Table[Tokens[i]], rows of C words.
type Embed struct {
	Tokens   []int32
	Table, Y []float32
	C        int
}

// Run executes the kernel on all cores.
func (k *Embed) Run() { parallel(k, len(k.Tokens), 256) }

func (k *Embed) span(_ *worker, lo, hi int) {
	for i := lo; i < hi; i++ {
		copy(k.Y[i*k.C:(i+1)*k.C], k.Table[int(k.Tokens[i])*k.C:])
	}
}

// An EmbedGrad is DTable[v] = Σ DY[i] over the i with Tokens[i] = v. Accumulate adds to DTable.
type EmbedGrad struct {
	Tokens     []int32
	DY, DTable []float32
	C          int
	Accumulate bool
}

// Run executes the kernel on all cores. A core owns columns, so every sum runs in the order of the tokens.
func (k *EmbedGrad) Run() { parallel(k, k.C, 64) }

func (k *EmbedGrad) span(_ *worker, lo, hi int) {
	if !k.Accumulate {
		for v := 0; v < len(k.DTable); v += k.C {
			clear(k.DTable[v+lo : v+hi])
		}
	}
	for i, t := range k.Tokens {
		row := k.DTable[int(t)*k.C+lo : int(t)*k.C+hi]
		vec.add(row, row, k.DY[i*k.C+lo:i*k.C+hi])
	}
}
