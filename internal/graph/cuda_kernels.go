//go:build gpu

package graph

import (
	"fmt"

	"headroom/internal/device"
	"headroom/kernels"
)

// launcher is a kernel with its buffers.
type launcher interface{ Launch(s *device.Stream) }

// tuner is a kernel that has a choice of algorithms for its shape.
type tuner interface {
	Tune(s *device.Stream) error
}

// Compile binds an instruction's buffers to the CUDA kernel of its op, and lets it choose its algorithms.
func (c *CUDA) Compile(in *Instr) (Kernel, error) {
	k, err := c.kernel(in)
	if err != nil {
		return nil, err
	}
	switch k := k.(type) {
	case *kernels.Gemm:
		_, err = k.Tune(c.stream, true)
	case tuner:
		err = k.Tune(c.stream)
	}
	return func() error {
		k.Launch(c.stream)
		return c.stream.Err()
	}, err
}

func (c *CUDA) kernel(in *Instr) (launcher, error) {
	x := func(i int) device.Buffer { return on(in.In[i]) }
	y := func(i int) device.Buffer { return on(in.Out[i].Buf) }
	switch a := in.Attr.(type) {
	case Linear, LinearDX, LinearDW, Logits:
		return cudaProduct(in), nil
	case ColSum:
		return &kernels.ColSum{X: x(0), Y: y(0), Rows: a.Rows, N: a.N, Accumulate: in.Out[0].Accumulate}, nil
	case Add:
		return &kernels.Add{X: x(0), Y: x(1), Out: y(0)}, nil
	case Copy:
		if in.In[0].Type != in.Out[0].Type {
			return nil, fmt.Errorf("cuda: no copy from %v to %v", in.In[0].Type, in.Out[0].Type)
		}
		if in.Out[0].Accumulate {
			return &kernels.Add{X: x(0), Y: y(0), Out: y(0)}, nil
		}
		return cudaCopy{y(0), x(0)}, nil
	case Embed:
		return &kernels.Embed{Tokens: x(1), Table: x(0), Y: y(0), C: a.C}, nil
	case EmbedGrad:
		return &kernels.EmbedGrad{Tokens: x(0), DY: x(1), DTable: y(0), C: a.C, Accumulate: in.Out[0].Accumulate}, nil
	case RMSNorm:
		if err := normFits(a.C, in.In[0].Type); err != nil {
			return nil, err
		}
		return &kernels.RMSNorm{X: x(0), W: x(1), Y: y(0), Rstd: on(in.Aux[0].Buf), Rows: a.Rows, Groups: a.Groups, C: a.C,
			Eps: float32(a.Eps)}, nil
	case AddRMSNorm:
		if err := normFits(a.C, in.In[0].Type); err != nil {
			return nil, err
		}
		return &kernels.RMSNorm{
			X: x(0), Add: x(1), W: x(2), Sum: y(0), Y: y(1), Rstd: on(in.Aux[0].Buf), Rows: a.Rows, Groups: 1, C: a.C,
			Eps: float32(a.Eps),
		}, nil
	case RMSNormGrad:
		return &kernels.RMSNormGrad{
			X: x(0), W: x(1), DY: x(3), Rstd: x(4), DX: y(0), DW: y(1), Rows: a.Rows, Groups: a.Groups, C: a.C,
			AccumulateDX: in.Out[0].Accumulate, AccumulateDW: in.Out[1].Accumulate,
		}, nil
	case Rope:
		table, err := c.ropeTable(a)
		return &kernels.Rope{X: x(0), Y: y(0), Table: table, B: a.B, T: a.T, Heads: a.Heads, D: a.D,
			R: a.R, Inverse: a.Inverse}, err
	case Repeat:
		return &kernels.Repeat{X: x(0), Y: y(0), Rows: a.Rows, Times: a.Times, Inner: a.Inner, Scale: float32(a.Scale)}, nil
	case Fold:
		return &kernels.Fold{X: x(0), Y: y(0), Rows: a.Rows, Times: a.Times, Inner: a.Inner, Scale: float32(a.Scale)}, nil
	case SwiGLU:
		return &kernels.SwiGLU{Gate: x(0), Up: x(1), Y: y(0)}, nil
	case SwiGLUGrad:
		return &kernels.SwiGLUGrad{Gate: x(0), Up: x(1), DY: x(2), DGate: y(0), DUp: y(1)}, nil
	case Expand:
		return &kernels.Expand{A: x(0), B: x(1), Y: y(0), Rows: a.Rows, H: a.H, R: a.R, D: a.D, Scale: float32(a.Scale)}, nil
	case ExpandGrad:
		return &kernels.ExpandGrad{A: x(0), B: x(1), DY: x(2), DA: y(0), DB: y(1), Rows: a.Rows, H: a.H, R: a.R, D: a.D,
			Scale: float32(a.Scale)}, nil
	case AddScaled:
		return &kernels.AddScaled{X: x(0), Z: x(1), A: x(2), Y: y(0), Rows: a.Rows, C: a.C}, nil
	case AddScaledGrad:
		return &kernels.AddScaledGrad{Z: x(0), A: x(1), DY: x(2), DZ: y(0), DA: y(1), Rows: a.Rows, C: a.C,
			Accumulate: in.Out[1].Accumulate}, nil
	case Gate:
		return &kernels.Gate{O: x(0), G: x(1), Y: y(0), Per: a.Per}, nil
	case GateGrad:
		return &kernels.GateGrad{O: x(0), G: x(1), DY: x(2), DO: y(0), DG: y(1), Per: a.Gate.Per}, nil
	case Columns:
		return &kernels.Columns{X: x(0), Y: y(0), From: a.From, To: a.To}, nil
	case GeGLU:
		return &kernels.GeGLU{Gate: x(0), Up: x(1), Y: y(0)}, nil
	case GeGLUGrad:
		return &kernels.GeGLUGrad{Gate: x(0), Up: x(1), DY: x(2), DGate: y(0), DUp: y(1)}, nil
	case Attend:
		k := cudaAttention(a, in.In)
		if a.Documents {
			k.Starts = on(in.In[3])
		}
		k.O, k.LSE = y(0), on(in.Aux[0].Buf)
		return k, nil
	case AttendGrad:
		return cudaAttentionGrad(a.Attend, in), nil
	case Loss:
		return c.loss(a, in)
	}
	return nil, fmt.Errorf("cuda: no kernel for %s", in.Attr.Kind())
}

// normFits says that there is no kernel for so wide a norm.
func normFits(c int, t DType) error {
	if most := kernels.NormMost(deviceTypes[t]); c > most {
		return fmt.Errorf("cuda: a norm of %d columns has no kernel: in %v the widest is of %d (model.width, a latent, or "+
			"all heads together where attention.qk_norm is all)", c, t, most)
	}
	return nil
}

type ropeKey struct {
	T, R   int
	rotary Rotary
}

// ropeTable is the device's copy of the angles, made once for a length, width and rotary embedding.
func (c *CUDA) ropeTable(a Rope) (device.Buffer, error) {
	key := ropeKey{a.T, a.R, a.Rotary}
	if table, ok := c.tables[key]; ok {
		return table, nil
	}
	host := kernels.RopeTable(a.T, a.R, a.Rotary)
	table, err := c.dev.Alloc(device.F32, len(host))
	if err != nil {
		return table, err
	}
	device.Upload(c.stream, table, host)
	c.tables[key] = table
	return table, c.stream.Sync()
}

// cudaCopy moves a buffer on the device.
type cudaCopy struct{ dst, src device.Buffer }

func (k cudaCopy) Launch(s *device.Stream) { s.Copy(k.dst, k.src) }

// cudaProduct is a row-major product in Groups blocks; strides advance by columns, as the blocks lie side by side.
func cudaProduct(in *Instr) *kernels.Gemm {
	g := &kernels.Gemm{A: on(in.In[0]), B: on(in.In[1]), C: on(in.Out[0].Buf), Accumulate: in.Out[0].Accumulate}
	switch a := in.Attr.(type) {
	case Linear:
		g.M, g.N, g.K, g.Batch = a.Rows, a.Out, a.In, a.Groups
		g.Lda, g.Ldb, g.Ldc = a.Groups*a.In, a.Out, a.Groups*a.Out
		g.StrideA, g.StrideB, g.StrideC = a.In, a.In*a.Out, a.Out
		if a.Bias {
			g.Bias = on(in.In[2])
		}
	case LinearDX:
		g.A, g.B, g.TransB = g.B, g.A, true
		g.M, g.N, g.K, g.Batch = a.Rows, a.In, a.Out, a.Groups
		g.Lda, g.Ldb, g.Ldc = a.Groups*a.Out, a.Out, a.Groups*a.In
		g.StrideA, g.StrideB, g.StrideC = a.Out, a.In*a.Out, a.In
	case LinearDW:
		g.TransA = true
		g.M, g.N, g.K, g.Batch = a.In, a.Out, a.Rows, a.Groups
		g.Lda, g.Ldb, g.Ldc = a.Groups*a.In, a.Groups*a.Out, a.Out
		g.StrideA, g.StrideB, g.StrideC = a.In, a.Out, a.In*a.Out
	case Logits:
		g.TransB = true
		g.M, g.N, g.K, g.Batch = a.B*a.T, a.V, a.C, 1
		g.Lda, g.Ldb, g.Ldc = a.C, a.C, a.V
	}
	return g
}

func cudaAttention(a Attend, in []Buf) *kernels.Attention {
	k := &kernels.Attention{B: a.B, T: a.T, Window: a.Window, H: a.H, G: a.G, P: a.P, R: a.R, Dv: a.Dv,
		Scale: float32(a.Scale),
		Q:     on(in[0]), K: on(in[1])}
	if a.Shared {
		kv := on(in[1])
		k.KStride, k.VStride = a.W, a.W
		k.V, k.KRope = kv.Slice(a.VOff, kv.N), on(in[2])
	} else {
		k.KStride, k.VStride = a.P, a.Dv
		k.V = on(in[2])
	}
	return k
}

func cudaAttentionGrad(a Attend, in *Instr) *kernels.AttentionGrad {
	g := &kernels.AttentionGrad{Attention: *cudaAttention(a, in.In), DO: on(in.In[4]), DQ: on(in.Out[0].Buf),
		DK: on(in.Out[1].Buf), Tied: a.Tied()}
	aux := in.In[5:]
	if a.Documents {
		g.Starts, aux = on(in.In[5]), in.In[6:]
	}
	g.O, g.LSE = on(in.In[3]), on(aux[0])
	if a.Shared {
		g.DV, g.DKRope = g.DK.Slice(a.VOff, g.DK.N), on(in.Out[2].Buf)
	} else {
		g.DV = on(in.Out[2].Buf)
	}
	return g
}

// loss leaves out the gradients when nobody reads them. Where the output is the mean, the likelihoods need a place of
// their own, and the other way round.
func (c *CUDA) loss(a Loss, in *Instr) (launcher, error) {
	const logitsBytes = 2 << 30 // of a chunk: each chunk but the first adds to the whole gradient of the head
	n := a.B * a.T
	k := &kernels.Classifier{Chunk: max(256, logitsBytes/(a.V*c.activation.Size())), X: on(in.In[0]), W: on(in.In[1]),
		Targets: on(in.In[2]), N: n, C: a.C, V: a.V, ZLoss: float32(a.ZLoss)}
	var err error
	if a.PerToken {
		k.NLL = on(in.Out[0].Buf)
		k.Loss, err = c.dev.Alloc(device.F32, 1)
		return k, err
	}
	k.Loss = on(in.Out[0].Buf)
	if !in.Aux[0].Missing() {
		k.DX, k.DW, k.Accumulate = on(in.Aux[0].Buf), on(in.Aux[1].Buf), in.Aux[1].Accumulate
	}
	k.NLL, err = c.dev.Alloc(device.F32, n)
	return k, err
}
