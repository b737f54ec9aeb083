//go:build gpu

package device

import (
	"errors"
	"math"
	"os"
	"strings"
	"testing"
	"time"
)

// open skips the test where there is no GPU, and fails it there when HEADROOM_GPU_TESTS=1.
func open(t *testing.T) (*Device, *Stream) {
	t.Helper()
	d, err := Open(0)
	if err != nil && os.Getenv("HEADROOM_GPU_TESTS") == "1" {
		t.Fatal(err)
	}
	if err != nil {
		t.Skip(err)
	}
	s, err := d.NewStream()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d, s
}

func TestOpenErrors(t *testing.T) {
	if _, err := Open(0); err != nil {
		if os.Getenv("HEADROOM_GPU_TESTS") == "1" {
			t.Fatal(err)
		}
		if strings.Contains(err.Error(), "\n") || !strings.HasPrefix(err.Error(), "device: ") {
			t.Errorf("not one line of this package: %q", err)
		}
		return
	}
	if _, err := Open(99); err == nil || !strings.Contains(err.Error(), "there is no GPU 99: this machine has") {
		t.Errorf("GPU 99: %v", err)
	}
}

func TestMemory(t *testing.T) {
	d, s := open(t)
	if d.SMs < 1 || d.Compute < oldestCompute || d.Memory < 1<<30 || d.L2 < 1<<20 || d.Name == "" {
		t.Errorf("device %+v", d)
	}
	a, err := d.NewArena(1 << 20)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	x, y := a.Take(F32, 3), a.Take(F32, 3)
	if y.Ptr-x.Ptr != align || x.Ptr%align != 0 {
		t.Errorf("buffers at %#x and %#x", x.Ptr, y.Ptr)
	}
	host, err := NewPinned[float32](d, 3)
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	copy(host.Data, []float32{1, 2, 3})
	got := make([]float32, 3)
	Upload(s, x, host.Data)
	s.Copy(y, x)
	Download(s, got, y)
	if err := s.Sync(); err != nil || got[0] != 1 || got[1] != 2 || got[2] != 3 {
		t.Errorf("%v came back, error %v", got, err)
	}
	Upload(s, x, make([]float32, 4))
	if err := s.Sync(); err == nil || err.Error() != "device: upload of 16 bytes into 12" {
		t.Errorf("too long an upload: %v", err)
	}
	if _, err := d.Alloc(F32, 1<<42); err == nil ||
		!strings.Contains(err.Error(), "out of memory: 16384.00 GiB asked for") {
		t.Errorf("too much memory: %v", err)
	}
	if err := s.Sync(); err != nil {
		t.Errorf("the stream still has an error: %v", err)
	}
}

func TestEventsAndGraph(t *testing.T) {
	d, s := open(t)
	x, err := d.Alloc(U8, 1<<28)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Free(x)
	start, err := d.NewEvent()
	if err != nil {
		t.Fatal(err)
	}
	defer start.Close()
	end, err := d.NewEvent()
	if err != nil {
		t.Fatal(err)
	}
	defer end.Close()
	s.Fill(x, 1)
	g, err := s.Capture(func() { s.Fill(x, 2) })
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	got := make([]byte, 4)
	Download(s, got, x)
	if err := s.Sync(); err != nil || got[0] != 1 {
		t.Fatalf("capturing ran the work: %v, error %v", got, err)
	}
	s.Record(start)
	g.Launch(s)
	s.Record(end)
	Download(s, got, x)
	took, err := end.Since(start)
	if err != nil || took <= 0 || took > time.Second {
		t.Errorf("a fill took %v, error %v", took, err)
	}
	if err := s.Sync(); err != nil || got[3] != 2 {
		t.Errorf("the graph left %v, error %v", got, err)
	}
}

func TestLaunchErrors(t *testing.T) {
	d, s := open(t)
	args := struct{ X Ptr }{1}
	Launch(s, "nothing", Grid{X: 1, Block: 1}, &args)
	if err := s.Sync(); err == nil || !strings.Contains(err.Error(), "kernel nothing, grid {X:1") ||
		!strings.Contains(err.Error(), "no image of 0 holds this kernel") {
		t.Errorf("a kernel that is not there: %v", err)
	}
	if err := d.Load("rubbish", []byte("rubbish")); err == nil || !strings.Contains(err.Error(), "kernels rubbish") {
		t.Errorf("an image of rubbish: %v", err)
	}
}

func TestProduct(t *testing.T) {
	d, s := open(t)
	const m, n, k = 24, 16, 40
	x := make([]float32, m*k+k*n)
	for i := range x {
		x[i] = float32(i*7919%31) - 15
	}
	buf, err := d.Alloc(F32, len(x)+m*n)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Free(buf)
	Upload(s, buf, x)
	a, b, c := buf.Slice(0, m*k), buf.Slice(m*k, len(x)), buf.Slice(len(x), buf.N)
	p := Product{M: m, N: n, K: k, Lda: k, Ldb: n, Ldc: n, In: F32, Out: F32}
	if took, err := s.Tune(p, a, b, c, Buffer{}, false); err != nil || took <= 0 {
		t.Fatalf("tuning took %v, error %v", took, err)
	}
	s.Fill(c, 0xff)
	s.Multiply(p, a, b, c, Buffer{}, 0.5)
	got := make([]float32, m*n)
	Download(s, got, c)
	if err := s.Sync(); err != nil {
		t.Fatal(err)
	}
	for i := range got {
		var want float64
		for j := range k {
			want += 0.5 * float64(x[i/n*k+j]) * float64(x[m*k+j*n+i%n])
		}
		if math.Abs(float64(got[i])-want) > 1e-3 {
			t.Fatalf("c[%d] = %v, want %v", i, got[i], want)
		}
	}
	choices := d.Choices()
	if len(choices) != 1 {
		t.Errorf("choices %v", choices)
	}
	other, err := Open(0)
	if err != nil {
		t.Fatal(err)
	}
	for name := range choices {
		choices[name] = 0
	}
	other.Choose(choices)
	if again, err := other.NewStream(); err != nil {
		t.Error(err)
	} else if took, err := again.Tune(p, a, b, c, Buffer{}, false); took != 0 || err != nil {
		t.Errorf("tuning timed what was chosen: %v, error %v", took, err)
	} else if err := errors.Join(again.Close(), other.Close()); err != nil {
		t.Error(err)
	}
	d.profile = newProfile()
	s.Multiply(p, a, b, c, Buffer{}, 1)
	if err := s.Sync(); err != nil || d.profile.entries["product A·B 24x16x40 f32 to f32"].total <= 0 {
		t.Errorf("profile %v, error %v", d.profile.entries, err)
	}
	d.profile = nil
	p.Lda = k - 1
	s.Multiply(p, a, b, c, Buffer{}, 1)
	if err := s.Sync(); err == nil ||
		!strings.Contains(err.Error(), "product A·B 24x16x40 f32 to f32: A [24, 40] of f32 with row stride 39") {
		t.Errorf("a short row: %v", err)
	}
}

func TestProfileTable(t *testing.T) {
	p := newProfile()
	p.add("b", time.Millisecond)
	p.add("a", 3*time.Millisecond)
	p.add("b", 2*time.Millisecond)
	var out strings.Builder
	p.print(&out)
	lines := strings.Split(out.String(), "\n")
	if len(lines) != 4 || !strings.HasPrefix(lines[1], "a ") || !strings.Contains(lines[2], "1500.00") ||
		!strings.HasSuffix(lines[2], "50.0%") {
		t.Errorf("table\n%s", out.String())
	}
}

func TestPlanNames(t *testing.T) {
	seen := map[string]planKey{}
	base := Product{M: 1, N: 2, K: 3, Lda: 4, Ldb: 5, Ldc: 6, Batch: 2, StrideA: 7, StrideB: 8,
		StrideC: 9, In: BF16, Out: F32}
	keys := []planKey{{base, 16, 16, 16}, {base, 16, 16, 32}}
	for _, change := range []func(*Product){
		func(p *Product) { p.TransA = true }, func(p *Product) { p.TransB = true }, func(p *Product) { p.M = 9 },
		func(p *Product) { p.Lda = 9 },
		func(p *Product) { p.StrideC = 0 }, func(p *Product) { p.Batch = 3 }, func(p *Product) { p.Out = BF16 },
		func(p *Product) { p.Bias = true },
		func(p *Product) { p.Accumulate = true },
	} {
		p := base
		change(&p)
		keys = append(keys, planKey{p, 16, 16, 16})
	}
	for _, k := range keys {
		if other, ok := seen[k.name()]; ok {
			t.Errorf("%+v and %+v are both %q", k, other, k.name())
		}
		seen[k.name()] = k
	}
}
