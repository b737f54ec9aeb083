//go:build gpu

package kernels

import (
	"fmt"

	"headroom/internal/device"
)

// StepMaxRows is how many rows the kernels of a decode step take.
const StepMaxRows = 16

// A StepProduct is Y = norm(X)·Wᵀ + Bias for up to StepMaxRows rows in bf16, with float32 sums: X [Rows, In] at row
// stride LdX, Norm [In] or absent, W [Out, In], Bias [Out] or absent, Y [Rows, Out] at row stride LdY; a stride of 0 is
// the width. Add makes it Y += X·Wᵀ + Bias. With Gate, W is [2·Out, In], the rows of the gate first, and Y is
// silu(gate)·up. In, strides and addresses are multiples of 8 elements. The bits of a row depend on no other row, nor
// on Rows.
//
// All Step kernels are launched so that they start, and ask for their weights, while the kernel before still runs.
type StepProduct struct {
	Rows, In, Out, LdX, LdY int
	X, Norm, W, Bias, Y     device.Buffer
	Eps                     float32
	Add, Gate               bool
}

// A StepHeads is a product for each of H heads: Y[r, h] = X[r, h]·W[h]ᵀ + Bias[h], with W [H, Out, In], Bias [H,
// Out] or absent, X and Y at strides LdX and LdY of a row and StepX and StepY of a head. The Copy columns that follow
// X's In go behind Y's Out unchanged.
type StepHeads struct {
	Rows, H, In, Out, Copy int
	LdX, StepX, LdY, StepY int
	X, W, Bias, Y          device.Buffer
}

// A StepLogits is norm(X)·Wᵀ in float32: X [Rows, C] at row stride LdX, Norm [C], W [V, C], Logits [Rows, V] at row
// stride LdY, or absent. Best [Rows, StepBests] (8 bytes an element) gets what StepPick needs.
type StepLogits struct {
	Rows, C, V, LdX, LdY     int
	X, Norm, W, Logits, Best device.Buffer
	Eps                      float32
}

// StepBests is how many elements of Best there are in a row.
const StepBests = 256

// stepProductArgs is StepProductArgs in step_product.cu.
type stepProductArgs struct {
	x, norm, w, bias, y, best device.Ptr
	rows, in, out, ldx, ldy   int32
	heads, stepX, stepY, copy int32
	tiles, slots              int32
	eps                       float32
}

const (
	stepWarps = 8
	stepUnit  = 64 // columns of W that a warp takes at a time, of 16 rows

	stepRing, stepRingWide = 6, 5 // units that a warp has under way, for up to 8 rows and for more
)

// A stepForm is what a kernel does with the sums; it has a kernel for each stepGrid.kind.
type stepForm int

const (
	stepPlain stepForm = iota
	stepAdd
	stepNorm
	stepGate
	stepLogits
)

var stepNames = [5][4]string{
	{"step_plain_n1_u4", "step_plain_n2_u3", "step_plain_n2_u4", "step_plain_n1_u4"},
	{"step_add_n1_u4", "step_add_n2_u3", "step_add_n2_u4", "step_add_n1_u8"},
	{"step_norm_n1_u4", "step_norm_n2_u3", "step_norm_n2_u4", "step_norm_n1_u4"},
	{"step_gate_n1_u4", "step_gate_n2_u3", "step_gate_n2_u4", "step_gate_n1_u4"},
	{"step_logits_n1_u4", "step_logits_n2_u3", "step_logits_n2_u4", "step_logits_n1_u4"},
}

// A stepGrid is how a product falls on blocks: the kernel by how many rows it has room for and how many units of X a
// warp keeps in registers (with more units than that it comes back to X for each tile), and how long a warp's ring is.
type stepGrid struct{ kind, slots, blocks int }

func newStepGrid(rows, in, tiles, sms int) stepGrid {
	units := ceil(in, stepUnit*stepWarps)
	blocks := ceil(tiles, ceil(tiles, min(sms, StepBests)))
	g := stepGrid{0, stepRing, blocks}
	switch {
	case rows > 8 && units <= 3:
		g.kind, g.slots = 1, stepRingWide
	case rows > 8:
		g.kind, g.slots = 2, stepRingWide
	case units > 4:
		g.kind = 3
	}
	g.slots = min(g.slots, units*ceil(tiles, blocks))
	return g
}

func (g stepGrid) launch(s *device.Stream, form stepForm, a *stepProductArgs) {
	a.slots = int32(g.slots)
	device.Launch(s, stepNames[form][g.kind], device.Grid{X: g.blocks, Block: 32 * stepWarps, Shared: stepWarps * g.slots *
		2048, Overlap: true}, a)
}

// stepFits reports shapes that the kernels do not take.
func stepFits(s *device.Stream, kernel string, rows int, multiples []int, wants ...want) bool {
	if rows < 0 || rows > StepMaxRows {
		s.Fail(fmt.Errorf("kernels: %s: up to %d rows are supported, they are %d", kernel, StepMaxRows, rows))
		return false
	}
	for _, n := range multiples {
		if n%8 != 0 {
			s.Fail(fmt.Errorf("kernels: %s: inner dimensions and strides must be multiples of 8, one is %d", kernel, n))
			return false
		}
	}
	for _, w := range wants {
		// what is read 16 bytes at a time; a Y with copied columns is written so
		if w.buf.Ptr%16 != 0 && (w.name == "X" || w.name == "W" || w.name == "Norm" || w.name == "Table" ||
			w.name == "Y with Copy") {
			s.Fail(fmt.Errorf("kernels: %s: %s must begin on 16 bytes: %#x", kernel, w.name, w.buf.Ptr))
			return false
		}
	}
	return fits(s, kernel, wants...)
}

// stride is ld, or the width where it is 0.
func stride(ld, width int) int {
	if ld == 0 {
		return width
	}
	return ld
}

// span is how many elements rows at a stride take.
func span(rows, ld, width int) int { return max(rows-1, 0)*ld + width }

// Launch puts the kernel on the stream.
func (k *StepProduct) Launch(s *device.Stream) {
	ldx, ldy, form, of, tile := stride(k.LdX, k.In), stride(k.LdY, k.Out), stepPlain, k.Out, 16
	switch {
	case k.Gate:
		form, of, tile = stepGate, 2*k.Out, 8
	case k.Add:
		form = stepAdd
	case !k.Norm.Nil():
		form = stepNorm
	}
	wants := []want{{"X", k.X, span(k.Rows, ldx, k.In), device.BF16}, {"W", k.W, of * k.In, device.BF16},
		{"Y", k.Y, span(k.Rows, ldy, k.Out), device.BF16}}
	if !k.Norm.Nil() {
		wants = append(wants, want{"Norm", k.Norm, k.In, device.BF16})
	}
	if !k.Bias.Nil() {
		wants = append(wants, want{"Bias", k.Bias, k.Out, device.BF16})
	}
	switch {
	case k.Gate && (k.Add || k.Norm.Nil() || !k.Bias.Nil()):
		s.Fail(fmt.Errorf("kernels: step product: a gate has a norm, no bias, and does not add"))
	case k.Add && !k.Norm.Nil():
		s.Fail(fmt.Errorf("kernels: step product: what is added has no norm"))
	case stepFits(s, "step product", k.Rows, []int{k.In, ldx}, wants...) && k.Rows*k.Out > 0:
		a := stepProductArgs{
			x: k.X.Ptr, norm: k.Norm.Ptr, w: k.W.Ptr, bias: k.Bias.Ptr, y: k.Y.Ptr, rows: int32(k.Rows), in: int32(k.In),
			out: int32(k.Out),
			ldx: int32(ldx), ldy: int32(ldy), heads: 1, tiles: int32(ceil(k.Out, tile)), eps: k.Eps,
		}
		newStepGrid(k.Rows, k.In, int(a.tiles), s.Device().SMs).launch(s, form, &a)
	}
}

// Launch puts the kernel on the stream.
func (k *StepHeads) Launch(s *device.Stream) {
	wants := []want{
		{"X", k.X, span(k.Rows, k.LdX, span(k.H, k.StepX, k.In+k.Copy)), device.BF16},
		{"W", k.W, k.H * k.Out * k.In, device.BF16},
		{"Y", k.Y, span(k.Rows, k.LdY, span(k.H, k.StepY, k.Out+k.Copy)), device.BF16},
	}
	if !k.Bias.Nil() {
		wants = append(wants, want{"Bias", k.Bias, k.H * k.Out, device.BF16})
	}
	multiples := []int{k.In, k.LdX, k.StepX, k.Copy}
	if k.Copy > 0 {
		multiples = append(multiples, k.Out, k.LdY, k.StepY)
		wants[2].name = "Y with Copy"
	}
	if stepFits(s, "step heads", k.Rows, multiples, wants...) && k.Rows*k.H*k.Out > 0 {
		a := stepProductArgs{
			x: k.X.Ptr, w: k.W.Ptr, bias: k.Bias.Ptr, y: k.Y.Ptr, rows: int32(k.Rows), in: int32(k.In), out: int32(k.Out),
			ldx: int32(k.LdX), ldy: int32(k.LdY),
			heads: int32(k.H), stepX: int32(k.StepX), stepY: int32(k.StepY), copy: int32(k.Copy), tiles: int32(ceil(k.Out, 16)),
		}
		newStepGrid(k.Rows, k.In, k.H*int(a.tiles), s.Device().SMs).launch(s, stepPlain, &a)
	}
}

// Launch puts the kernel on the stream.
func (k *StepLogits) Launch(s *device.Stream) {
	ldx, ldy := stride(k.LdX, k.C), stride(k.LdY, k.V)
	wants := []want{
		{"X", k.X, span(k.Rows, ldx, k.C), device.BF16}, {"Norm", k.Norm, k.C, device.BF16},
		{"W", k.W, k.V * k.C, device.BF16},
		{"Best", k.Best, k.Rows * StepBests, device.F64},
	}
	if !k.Logits.Nil() {
		wants = append(wants, want{"Logits", k.Logits, span(k.Rows, ldy, k.V), device.F32})
	}
	if stepFits(s, "step logits", k.Rows, []int{k.C, ldx}, wants...) && k.Rows*k.V > 0 {
		a := stepProductArgs{
			x: k.X.Ptr, norm: k.Norm.Ptr, w: k.W.Ptr, y: k.Logits.Ptr, best: k.Best.Ptr, rows: int32(k.Rows), in: int32(k.C),
			out: int32(k.V),
			ldx: int32(ldx), ldy: int32(ldy), heads: 1, tiles: int32(ceil(k.V, 16)), eps: k.Eps,
		}
		newStepGrid(k.Rows, k.C, int(a.tiles), s.Device().SMs).launch(s, stepLogits, &a)
	}
}
