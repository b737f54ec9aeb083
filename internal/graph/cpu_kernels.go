package graph

import (
	"fmt"

	"headroom/kernels/ref"
)

// cpuKernel binds an instruction's buffers to the CPU kernel of its op.
func cpuKernel(in *Instr) func() {
	x := func(i int) []float32 { return floats(in.In[i]) }
	y := func(i int) []float32 { return floats(in.Out[i].Buf) }
	switch a := in.Attr.(type) {
	case Linear:
		return (&ref.Gemm{
			M: a.Rows, N: a.Out, K: a.In, A: x(0), B: x(1), C: y(0), Bias: bias(in, a.Bias),
			Lda: a.Groups * a.In, Ldb: a.Out, Ldc: a.Groups * a.Out,
			Batch: a.Groups, StrideA: a.In, StrideB: a.In * a.Out, StrideC: a.Out,
		}).Run
	case LinearDX:
		return (&ref.Gemm{
			TransB: true, M: a.Rows, N: a.In, K: a.Out, A: x(1), B: x(0), C: y(0), Accumulate: in.Out[0].Accumulate,
			Lda: a.Groups * a.Out, Ldb: a.Out, Ldc: a.Groups * a.In,
			Batch: a.Groups, StrideA: a.Out, StrideB: a.In * a.Out, StrideC: a.In,
		}).Run
	case LinearDW:
		return (&ref.Gemm{
			TransA: true, M: a.In, N: a.Out, K: a.Rows, A: x(0), B: x(1), C: y(0), Accumulate: in.Out[0].Accumulate,
			Lda: a.Groups * a.In, Ldb: a.Groups * a.Out, Ldc: a.Out,
			Batch: a.Groups, StrideA: a.In, StrideB: a.Out, StrideC: a.In * a.Out,
		}).Run
	case ColSum:
		return (&ref.ColSum{X: x(0), Y: y(0), Rows: a.Rows, N: a.N, Accumulate: in.Out[0].Accumulate}).Run
	case Add:
		return (&ref.Add{X: x(0), Y: x(1), Out: y(0)}).Run
	case Repeat:
		return (&ref.Repeat{X: x(0), Y: y(0), Rows: a.Rows, Times: a.Times, Inner: a.Inner, Scale: float32(a.Scale)}).Run
	case Fold:
		return (&ref.Fold{X: x(0), Y: y(0), Rows: a.Rows, Times: a.Times, Inner: a.Inner, Scale: float32(a.Scale)}).Run
	case Copy:
		if in.Out[0].Accumulate {
			return (&ref.Add{X: x(0), Y: y(0), Out: y(0)}).Run
		}
		src, dst := x(0), y(0)
		return func() { copy(dst, src) }
	case Embed:
		return (&ref.Embed{Tokens: tokens(in.In[1]), Table: x(0), Y: y(0), C: a.C}).Run
	case EmbedGrad:
		return (&ref.EmbedGrad{Tokens: tokens(in.In[0]), DY: x(1), DTable: y(0), C: a.C,
			Accumulate: in.Out[0].Accumulate}).Run
	case RMSNorm:
		return (&ref.RMSNorm{X: x(0), W: x(1), Y: y(0), Rstd: floats(in.Aux[0].Buf), Rows: a.Rows, Groups: a.Groups, C: a.C,
			Eps: float32(a.Eps)}).Run
	case RMSNormGrad:
		return (&ref.RMSNormGrad{
			X: x(0), W: x(1), DY: x(3), Rstd: x(4), DX: y(0), DW: y(1), Rows: a.Rows, Groups: a.Groups, C: a.C,
			AccumulateDX: in.Out[0].Accumulate, AccumulateDW: in.Out[1].Accumulate,
		}).Run
	case Rope:
		return (&ref.Rope{X: x(0), Y: y(0), B: a.B, T: a.T, Heads: a.Heads, D: a.D, R: a.R,
			Rotary: a.Rotary, Inverse: a.Inverse}).Run
	case GeGLU:
		return (&ref.GeGLU{Gate: x(0), Up: x(1), Y: y(0)}).Run
	case GeGLUGrad:
		return (&ref.GeGLUGrad{Gate: x(0), Up: x(1), DY: x(2), DGate: y(0), DUp: y(1)}).Run
	case SwiGLU:
		return (&ref.SwiGLU{Gate: x(0), Up: x(1), Y: y(0)}).Run
	case SwiGLUGrad:
		return (&ref.SwiGLUGrad{Gate: x(0), Up: x(1), DY: x(2), DGate: y(0), DUp: y(1)}).Run
	case Expand:
		return (&ref.Expand{A: x(0), B: x(1), Y: y(0), Rows: a.Rows, H: a.H, R: a.R, D: a.D, Scale: float32(a.Scale)}).Run
	case ExpandGrad:
		return (&ref.ExpandGrad{A: x(0), B: x(1), DY: x(2), DA: y(0), DB: y(1), Rows: a.Rows, H: a.H, R: a.R, D: a.D,
			Scale: float32(a.Scale)}).Run
	case AddScaled:
		return (&ref.AddScaled{X: x(0), Z: x(1), A: x(2), Y: y(0), Rows: a.Rows, C: a.C}).Run
	case AddScaledGrad:
		return (&ref.AddScaledGrad{Z: x(0), A: x(1), DY: x(2), DZ: y(0), DA: y(1), Rows: a.Rows, C: a.C,
			Accumulate: in.Out[1].Accumulate}).Run
	case Gate:
		return (&ref.Gate{O: x(0), G: x(1), Y: y(0), Per: a.Per}).Run
	case GateGrad:
		return (&ref.GateGrad{O: x(0), G: x(1), DY: x(2), DO: y(0), DG: y(1), Per: a.Gate.Per}).Run
	case Columns:
		return (&ref.Columns{X: x(0), Y: y(0), From: a.From, To: a.To}).Run
	case Attend:
		k := cpuAttention(a, in.In)
		if a.Documents {
			k.Starts = tokens(in.In[3])
		}
		k.O, k.LSE = y(0), floats(in.Aux[0].Buf)
		return k.Run
	case AttendGrad:
		return cpuAttentionGrad(a.Attend, in).Run
	case Loss:
		return cpuLoss(a, in)
	case Logits:
		return (&ref.Gemm{TransB: true, M: a.B * a.T, N: a.V, K: a.C, A: x(0), B: x(1), C: y(0), Lda: a.C,
			Ldb: a.C, Ldc: a.V, Batch: 1}).Run
	}
	panic(fmt.Sprintf("graph: cpu: no kernel for %s", in.Attr.Kind()))
}

func bias(in *Instr, has bool) []float32 {
	if !has {
		return nil
	}
	return floats(in.In[2])
}

// cpuAttention binds the operands: q, k, v apart, or q, kv and the shared rope key.
func cpuAttention(a Attend, in []Buf) *ref.Attention {
	k := &ref.Attention{B: a.B, T: a.T, H: a.H, G: a.G, P: a.P, R: a.R, Dv: a.Dv, Window: a.Window,
		Scale: float32(a.Scale), Q: floats(in[0]), K: floats(in[1])}
	if a.Shared {
		k.KStride, k.VStride = a.W, a.W
		k.V, k.KRope = floats(in[1])[a.VOff:], floats(in[2])
	} else {
		k.KStride, k.VStride = a.P, a.Dv
		k.V = floats(in[2])
	}
	return k
}

func cpuAttentionGrad(a Attend, in *Instr) *ref.AttentionGrad {
	g := &ref.AttentionGrad{Attention: *cpuAttention(a, in.In), DO: floats(in.In[4]), DQ: floats(in.Out[0].Buf),
		DK: floats(in.Out[1].Buf), Tied: a.Tied()}
	aux := in.In[5:]
	if a.Documents {
		g.Starts, aux = tokens(in.In[5]), in.In[6:]
	}
	g.O, g.LSE = floats(in.In[3]), floats(aux[0])
	if a.Shared {
		g.DV, g.DKRope = g.DK[a.VOff:], floats(in.Out[2].Buf)
	} else {
		g.DV = floats(in.Out[2].Buf)
	}
	return g
}

// cpuLoss leaves out the gradients when nobody reads them. Their order in Aux is x, head.
func cpuLoss(a Loss, in *Instr) func() {
	k := &ref.Classifier{
		X: floats(in.In[0]), W: floats(in.In[1]), Targets: tokens(in.In[2]),
		N: a.B * a.T, C: a.C, V: a.V, ZLoss: float32(a.ZLoss),
	}
	if a.PerToken {
		k.NLL, k.Loss = floats(in.Out[0].Buf), make([]float32, 1)
		return k.Run
	}
	k.NLL, k.Loss = make([]float32, k.N), floats(in.Out[0].Buf)
	if !in.Aux[0].Missing() {
		k.DX, k.DW, k.Accumulate = floats(in.Aux[0].Buf), floats(in.Aux[1].Buf), in.Aux[1].Accumulate
	}
	return k.Run
}
