//go:build gpu

package cuda

import (
	"slices"

	"headroom/internal/device"
	"headroom/kernels"
	"headroom/kernels/ref"
)

// Bytes are the two of each cell's lower half.
type bytesView []uint32

func (p *simulation) bytes(b device.Buffer) bytesView { return p.view(b).cells }

func (v bytesView) get(i int) byte { return byte(v[i/2] >> (i % 2 * 8)) }

func (v bytesView) set(i int, x byte) {
	shift := i % 2 * 8
	v[i/2] = v[i/2]&^(0xff<<shift) | uint32(x)<<shift
}

// vector is what a head of a slot holds: numbers, or bytes where there are scales.
func (p *simulation) vector(x, scales device.Buffer, slot, head, heads, dim, page int) []float32 {
	if scales.Nil() {
		return p.view(x).row((slot*heads+head)*dim, dim)
	}
	codes, y, v := make([]ref.E4M3, dim), make([]float32, dim), p.bytes(x)
	for i := range codes {
		codes[i] = v.get((slot*heads+head)*dim + i)
	}
	ref.DequantizeE4M3(y, codes, p.bytes(scales).get((slot/page*heads+head)*page+slot%page))
	return y
}

func (p *simulation) placeFP8(k *kernels.DecodePlaceFP8) {
	positions, rows := p.view(k.Positions), p.view(k.Rows)
	for i := range k.N {
		row, position := int(rows.int(i)), int(positions.int(i))
		if row < 0 {
			continue
		}
		slot := p.slot(k.Pages, row*k.MaxPages, k.Page, position)
		for _, e := range k.Entries {
			y, scales := p.bytes(e.Y), p.bytes(e.Scales)
			for h := range e.Heads {
				x := p.view(e.X).row(i*e.XRow+h*e.XHead, e.Dim)
				still := e.Dim - e.Rotate
				turned := x[still:]
				if e.Rotate > 0 {
					turned = rotated(turned, p.view(e.Table), position)
				}
				if !e.Norm.Nil() {
					x = normed(slices.Clone(x), p.all(e.Norm)[h*e.Dim:], k.Eps)
				}
				copy(x[still:], turned)
				codes := make([]ref.E4M3, e.Dim)
				scale := ref.QuantizeE4M3(codes, x)
				for c, b := range codes {
					y.set((slot*e.Heads+h)*e.Dim+c, b)
				}
				scales.set((slot/k.Page*e.Heads+h)*k.Page+slot%k.Page, scale)
			}
		}
	}
}
