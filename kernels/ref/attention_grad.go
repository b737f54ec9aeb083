package ref

// An AttentionGrad is the gradient of Attention from its saved O and LSE: with P = exp(Scale·q·kᵀ - LSE) and δ =
// Σ dO·O per row, dS = Scale·P·(dO·vᵀ - δ), dQ = dS·k, dK = dSᵀ·q, dV = Pᵀ·dO; dKRope sums over all
// heads. DK and DV have the strides of K and V. Tied: DV overlaps DK from the same first column and the overlap
// receives the sum.
type AttentionGrad struct {
	Attention
	DO, DQ, DK, DV, DKRope []float32
	Tied                   bool

	rope []float32 // [B, G, T, R]: the part of each group
}

// Run executes the kernel on all cores: a core owns a group of one sequence, so every sum has one owner.
func (k *AttentionGrad) Run() {
	k.rope = cores.lock(k.B * k.G * k.T * k.R)
	defer cores.unlock()
	cores.run(k, k.B*k.G, 1)
	if k.R > 0 {
		cores.run((*foldRope)(k), k.B*k.T, 64)
	}
}

func (k *AttentionGrad) span(w *worker, lo, hi int) {
	E := k.P + k.R
	scratch := w.floats(2*k.T*E + 2*tileQ*tileK + k.T)
	keys, dk, delta := scratch[:k.T*E], scratch[k.T*E:2*k.T*E], scratch[2*k.T*E+2*tileQ*tileK:]
	p, dp := scratch[2*k.T*E:][:tileQ*tileK], scratch[2*k.T*E+tileQ*tileK:][:tileQ*tileK]
	for u := lo; u < hi; u++ {
		b, g := u/k.G, u%k.G
		k.packKeys(keys, b, g)
		clear(dk)
		for t := range k.T {
			clear(k.DV[((b*k.T+t)*k.G+g)*k.VStride:][:k.Dv])
		}
		for h := g * (k.H / k.G); h < (g+1)*(k.H/k.G); h++ {
			k.deltas(delta, b, h)
			for i := 0; i < k.T; i += tileQ {
				for j := k.first(b, i); j < min(i+tileQ, k.T); j += tileK {
					k.tile(keys, dk, p, dp, delta, b, h, i, j)
				}
			}
		}
		k.unpackKeys(dk, b, g)
	}
}

// deltas computes Σ dO·O of every row of a head.
func (k *AttentionGrad) deltas(delta []float32, b, h int) {
	for t := range k.T {
		at := ((b*k.T+t)*k.H + h) * k.Dv
		delta[t] = vec.dot(k.DO[at:at+k.Dv], k.O[at:at+k.Dv])
	}
}

// tile adds what the queries from row i and the keys from row j give each other.
func (k *AttentionGrad) tile(keys, dk, p, dp, delta []float32, b, h, i, j int) {
	E, g := k.P+k.R, h/(k.H/k.G)
	nq := min(tileQ, k.T-i)
	nk := min(tileK, i+nq-j)
	q, dq := k.Q[((b*k.T+i)*k.H+h)*E:], k.DQ[((b*k.T+i)*k.H+h)*E:]
	do := k.DO[((b*k.T+i)*k.H+h)*k.Dv:]
	v, dv := k.V[((b*k.T+j)*k.G+g)*k.VStride:], k.DV[((b*k.T+j)*k.G+g)*k.VStride:]
	key, dkey := keys[j*E:], dk[j*E:]
	lse := k.LSE[(b*k.H+h)*k.T+i:]

	sgemm(false, true, nq, nk, E, q, k.H*E, key, E, 0, p, tileK)                   // [nq, nk]
	sgemm(false, true, nq, nk, k.Dv, do, k.H*k.Dv, v, k.G*k.VStride, 0, dp, tileK) // [nq, nk]
	for r := range nq {
		row, drow := p[r*tileK:][:nk], dp[r*tileK:][:nk]
		hi := max(0, min(nk, i+r-j+1))
		lo := min(hi, max(0, k.first(b, i+r)-j))
		vec.exp(row[lo:hi], row[lo:hi], k.Scale, -lse[r])
		vec.ds(drow[lo:hi], row[lo:hi], delta[i+r], k.Scale)
		for _, x := range [][]float32{row, drow} {
			clear(x[:lo])
			clear(x[hi:])
		}
	}
	sgemm(true, false, nk, k.Dv, nq, p, tileK, do, k.H*k.Dv, 1, dv, k.G*k.VStride)                 // [nk, Dv]
	sgemm(true, false, nk, E, nq, dp, tileK, q, k.H*E, 1, dkey, E)                                 // [nk, P+R]
	sgemm(false, false, nq, E, nk, dp, tileK, key, E, min(float32(j-k.first(b, i)), 1), dq, k.H*E) // [nq, P+R]
}

// unpackKeys hands out the gradients dk [T, P+R] of a group's keys to DK and the group's part of DKRope.
func (k *AttentionGrad) unpackKeys(dk []float32, b, g int) {
	E := k.P + k.R
	for t := range k.T {
		row, out := dk[t*E:(t+1)*E], k.DK[((b*k.T+t)*k.G+g)*k.KStride:][:k.P]
		if k.Tied {
			shared := min(k.P, k.Dv)
			vec.add(out[:shared], out[:shared], row[:shared])
			copy(out[shared:], row[shared:k.P])
		} else {
			copy(out, row)
		}
		copy(k.rope[((b*k.G+g)*k.T+t)*k.R:][:k.R], row[k.P:])
	}
}

// foldRope is the second phase: DKRope[b, t] = Σ over the groups, in their order.
type foldRope AttentionGrad

func (k *foldRope) span(_ *worker, lo, hi int) {
	for row := lo; row < hi; row++ {
		b, t := row/k.T, row%k.T
		out := k.DKRope[row*k.R : (row+1)*k.R]
		clear(out)
		for g := range k.G {
			vec.add(out, out, k.rope[((b*k.G+g)*k.T+t)*k.R:][:k.R])
		}
	}
}
