package graph

// AddRMSNorm is the sum of a residual and a layer's output, and its norm, in one pass: sum = x + y and
// rmsnorm(sum)·w. It is an instruction of backends that fuse, never a node.
type AddRMSNorm struct{ RMSNorm }

// Kind names the fused pair.
func (AddRMSNorm) Kind() string { return "add.rmsnorm" }

// fusible says that a step and the next may become one.
func fusible(a, b Attr) bool {
	_, add := a.(Add)
	_, norm := b.(RMSNorm)
	return add && norm
}

// A fuser is a backend that has kernels for fused pairs.
type fuser interface{ fuses() }

// fuse joins each sum with the norm that follows it and reads it. In is x, y, w; Out is the sum and the norm.
func fuse(instrs []*Instr) []*Instr {
	var out []*Instr
	for i := 0; i < len(instrs); i++ {
		add := instrs[i]
		if _, ok := add.Attr.(Add); ok && i+1 < len(instrs) {
			next := instrs[i+1]
			if norm, ok := next.Attr.(RMSNorm); ok && norm.Groups == 1 && next.In[0] == add.Out[0].Buf {
				out = append(out, &Instr{
					Attr: AddRMSNorm{norm}, In: []Buf{add.In[0], add.In[1], next.In[1]},
					Out: []Out{add.Out[0], next.Out[0]}, Aux: next.Aux,
				})
				i++
				continue
			}
		}
		out = append(out, add)
	}
	return out
}
