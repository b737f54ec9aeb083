//go:build gpu

package kernels

import (
	"errors"
	"fmt"

	"headroom/internal/device"
)

// An Attention is causal attention o = softmax(Scale·q·kᵀ)·v, as kernels/ref has it. Q [B,T,H,P+R]; a key is P
// elements at K[((b·T+t)·G+g)·KStride] and the R elements KRope[b,t] that all heads share; a value is Dv elements at
// V[((b·T+t)·G+g)·VStride]; head h reads group h/(H/G). O [B,T,H,Dv]; LSE [B,H,T] = log Σ exp, float32.
//
// With Start, a multiple of 64, there are Start+T keys and values, and the queries are those of the last T: a prompt
// whose first tokens are in a cache. Gradients have no Start.
//
// With Window, and no Start, a query reads the last Window keys alone, its own with them; with Starts, and no Start, it
// reads no key before its document. Kernels of their own, compiled from the same files, do both: they go over the tiles
// that some query of theirs reads.
//
// In float32 widths are any up to 256; in bf16 P+R and Dv are multiples of 16 up to 256, P, R and the strides multiples
// of 8, and the buffers begin on 16 bytes. Hopper has kernels of its own for the widths (P+R)/Dv 64/64, 96/64, 96/96,
// 128/96, 128/128 and 192/128.
type Attention struct {
	B, T, H, G, P, R, Dv int
	Start, Window        int
	Starts               device.Buffer // [B,T] int32: where the document of each position starts in its row; or none
	Scale                float32
	Q, K, V, KRope       device.Buffer
	KStride, VStride     int
	O, LSE               device.Buffer
}

// An AttentionGrad is the gradient of Attention from its saved O and LSE. DK and DV have the strides of K and V. Tied:
// DV begins where DK does and its first P columns receive both gradients. DKRope [B,T,R] sums over all heads.
//
// On Hopper the gradients of the scores that DK needs go to scratch memory, from where DQ takes them: B·H·T² bytes,
// and a third of DQ's products. Recompute has DQ make them anew, as happens where they would take more than a gibibyte.
type AttentionGrad struct {
	Attention
	DO, DQ, DK, DV, DKRope device.Buffer
	Tied, Recompute        bool
}

// attentionArgs is AttentionArgs in attention_args.cuh.
type attentionArgs struct {
	q, k, v, kRope, o, lse                 device.Ptr
	dO, dQ, dK, dV, dKRope                 device.Ptr
	stats, ropeParts, queue                device.Ptr
	b, t, h, g, p, r, dv, kStride, vStride int32
	tied, chunk                            int32
	scale                                  float32
	dS                                     device.Ptr
	start, window                          int32
	starts, ends                           device.Ptr
}

// hopper gives the instance for this shape, if the device and the type have one.
func (k *Attention) hopper(s *device.Stream) (attentionTiles, bool) {
	tiles := hopperTiles
	if k.masked() {
		tiles = maskedTiles
	}
	t, ok := tiles[[2]int{k.P + k.R, k.Dv}]
	return t, ok && k.Q.Type == device.BF16 && s.Device().Compute == 90
}

// maskedTiles are hopperTiles for attention in a window or within documents.
var maskedTiles = func() map[[2]int]attentionTiles {
	all := map[[2]int]attentionTiles{}
	for widths, t := range hopperTiles {
		t.forward, t.query, t.key = t.forward+"_masked", t.query+"_masked", t.key+"_masked"
		if t.gradient != "" {
			t.gradient += "_masked"
		}
		all[widths] = t
	}
	return all
}()

// masked says that a query may read less than all keys up to its own.
func (k *Attention) masked() bool { return k.Window > 0 || !k.Starts.Nil() }

// kernel is the name of a kernel that any card has, for the type and where it is masked for that.
func (k *Attention) kernel(name string) string {
	if k.masked() {
		name += "_masked"
	}
	if k.Q.Type == device.BF16 {
		return name + "_portable"
	}
	return name + "_f32"
}

// heads is the number of query heads whose tiles are scheduled together. The tiles that run at once are then those of a
// few heads, nearly equal in length, and read the same keys at nearly the same time. It is a sixth of the
// multiprocessors, and no more heads than fill 2/5 of L2.
func (k *Attention) heads(s *device.Stream) int32 {
	share, bytes := k.H/k.G, 2*(k.Start+k.T)*(k.P+k.R+k.Dv)
	groups := min(s.Device().L2*2/5/bytes, ceil(s.Device().SMs/6, share), k.B*k.G)
	return int32(max(groups, 1) * share)
}

// Scratch is the bytes that Launch takes from its stream's scratch memory.
func (k *Attention) Scratch() int { return 256 }

// Scratch is the bytes that Launch takes from its stream's scratch memory, but for the gradients of scores.
func (k *AttentionGrad) Scratch() int {
	return 8*k.B*k.H*ceil(k.T, 64)*64 + 4*k.B*k.G*k.T*k.R + 4*k.ends() + 4*256
}

// ends is the number of keys whose last query the gradient finds first.
func (k *AttentionGrad) ends() int {
	if k.masked() {
		return k.B * k.T
	}
	return 0
}

// kept is the number of gradients of scores that are kept, in blocks of 64 queries by 64 keys: all up to the diagonal,
// or in a window those that bandOf of attention_tile.cuh counts.
func (k *AttentionGrad) kept(s *device.Stream) int {
	const limit = 1 << 30
	blocks := ceil(k.T, 64)
	n := k.B * k.H * blocks * (blocks + 1) / 2 * 64 * 64
	if k.Window > 0 {
		n = k.B * k.H * blocks * min((k.Window+62)/64+2, blocks) * 64 * 64
	}
	if t, ok := k.hopper(s); !ok || t.gradient == "" || k.Recompute || 2*n > limit {
		return 0
	}
	return n
}

// valid is an error for shapes that no kernel supports.
func (k *Attention) valid(s *device.Stream) bool {
	d, t := k.P+k.R, k.Q.Type
	rule := ""
	switch {
	case k.B < 0 || k.T < 0 || k.G < 1 || k.H%k.G != 0:
		rule = "G must divide H"
	case k.P < 1 || k.R < 0 || k.Dv < 1 || d > 256 || k.Dv > 256:
		rule = "P+R and Dv must be 1 to 256"
	case k.KStride < k.P || k.VStride < k.Dv:
		rule = "the strides must be at least P and Dv"
	case t == device.BF16 && (d%16 != 0 || k.Dv%16 != 0 || k.P%8 != 0 || k.KStride%8 != 0 || k.VStride%8 != 0):
		rule = "in bf16 P+R and Dv must be multiples of 16, P and the strides of 8"
	case k.B*k.H > 65535:
		rule = "B·H must be at most 65535"
	case k.Start < 0 || k.Start%64 != 0:
		rule = fmt.Sprintf("Start must be a multiple of 64, it is %d", k.Start)
	case k.Window < 0 || k.masked() && k.Start > 0:
		rule = fmt.Sprintf("a window must be positive and, as Starts, stand without Start, they are %d and %d", k.Window,
			k.Start)
	}
	if rule != "" {
		s.Fail(fmt.Errorf("kernels: attention: %s: B %d, T %d, H %d, G %d, P %d, R %d, Dv %d, strides %d and %d",
			rule, k.B, k.T, k.H, k.G, k.P, k.R, k.Dv, k.KStride, k.VStride))
		return false
	}
	rows, keys := k.B*k.T, k.B*(k.Start+k.T)
	if rows == 0 {
		return false
	}
	return fits(s, "attention", want{"Q", k.Q, rows * k.H * d, t}, want{"K", k.K, last(keys*k.G, k.KStride, k.P), t},
		want{"V", k.V, last(keys*k.G, k.VStride, k.Dv), t},
		want{"O", k.O, rows * k.H * k.Dv, t}, want{"LSE", k.LSE, rows * k.H, device.F32}) &&
		(k.R == 0 || fits(s, "attention", want{"KRope", k.KRope, keys * k.R, t})) &&
		(k.Starts.Nil() || fits(s, "attention", want{"Starts", k.Starts, rows, device.I32})) &&
		k.aligned(s, k.Q, k.K, k.V, k.KRope, k.O)
}

// last is the elements from the first row to the end of the last one.
func last(rows, stride, width int) int { return (rows-1)*stride + width }

func (k *Attention) aligned(s *device.Stream, bufs ...device.Buffer) bool {
	for _, b := range bufs {
		if b.Type == device.BF16 && b.Ptr%16 != 0 {
			s.Fail(fmt.Errorf("kernels: attention: a bf16 buffer must begin on 16 bytes, one is at %#x", b.Ptr))
			return false
		}
	}
	return true
}

func (k *Attention) args() attentionArgs {
	return attentionArgs{
		q: k.Q.Ptr, k: k.K.Ptr, v: k.V.Ptr, kRope: k.KRope.Ptr, o: k.O.Ptr, lse: k.LSE.Ptr,
		b: int32(k.B), t: int32(k.T), h: int32(k.H), g: int32(k.G), p: int32(k.P), r: int32(k.R), dv: int32(k.Dv),
		kStride: int32(k.KStride), vStride: int32(k.VStride), scale: k.Scale, start: int32(k.Start), window: int32(k.Window),
		starts: k.Starts.Ptr,
	}
}

// Launch puts the kernel on the stream.
func (k *Attention) Launch(s *device.Stream) {
	if !k.valid(s) {
		return
	}
	args, d := k.args(), k.P+k.R
	if t, ok := k.hopper(s); ok {
		work := s.Scratch(k.Scratch())
		if work == nil {
			return
		}
		queue := work.Take(device.I32, 2)
		s.Fill(queue, 0)
		args.queue = queue.Ptr
		args.chunk = k.heads(s)
		grid := min(ceil(k.T, 64*t.groups)*k.B*k.H, s.Device().SMs)
		device.Launch(s, t.forward, device.Grid{X: grid, Block: 128 * (t.groups + 1), Shared: t.forwardShared(d, k.Dv)},
			&args)
	} else if k.Q.Type == device.BF16 {
		device.Launch(s, k.kernel("attention_forward"), device.Grid{X: ceil(k.T, 64), Y: k.B * k.H, Z: ceil(k.Dv, 64),
			Block: 128, Shared: portableShared(d)}, &args)
	} else {
		device.Launch(s, k.kernel("attention_forward"), device.Grid{X: ceil(k.T, 32), Y: k.B * k.H, Block: 256,
			Shared: plainShared(d, k.Dv)}, &args)
	}
}

// Launch puts the kernels on the stream.
func (k *AttentionGrad) Launch(s *device.Stream) {
	rows, t := k.B*k.T, k.Q.Type
	if k.Start != 0 {
		s.Fail(errors.New("kernels: attention gradient: there is none behind cached tokens, Start must be 0"))
		return
	}
	if !k.valid(s) || !fits(s, "attention gradient", want{"DO", k.DO, rows * k.H * k.Dv, t},
		want{"DQ", k.DQ, rows * k.H * (k.P + k.R), t},
		want{"DK", k.DK, last(rows*k.G, k.KStride, k.P), t}, want{"DV", k.DV, last(rows*k.G, k.VStride, k.Dv), t}) ||
		k.R > 0 && !fits(s, "attention gradient", want{"DKRope", k.DKRope, rows * k.R, t}) ||
		!k.aligned(s, k.DO, k.DQ, k.DK, k.DV, k.DKRope) {
		return
	}
	if k.Tied && (k.P > k.Dv || k.DK.Ptr != k.DV.Ptr || k.KStride != k.VStride) {
		s.Fail(fmt.Errorf("kernels: attention gradient: a tied key must lie in the first columns of the value: P %d, Dv "+
			"%d, strides %d and %d, offset %d",
			k.P, k.Dv, k.KStride, k.VStride, k.DV.Ptr-k.DK.Ptr))
		return
	}
	kept := k.kept(s)
	work := s.Scratch(k.Scratch() + 2*kept + 256)
	if work == nil {
		return
	}
	args := k.args()
	args.dO, args.dQ, args.dK, args.dV, args.dKRope, args.tied = k.DO.Ptr, k.DQ.Ptr, k.DK.Ptr, k.DV.Ptr, k.DKRope.Ptr,
		flag(k.Tied)
	args.stats = work.Take(device.F32, 2*k.B*k.H*ceil(k.T, 64)*64).Ptr
	args.ropeParts = work.Take(device.F32, k.B*k.G*k.T*k.R).Ptr
	args.queue = work.Take(device.I32, 2).Ptr
	if kept > 0 {
		args.dS = work.Take(device.BF16, kept).Ptr
	}
	if _, ok := k.hopper(s); ok && k.masked() {
		n := k.ends()
		args.ends = work.Take(device.I32, n).Ptr
		device.Launch(s, "attention_ends", device.Grid{X: ceil(n, 256), Block: 256}, &args)
	}
	device.Launch(s, statisticsNames[t], device.Grid{X: 2 * ceil(k.T, 64), Y: k.H, Z: k.B, Block: 256}, &args)
	k.products(s, &args)
	if k.R > 0 {
		device.Launch(s, ropeGradientNames[t], device.Grid{X: ceil(k.T*k.R, 256), Y: k.B, Block: 256}, &args)
	}
}

var statisticsNames, ropeGradientNames = both("attention_statistics"), both("attention_rope_gradient")

// products launches the two kernels of the gradient: dK and dV, and dQ.
func (k *AttentionGrad) products(s *device.Stream, args *attentionArgs) {
	d := k.P + k.R
	if t, ok := k.hopper(s); ok {
		sms := s.Device().SMs
		args.chunk = int32(min(max(sms/4, 1), k.B*k.G)) // four tiles of a kv head at once, of nearly equal length
		device.Launch(s, t.key, device.Grid{X: min(ceil(k.T, 128)*k.B*k.G, sms), Block: 384, Shared: t.keyShared(d, k.Dv)},
			args)
		args.chunk = k.heads(s)
		if args.dS != 0 {
			device.Launch(s, t.gradient, device.Grid{X: min(ceil(k.T, 192)*k.B*k.H, sms), Block: 512,
				Shared: t.gradientShared(d)}, args)
		} else {
			device.Launch(s, t.query, device.Grid{X: min(ceil(k.T, 128)*k.B*k.H, sms), Block: 384,
				Shared: t.queryShared(d, k.Dv)}, args)
		}
	} else if k.Q.Type == device.BF16 {
		shared := portableGradientShared(d, k.Dv)
		device.Launch(s, k.kernel("attention_backward_query"), device.Grid{X: ceil(k.T, 64), Y: k.B * k.H, Z: ceil(d, 64),
			Block: 128, Shared: shared}, args)
		device.Launch(s, k.kernel("attention_backward_key"),
			device.Grid{X: ceil(k.T, 64), Y: k.B * k.G, Z: ceil(max(d, k.Dv), 64), Block: 128, Shared: shared + portableStats},
			args)
	} else {
		shared := plainGradientShared(d, k.Dv)
		device.Launch(s, k.kernel("attention_backward_query"),
			device.Grid{X: ceil(k.T, 32), Y: k.B * k.H, Block: 256, Shared: shared}, args)
		device.Launch(s, k.kernel("attention_backward_key"),
			device.Grid{X: ceil(k.T, 32), Y: k.B * k.G, Block: 256, Shared: shared}, args)
	}
}
