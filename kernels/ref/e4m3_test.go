package ref

import (
	"bytes"
	"math"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
)

// TestE4M3IsNVIDIAs holds every byte, and every float that lies at or beside a value or a midpoint, against what the
// conversions of cuda_fp8.h said.
func TestE4M3IsNVIDIAs(t *testing.T) {
	text, err := os.ReadFile("testdata/e4m3.txt")
	if err != nil {
		t.Fatal(err)
	}
	values, floats := 0, 0
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if f[0] == "#" {
			continue
		}
		hex := func(s string) uint32 {
			n, err := strconv.ParseUint(s, 16, 32)
			if err != nil {
				t.Fatal(err)
			}
			return uint32(n)
		}
		same := func(got, want float32) bool {
			return math.Float32bits(got) == math.Float32bits(want) || got != got && want != want
		}
		switch f[0] {
		case "byte":
			values++
			b, want := E4M3(hex(f[1])), math.Float32frombits(hex(f[2]))
			if got := FromE4M3[b]; !same(got, want) {
				t.Errorf("byte %02x is %v, not %v", b, got, want)
			}
			if back := ToE4M3(want); back != b && b&0x7f != 0x7f {
				t.Errorf("byte %02x comes back as %02x", b, back)
			}
		case "float":
			floats++
			x, want := math.Float32frombits(hex(f[1])), E4M3(hex(f[2]))
			if got := ToE4M3(x); got != want {
				t.Errorf("%v becomes %02x, not %02x", x, got, want)
			}
		}
	}
	if values != 256 || floats < 1000 {
		t.Errorf("%d bytes and %d floats were recorded", values, floats)
	}
}

// TestE4M3IsTheNearest holds random floats against the nearest of all values, found by looking at each of them.
func TestE4M3IsTheNearest(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 1))
	for range 20000 {
		x := float32(math.Ldexp(r.NormFloat64(), r.IntN(26)-14))
		got, best := float64(FromE4M3[ToE4M3(x)]), math.Inf(1)
		for _, v := range FromE4M3 {
			if d := math.Abs(float64(v) - float64(x)); d < best {
				best = d
			}
		}
		if math.Abs(got-float64(x)) != best || math.Signbit(got) != (x < 0) {
			t.Fatalf("%v becomes %v, which is %v away, and the nearest is %v away", x, got, math.Abs(got-float64(x)), best)
		}
	}
}

// TestQuantizeE4M3 holds vectors of any size against the rule in float64: the least power of two by which nothing is
// above 448, and each element rounded by it.
func TestQuantizeE4M3(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 2))
	for range 3000 {
		x := make([]float32, 1+r.IntN(40))
		size := r.IntN(180) - 80
		top := 0.0
		for i := range x {
			x[i] = float32(math.Ldexp(r.NormFloat64(), size-r.IntN(12)))
			top = max(top, math.Abs(float64(x[i])))
		}
		codes, y := make([]E4M3, len(x)), make([]float32, len(x))
		scale := QuantizeE4M3(codes, x)
		DequantizeE4M3(y, codes, scale)
		k := int(scale) - 127
		if top > math.Ldexp(448, k) || top <= math.Ldexp(224, k) {
			t.Fatalf("the largest of %v has a scale of 2^%d", top, k)
		}
		for i := range x {
			d, v := math.Abs(float64(y[i])-float64(x[i])), math.Abs(float64(x[i]))
			if d > max(v/16, math.Ldexp(1, k-10)) {
				t.Fatalf("%v is read as %v at a scale of 2^%d", x[i], y[i], k)
			}
			if float64(y[i]) != math.Ldexp(float64(FromE4M3[codes[i]]), k) || math.Float32bits(y[i])&0xffff != 0 {
				t.Fatalf("%v is not a byte times 2^%d, or not exact in bf16", y[i], k)
			}
		}
		again, z := make([]E4M3, len(x)), make([]float32, len(x))
		DequantizeE4M3(z, again, QuantizeE4M3(again, y))
		for i := range z {
			if z[i] != y[i] {
				t.Fatalf("what was quantised changes when it is quantised again: %v to %v", y[i], z[i])
			}
		}
	}
}

// TestQuantizeE4M3AtTheEnds: zeros, the smallest and largest floats, and what is no number.
func TestQuantizeE4M3AtTheEnds(t *testing.T) {
	read := func(x ...float32) []float32 {
		codes, y := make([]E4M3, len(x)), make([]float32, len(x))
		DequantizeE4M3(y, codes, QuantizeE4M3(codes, x))
		return y
	}
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	if y := read(0, 0); y[0] != 0 || y[1] != 0 {
		t.Errorf("zeros are read as %v", y)
	}
	if y := read(math.SmallestNonzeroFloat32, -0x1p-130); y[0] != 0 || y[1] != 0 {
		t.Errorf("floats that are lost are read as %v", y)
	}
	if y := read(math.MaxFloat32, -1); y[0] != 448*0x1p119 || y[1] != 0 {
		t.Errorf("the largest float is read as %v, not the largest that there is", y)
	}
	for _, bad := range []float32{inf, -inf, nan} {
		for i, v := range read(1, bad, 2) {
			if v == v {
				t.Errorf("beside %v, element %d is read as %v", bad, i, v)
			}
		}
	}
	fresh, y := bytes.Repeat([]byte{0xff}, 3), make([]float32, 3)
	if DequantizeE4M3(y, fresh, 0xff); y[0] == y[0] {
		t.Errorf("a cache that was never written is read as %v", y)
	}
}
