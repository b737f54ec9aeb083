//go:build gpu

package graph

import (
	"strings"
	"testing"
)

// TestWidestNorm: a norm of more columns than the kernels take is refused before anything runs, in each precision.
func TestWidestNorm(t *testing.T) {
	c := &CUDA{}
	for typ, most := range map[DType]int{BF16: 4096, F32: 2048} {
		for _, columns := range []int{64, most, most + 8} {
			for name, a := range map[string]Attr{"alone": RMSNorm{Rows: 2, Groups: 1, C: columns},
				"after a sum": AddRMSNorm{RMSNorm{Rows: 2, Groups: 1, C: columns}}} {
				in := &Instr{Attr: a, In: make([]Buf, 3), Out: make([]Out, 2), Aux: make([]Out, 1)}
				in.In[0].Type = typ
				_, err := c.kernel(in)
				if (err != nil) != (columns > most) || err != nil && !strings.Contains(err.Error(), "attention.qk_norm is all") {
					t.Errorf("%d columns in %v, %s: %v", columns, typ, name, err)
				}
			}
		}
	}
}
