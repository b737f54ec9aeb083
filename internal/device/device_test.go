package device

import (
	"math"
	"testing"
)

func TestBF16(t *testing.T) {
	for _, c := range []struct {
		x    float32
		bits uint16
	}{
		{0, 0}, {1, 0x3f80}, {-2, 0xc000}, {math.Float32frombits(0x3f808000), 0x3f80},
		{math.Float32frombits(0x3f818000), 0x3f82},
		{math.Float32frombits(0x3f808001), 0x3f81}, {math.MaxFloat32, 0x7f80}, {float32(math.Inf(-1)), 0xff80},
		{float32(math.NaN()), 0x7fc0},
	} {
		if got := ToBF16(c.x); got != c.bits {
			t.Errorf("ToBF16(%v) = %#x, want %#x", c.x, got, c.bits)
		}
	}
	for b := range 1 << 16 {
		x := FromBF16(uint16(b))
		if x == x && ToBF16(x) != uint16(b) {
			t.Fatalf("%#x does not come back: %#x", b, ToBF16(x))
		}
	}
}

func TestBuffer(t *testing.T) {
	b := Buffer{Ptr: 1024, N: 10, Type: BF16}
	if got, want := b.Slice(3, 7), (Buffer{Ptr: 1030, N: 4, Type: BF16}); got != want {
		t.Errorf("slice %+v, want %+v", got, want)
	}
	if b.Bytes() != 20 || b.At(5) != 1034 || b.Nil() || !(Buffer{}).Nil() {
		t.Errorf("bytes %d, at 5 %d, nil %v", b.Bytes(), b.At(5), b.Nil())
	}
	defer func() {
		if recover() == nil {
			t.Error("a slice beyond the buffer must panic")
		}
	}()
	b.Slice(0, 11)
}
