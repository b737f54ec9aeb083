package decode

import (
	"context"
	"strings"
	"testing"
)

func TestBench(t *testing.T) {
	m := tiny(t, "gta-2")
	r, err := Bench(context.Background(), m, OnCPU(), 3, 70, 2, 1e9)
	if err != nil {
		t.Fatal(err)
	}
	if r.Attention != "gta-2" || r.Batch != 3 || r.CacheBytes != 3*70*2*20*4 || r.FirstMillis <= 0 || r.TokenMillis <= 0 || r.StepBytes != r.CacheBytes+m.WeightBytes(4) {
		t.Errorf("%+v", r)
	}
	if m.Config.Context != 256 {
		t.Errorf("the benchmark changed the model's context to %d", m.Config.Context)
	}
	if _, err := Bench(context.Background(), m, OnCPU(), 1<<40, 70, 2, 1e9); err == nil || !strings.Contains(err.Error(), "the largest batch is ") {
		t.Errorf("a batch without end: %v", err)
	}
	stop, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Bench(stop, m, OnCPU(), 1, 8, 2, 1e9); err != context.Canceled {
		t.Errorf("cancelled: %v", err)
	}
}
