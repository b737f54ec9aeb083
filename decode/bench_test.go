package decode_test

import (
	"context"
	"strings"
	"testing"

	"headroom/decode"
	"headroom/decode/decodetest"
	"headroom/decode/host"
)

func TestBenchPrefill(t *testing.T) {
	m := decodetest.Tiny(t, "gla-2")
	r, err := decode.BenchPrefill(context.Background(), m, host.New(), 3, 70, 1e12)
	if err != nil {
		t.Fatal(err)
	}
	head := 2.0 * 37 * 32
	want := 3 * (70*(m.ForwardFLOPs(70)-head) + head)
	if got := r.TFLOPs * 1e9 * r.Millis; r.Batch != 3 || got < 0.999*want || got > 1.001*want ||
		r.CeilingShare != r.TFLOPs || r.TokensPerSecond*r.Millis < 209999 {
		t.Errorf("%+v: %g operations, want %g", r, r.TFLOPs*1e9*r.Millis, want)
	}
	stop, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := decode.BenchPrefill(stop, m, host.New(), 1, 8, 1); err != context.Canceled {
		t.Errorf("cancelled: %v", err)
	}
}

func TestBench(t *testing.T) {
	m := decodetest.Tiny(t, "gta-2")
	r, err := decode.Bench(context.Background(), m, host.New(), 3, 70, 2, 1e9)
	if err != nil {
		t.Fatal(err)
	}
	if r.Attention != "gta-2" || r.Batch != 3 || r.CacheBytes != 3*70*2*20*4 || r.FirstMillis <= 0 || r.TokenMillis <= 0 ||
		r.StepBytes != r.CacheBytes+m.WeightBytes(4) {
		t.Errorf("%+v", r)
	}
	if m.Config.Context != 256 {
		t.Errorf("the benchmark changed the model's context to %d", m.Config.Context)
	}
	if _, err := decode.Bench(context.Background(), m, host.New(), 1<<40, 70, 2, 1e9); err == nil ||
		!strings.Contains(err.Error(), "the largest batch is ") {
		t.Errorf("a batch without end: %v", err)
	}
	stop, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := decode.Bench(stop, m, host.New(), 1, 8, 2, 1e9); err != context.Canceled {
		t.Errorf("cancelled: %v", err)
	}
}

// TestBenchInWindows measures a model with windows in contexts of many: what a step reads is counted so.
func TestBenchInWindows(t *testing.T) {
	m := decodetest.Windowed(t, "gqa-2", 70)
	r, err := decode.Bench(context.Background(), m, host.New(), 2, 500, 2, 1e9)
	if err != nil {
		t.Fatal(err)
	}
	token := int64(4 * m.CacheLayout(0).Elements())
	if r.CacheBytes != 2*token*(500+2*70) || r.TokenMillis <= 0 || r.FirstMillis <= 0 {
		t.Errorf("%+v", r)
	}
	p, err := decode.BenchPrefill(context.Background(), m, host.New(), 2, 500, 1e9)
	if err != nil || p.Millis <= 0 {
		t.Errorf("%+v, %v", p, err)
	}
}
