//go:build gpu

package kernels

import (
	"math/bits"

	"headroom/internal/device"
)

// An Embed is Y[i] = Table[Tokens[i]], rows of C; zeros for a token outside the table. Tokens [N] int32; Table [V, C];
// Y [N, C].
type Embed struct {
	Tokens, Table, Y device.Buffer
	C                int
}

type embedArgs struct {
	tokens, table, y device.Ptr
	c, v             int32
}

var embedNames = forms("embed")

// Launch puts the kernel on the stream.
func (k *Embed) Launch(s *device.Stream) {
	t, n := k.Table.Type, k.Tokens.N
	if n == 0 || !fits(s, "embed", want{"Tokens", k.Tokens, n, device.I32}, want{"Y", k.Y, n * k.C, t}) {
		return
	}
	args := embedArgs{k.Tokens.Ptr, k.Table.Ptr, k.Y.Ptr, int32(k.C), int32(k.Table.N / k.C)}
	device.Launch(s, embedNames.of(t, k.C, k.Table, k.Y), device.Grid{X: n, Block: min(1024, 32*ceil(k.C, 32*pack(t)))},
		&args)
}

// An EmbedGrad is DTable[v] = Σ DY[i] over the i with Tokens[i] = v, in float32 and in a fixed order. Accumulate adds
// to DTable and touches only the rows of tokens that occur. A token outside the table is left out.
type EmbedGrad struct {
	Tokens, DY, DTable device.Buffer
	C                  int
	Accumulate         bool
}

type embedSortArgs struct {
	key, index, keyOut, indexOut, count device.Ptr
	n, v, shift, first                  int32
}

type embedGradArgs struct {
	key, index, dy, dtable, part device.Ptr
	n, c, v                      int32
}

const embedChunk = 32 // sorted rows of one block

var embedGradNames = forms("embed_grad")

// Scratch is the bytes that Launch takes from its stream's scratch memory.
func (k *EmbedGrad) Scratch() int {
	return 16*k.Tokens.N + 256*ceil(k.Tokens.N, 1024) + ceil(k.Tokens.N, embedChunk)*2*k.C*4 + 6*256
}

// Launch puts the kernels on the stream.
func (k *EmbedGrad) Launch(s *device.Stream) {
	t, n, v := k.DY.Type, k.Tokens.N, k.DTable.N/k.C
	if n == 0 || !fits(s, "embed_grad", want{"Tokens", k.Tokens, n, device.I32}, want{"DY", k.DY, n * k.C, t},
		want{"DTable", k.DTable, v * k.C, device.F32}) {
		return
	}
	work := s.Scratch(k.Scratch())
	if work == nil {
		return
	}
	if !k.Accumulate {
		s.Fill(k.DTable, 0)
	}
	key, index := k.sort(s, work, n, v)
	chunks := ceil(n, embedChunk)
	args := embedGradArgs{
		key, index, k.DY.Ptr, k.DTable.Ptr, work.Take(device.F32, chunks*2*k.C).Ptr, int32(n), int32(k.C), int32(v),
	}
	device.Launch(s, embedGradNames.of(t, k.C, k.DY), device.Grid{X: chunks, Y: ceil(k.C, 128*pack(t)), Block: 128}, &args)
	device.Launch(s, "embed_grad_runs", device.Grid{X: chunks, Y: ceil(k.C, 128), Block: 128}, &args)
}

// sort sorts the tokens, 6 bits at a time, and returns the buffers of sorted tokens and of their places.
func (k *EmbedGrad) sort(s *device.Stream, work *device.Arena, n, v int) (key, index device.Ptr) {
	blocks := ceil(n, 1024)
	count := work.Take(device.I32, 64*blocks)
	var keys, indices [2]device.Buffer
	for i := range keys {
		keys[i], indices[i] = work.Take(device.I32, n), work.Take(device.I32, n)
	}
	args := embedSortArgs{key: k.Tokens.Ptr, count: count.Ptr, n: int32(n), v: int32(v), first: 1}
	for pass := range ceil(bits.Len(uint(v)), 6) {
		args.keyOut, args.indexOut, args.shift = keys[pass%2].Ptr, indices[pass%2].Ptr, int32(6*pass)
		device.Launch(s, "embed_count", device.Grid{X: blocks, Block: 1024}, &args)
		device.Launch(s, "embed_place", device.Grid{X: blocks, Block: 1024}, &args)
		args.key, args.index, args.first = args.keyOut, args.indexOut, 0
	}
	return args.key, args.index
}
