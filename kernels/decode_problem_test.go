package kernels

import (
	"math"
	"math/rand/v2"
	"testing"
)

// TestDecodeWork compares the counts with the paper's and with those worked out by hand for the speed table.
func TestDecodeWork(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for i, want := range []struct{ gigabytes, gflops float64 }{
		{2.286, 34.4}, {4.299, 34.4}, {1.227, 154.6}, {1.246, 309.2}, {1.210, 19.3}, {0.690, 154.6}, {1.212, 36.5},
		{1.244, 292.1}, {1.279, 584.1},
	} {
		d := DecodeTable(64)[i]
		bytes, flops := d.work(d.lengths(r))
		if math.Abs(bytes/1e9-want.gigabytes) > 0.02 || math.Abs(flops/1e9/want.gflops-1) > 0.01 {
			t.Errorf("%s, %d queries: %.3f GB, %.1f GFLOP, want %+v", d.Name, d.T, bytes/1e9, flops/1e9, want)
		}
	}
	ragged := DecodeProblem{DecodeShape: DecodeShape{B: 200}, S: 100, Ragged: true}
	sum := 0.0
	for _, n := range ragged.lengths(r) {
		if n < 1 || n > 200 {
			t.Fatalf("a length of %d", n)
		}
		sum += float64(n)
	}
	if mean := sum / 200; mean < 85 || mean > 115 {
		t.Errorf("mean length %v, want about 100", mean)
	}
}

func TestDecodeTime(t *testing.T) {
	d := DecodeTable(1)[0]
	lengths := make([]int32, d.B)
	for i := range lengths {
		lengths[i] = int32(d.S)
	}
	row := d.time([]float64{500, 600, 800}, lengths, 4000, 800)
	if row.Micros != 600 || row.Least != 500 || row.Most != 800 || row.Kind != "tied" || row.Page != 1 {
		t.Errorf("%+v", row)
	}
	if math.Abs(row.GBs*600e-6-2.287) > 0.01 || math.Abs(row.OfCopy-row.GBs/4000) > 1e-9 ||
		math.Abs(row.Intensity-15) > 0.1 {
		t.Errorf("%+v", row)
	}
}
