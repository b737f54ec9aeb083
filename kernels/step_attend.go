//go:build gpu

package kernels

import (
	"fmt"
	"math"
	"math/bits"

	"headroom/internal/device"
)

// A StepAttend is attention of one new token of each of B requests, from the projections on, for small batches: it
// rotates queries and the new key (or norms the new latent), appends the token to its page and attends, in one launch.
// Shape is that of Decode with T = 1. A query of E = P+R columns has its last Rotate to be rotated: QRotate points at
// them, at QRotateRow elements from request to request and QRotateHead from head to head, and Q at those before. K [B,
// G, W], V and KRope [B, R] are the new token's, RowStride elements from request to request; Norm [G, W] is the
// latents', or absent. Table is RopeTable(positions, Rotate, rotary). Rotate is a multiple of 16, strides and addresses
// are multiples of 8 elements. A row of length 0 has no request, and its output is left as it is.
type StepAttend struct {
	DecodeShape
	Rotate                               int
	Scale, Eps                           float32
	Q, QRotate, K, V, KRope, Norm, Table device.Buffer
	QRow, QHead, QRotateRow, QRotateHead int
	KRow, VRow, KRopeRow                 int
	KCache, VCache, RopeCache            device.Buffer
	Pages, Lengths, O                    device.Buffer
}

// stepAttendArgs is StepAttendArgs in step_attend.cu.
type stepAttendArgs struct {
	q, qRotate, k, v, kRope, norm, table, kCache, vCache, ropeCache, pages, lengths, out device.Ptr
	qRow, qRotateRow, kRow, vRow, kRopeRow                                               int64
	qHead, qRotateHead, h, g, p, r, rotate, maxPages, pageShift, rowTiles                int32
	scale, eps                                                                           float32
}

// Launch puts the kernel on the stream.
func (k *StepAttend) Launch(s *device.Stream) {
	name, stages := k.stepAttend()
	if !k.StepAttends() || s.Device().Compute != 90 {
		s.Fail(
			fmt.Errorf(
				"kernels: step attend: no kernel for %s of %d columns with %d of the rope key, pages of %d and %d new tokens",
				k.Cache, k.Dv, k.R, k.Page, k.T))
		return
	}
	W, E, keys := k.Dv, k.P+k.R, k.KCache.N/(k.G*k.Dv)
	wants := []want{
		{"QRotate", k.QRotate, (k.B-1)*k.QRotateRow + (k.H-1)*k.QRotateHead + k.Rotate, device.BF16},
		{"K", k.K, (k.B-1)*k.KRow + k.G*W, device.BF16},
		{"O", k.O, k.B * k.H * k.Dv, device.BF16}, {"Pages", k.Pages, k.B * k.MaxPages, device.I32},
		{"Lengths", k.Lengths, k.B, device.I32},
	}
	width := W + k.R
	if k.Cache == KV {
		width = 2 * W
		wants = append(wants, want{"V", k.V, (k.B-1)*k.VRow + k.G*W, device.BF16},
			want{"VCache", k.VCache, keys * k.G * W, device.BF16})
	} else {
		wants = append(wants, want{"KRope", k.KRope, (k.B-1)*k.KRopeRow + k.R, device.BF16},
			want{"RopeCache", k.RopeCache, keys * k.R, device.BF16})
	}
	for _, n := range []int{k.Rotate / 2, k.QRow, k.QHead, k.QRotateRow, k.QRotateHead, k.KRow, k.VRow, k.KRopeRow} {
		if n%8 != 0 {
			s.Fail(fmt.Errorf("kernels: step attend: half the rotated columns and all strides must be multiples of 8, one is %d",
				n))
			return
		}
	}
	for _, b := range []device.Buffer{k.Q, k.QRotate, k.K, k.V, k.KRope, k.Norm, k.Table} {
		if b.Ptr%16 != 0 {
			s.Fail(fmt.Errorf("kernels: step attend: every input must begin on 16 bytes: %#x", b.Ptr))
			return
		}
	}
	if !fits(s, "step attend", wants...) {
		return
	}
	tiles := ceil(k.H/k.G, 16)
	cluster := 8
	for cluster > 1 && k.B*k.G*tiles*cluster > 2*s.Device().SMs {
		cluster /= 2
	}
	device.Launch(s, name, device.Grid{X: cluster, Y: k.G * tiles, Z: k.B, Block: 32 * stepAttendWarps,
		Shared: stepAttendShared(E, k.Dv, width, stages), Cluster: cluster, Overlap: true}, &stepAttendArgs{
		k.Q.Ptr, k.QRotate.Ptr, k.K.Ptr, k.V.Ptr, k.KRope.Ptr, k.Norm.Ptr, k.Table.Ptr, k.KCache.Ptr, k.VCache.Ptr,
		k.RopeCache.Ptr, k.Pages.Ptr, k.Lengths.Ptr, k.O.Ptr,
		int64(k.QRow), int64(k.QRotateRow), int64(k.KRow), int64(k.VRow), int64(k.KRopeRow),
		int32(k.QHead), int32(k.QRotateHead), int32(k.H), int32(k.G), int32(k.P), int32(k.R), int32(k.Rotate),
		int32(k.MaxPages),
		int32(bits.TrailingZeros(uint(k.Page))), int32(tiles), k.Scale * math.Log2E, k.Eps,
	})
}
