//go:build gpu

package cuda

import (
	"math/rand/v2"
	"strings"
	"testing"

	"headroom/attention"
	"headroom/decode"
	"headroom/decode/decodetest"
	"headroom/internal/device"
	"headroom/internal/graph"
)

// TestCUDAEntries: what a layer appends is in its own cache at the end of the layer, whether it attended or not, and
// another layer may read it. One token alone sees its own value.
func TestCUDAEntries(t *testing.T) {
	const heads, dim = 4, 64
	m := decodetest.Tiny(t, "mha", wide)
	d := openDevice(t, m, simulate(device.BF16), decode.Options{Pages: 3, Rows: 2})
	r := rand.New(rand.NewPCG(3, 1))
	row := func() (*tensor, []float32) {
		v, x := d.take(d.t, d.n, heads*dim), make([]float32, heads*dim)
		for i := range x {
			x[i] = float32(r.NormFloat64())
		}
		d.queue.uploadFloats(v.buf, x)
		return v, x
	}
	var b decode.Batch
	b.Add([]int32{2}, 0, []int32{7}, 1)
	key, step := d.bucket(b)
	if err := d.describe(b, key, step); err != nil {
		t.Fatal(err)
	}
	var values [2][]float32
	for layer := range values {
		k, _ := row()
		v, x := row()
		values[layer] = x
		d.Rope(give(k), heads, dim, graph.Rotary{Theta: 500})
		d.Append(layer, 0, give(k))
		d.Append(layer, 1, give(v))
		if layer == 0 { // which does not attend itself
			d.Release()
		}
	}
	read := attention.CacheRead{H: heads, P: dim, Dv: dim, K: 0, V: 1, Scale: 0.1}
	for layer := range values { // the entries of layer 1 wait while layer 0 is read
		q, _ := row()
		o := of(d.Attend(layer, d.Rope(give(q), heads, dim, graph.Rotary{Theta: 500}), read))
		got := make([]float32, heads*dim)
		d.queue.downloadFloats(got, o.buf)
		if err := d.queue.sync(); err != nil {
			t.Fatal(err)
		}
		decodetest.Near(t, "the only value", got, values[layer])
	}
}

// TestCUDARotatedValuesGoToAttention: what would lose its rotation is refused, loudly.
func TestCUDARotatedValuesGoToAttention(t *testing.T) {
	w := graph.Param{Name: "w", Shape: []int{8, 8}}
	p := &packed{n: 1, in: 8, out: 8, column: map[product]int{{w: "w"}: 0}}
	for name, use := range map[string]func(d *Device, x graph.Buf){
		"a product":  func(d *Device, x graph.Buf) { d.Linear(x, w, nil) },
		"a norm":     func(d *Device, x graph.Buf) { d.RMSNorm(x, w, 1e-5) },
		"a sum":      func(d *Device, x graph.Buf) { d.Add(give(&tensor{}), x) },
		"a gate":     func(d *Device, x graph.Buf) { d.SwiGLU(x, give(&tensor{})) },
		"a rotation": func(d *Device, x graph.Buf) { d.Rope(x, 1, 4, graph.Rotary{Theta: 500}) },
		"absorption": func(d *Device, x graph.Buf) {
			of(x).buf = device.Buffer{Ptr: 1 << 20, N: 8}
			d.AttendLatent(0, x, attention.LatentRead{H: 1, D: 6, R: 2, Wukv: graph.Param{Shape: []int{1, 8, 12}}})
		},
	} {
		func() {
			defer func() {
				if why, ok := recover().(string); !ok || !strings.HasPrefix(why, "decode: ") || !strings.Contains(why, "rotated") {
					t.Errorf("%s of a rotated value: %v", name, why)
				}
			}()
			d := &Device{weights: &weights{group: map[product]*packed{{w: "w"}: p}}}
			use(d, d.Rope(give(&tensor{width: 8}), 1, 4, graph.Rotary{Theta: 500}))
		}()
	}
}
