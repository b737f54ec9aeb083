//go:build gpu

package kernels

import (
	"fmt"
	"math/bits"

	"headroom/internal/device"
)

// A DecodeEmbed is Y[i] = Table[Given[i]-First], or Table[Drawn[j]-First] where Given[i] is -1-j, and zeros for a token
// that is not in the table. Given and Drawn int32; Table [V, C]; Y [N, C].
type DecodeEmbed struct {
	Given, Drawn, Table, Y device.Buffer
	C, First               int
}

type lookUpArgs struct {
	given, drawn, table, y device.Ptr
	c, v, first            int32
}

var lookUpNames = both("decode_look_up")

// Launch puts the kernel on the stream.
func (k *DecodeEmbed) Launch(s *device.Stream) {
	n, t := k.Given.N, k.Table.Type
	if n > 0 && fits(s, "decode embed", want{"Given", k.Given, n, device.I32}, want{"Y", k.Y, n * k.C, t}) {
		args := lookUpArgs{k.Given.Ptr, k.Drawn.Ptr, k.Table.Ptr, k.Y.Ptr, int32(k.C), int32(k.Table.N / k.C),
			int32(k.First)}
		device.Launch(s, lookUpNames[t], device.Grid{X: n, Block: 256, Overlap: true}, &args)
	}
}

// A DecodeNorm is RMSNorm of rows that lie Stride elements apart: X [Rows, Groups, C], W [Groups, C], Y [Rows, Groups,
// C] dense.
type DecodeNorm struct {
	X, W, Y                 device.Buffer
	Rows, Groups, C, Stride int
	Eps                     float32
}

type decodeNormArgs struct {
	x, w, y   device.Ptr
	stride    int64
	groups, c int32
	eps       float32
}

var decodeNormNames = both("decode_norm")

// Launch puts the kernel on the stream.
func (k *DecodeNorm) Launch(s *device.Stream) {
	t, width := k.X.Type, k.Groups*k.C
	if k.Rows > 0 && fits(s, "decode norm", want{"X", k.X, (k.Rows-1)*k.Stride + width, t}, want{"W", k.W, width, t},
		want{"Y", k.Y, k.Rows * width, t}) {
		args := decodeNormArgs{k.X.Ptr, k.W.Ptr, k.Y.Ptr, int64(k.Stride), int32(k.Groups), int32(k.C), k.Eps}
		device.Launch(s, decodeNormNames[t], device.Grid{X: k.Rows * k.Groups, Block: 256, Overlap: true}, &args)
	}
}

// A DecodeGate is SwiGLU of a product that holds gate and up side by side, or GeGLU: X [Rows, 2F], Y [Rows, F].
type DecodeGate struct {
	X, Y    device.Buffer
	Rows, F int
	GELU    bool // in its tanh form, in the place of silu
}

type decodeGateArgs struct {
	x, y device.Ptr
	n    int64
	f    int32
}

var decodeGateNames, decodeGELUNames = both("decode_gate"), both("decode_gelu")

// Launch puts the kernel on the stream.
func (k *DecodeGate) Launch(s *device.Stream) {
	t, n := k.X.Type, k.Rows*k.F
	if n > 0 && fits(s, "decode gate", want{"X", k.X, 2 * n, t}, want{"Y", k.Y, n, t}) {
		args := decodeGateArgs{k.X.Ptr, k.Y.Ptr, int64(n), int32(k.F)}
		name := decodeGateNames[t]
		if k.GELU {
			name = decodeGELUNames[t]
		}
		device.Launch(s, name, device.Grid{X: ceil(n, 256), Block: 256, Overlap: true}, &args)
	}
}

// A DecodeOutputGate is O = O·sigmoid(G) of rows, an element of G for Per elements of O that follow one another:
// O [Rows, Width], G [Rows, Width/Per] with Stride elements from row to row.
type DecodeOutputGate struct {
	G, O                     device.Buffer
	Rows, Width, Per, Stride int
}

type decodeOutputGateArgs struct {
	g, o       device.Ptr
	n, stride  int64
	width, per int32
}

var decodeOutputGateNames = both("decode_output_gate")

// Launch puts the kernel on the stream.
func (k *DecodeOutputGate) Launch(s *device.Stream) {
	t, n := k.O.Type, k.Rows*k.Width
	if n > 0 && fits(s, "decode output gate", want{"G", k.G, (k.Rows-1)*k.Stride + k.Width/k.Per, t},
		want{"O", k.O, n, t}) {
		args := decodeOutputGateArgs{k.G.Ptr, k.O.Ptr, int64(n), int64(k.Stride), int32(k.Width), int32(k.Per)}
		device.Launch(s, decodeOutputGateNames[t], device.Grid{X: ceil(n, 256), Block: 256, Overlap: true}, &args)
	}
}

// A DecodePart is one of the things that DecodePlace puts where attention reads it: Heads of Dim columns of each token,
// in X with XRow elements from token to token and XHead from head to head; Y likewise. Columns before First stay; the
// last Rotate are rotated by Table, which is RopeTable(positions, Rotate, rotary); the others are normed where Norm
// [Heads, Dim] is there.
type DecodePart struct {
	X, Y, Norm, Table         device.Buffer
	XRow, XHead, YRow, YHead  int
	Heads, Dim, Rotate, First int
	Cache                     bool // Y is a slot of the cache: rows go to their pages
}

// A DecodePlace rotates, norms and appends what N new tokens leave for attention, in one launch of up to four parts.
// Token i has position Positions[i] in the request whose pages are row Rows[i] of Pages [_, MaxPages]; one with row -1
// is left out.
type DecodePlace struct {
	Parts                  []DecodePart
	Positions, Rows, Pages device.Buffer
	N, Page, MaxPages      int
	Eps                    float32
}

type placePart struct {
	x, norm, y, table        device.Ptr
	xRow, yRow               int64
	xHead, yHead, heads, dim int32
	rotate, first, cache     int32
}

// PlaceParts is the most that one launch of DecodePlace places.
const PlaceParts = len(placeArgs{}.part)

type placeArgs struct {
	part                                 [4]placePart
	positions, rows, pages               device.Ptr
	count, n, heads, maxPages, pageShift int32
	eps                                  float32
}

var placeNames = both("decode_place")

// Launch puts the kernel on the stream.
func (k *DecodePlace) Launch(s *device.Stream) {
	args := placeArgs{
		positions: k.Positions.Ptr, rows: k.Rows.Ptr, pages: k.Pages.Ptr, count: int32(len(k.Parts)), n: int32(k.N),
		maxPages: int32(k.MaxPages), pageShift: int32(bits.TrailingZeros(uint(k.Page))), eps: k.Eps,
	}
	if len(k.Parts) < 1 || len(k.Parts) > len(args.part) {
		s.Fail(fmt.Errorf("kernels: decode place: 1 to %d parts: %d", len(args.part), len(k.Parts)))
		return
	}
	t := k.Parts[0].X.Type
	wants := []want{{"Positions", k.Positions, k.N, device.I32}, {"Rows", k.Rows, k.N, device.I32}}
	for i, p := range k.Parts {
		wants = append(wants, want{"X", p.X, (k.N-1)*p.XRow + (p.Heads-1)*p.XHead + p.Dim, t}, want{"Y", p.Y, p.YRow, t})
		args.part[i] = placePart{
			p.X.Ptr, p.Norm.Ptr, p.Y.Ptr, p.Table.Ptr, int64(p.XRow), int64(p.YRow), int32(p.XHead), int32(p.YHead),
			int32(p.Heads), int32(p.Dim),
			int32(p.Rotate), int32(p.First), flag(p.Cache),
		}
		args.heads += int32(p.Heads)
	}
	if k.N > 0 && fits(s, "decode place", wants...) {
		device.Launch(s, placeNames[t], device.Grid{X: ceil(k.N*int(args.heads), 4), Block: 128, Overlap: true}, &args)
	}
}

// A DecodeLargest is the first place of each row's largest logit: Logits [Rows, V] float32, Tokens [Rows] int32.
type DecodeLargest struct {
	Logits, Tokens device.Buffer
	Rows, V        int
}

type largestArgs struct {
	logits, token device.Ptr
	v             int32
}

// Launch puts the kernel on the stream.
func (k *DecodeLargest) Launch(s *device.Stream) {
	if k.Rows > 0 && fits(s, "decode largest", want{"Logits", k.Logits, k.Rows * k.V, device.F32},
		want{"Tokens", k.Tokens, k.Rows, device.I32}) {
		device.Launch(s, "decode_largest", device.Grid{X: k.Rows, Block: 1024, Overlap: true},
			&largestArgs{k.Logits.Ptr, k.Tokens.Ptr, int32(k.V)})
	}
}
