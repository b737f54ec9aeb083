package kernels

import (
	"fmt"
	"strings"
	"testing"
)

const (
	h200SMs    = 132
	h200Shared = 232448
)

func TestDecodeCheck(t *testing.T) {
	good := DecodeShape{Cache: Latent, B: 1, T: 1, H: 16, G: 2, P: 256, R: 64, Dv: 256, Page: 64, MaxPages: 4}
	for _, c := range []struct {
		change func(*DecodeShape)
		want   string
	}{
		{func(d *DecodeShape) {}, ""},
		{func(d *DecodeShape) { d.B = 0 }, "1 to 1048576 requests: 0"},
		{func(d *DecodeShape) { d.T = 9 }, "1 to 8 new tokens: 9"},
		{func(d *DecodeShape) { d.G = 3 }, "3 kv heads do not divide 16 query heads"},
		{func(d *DecodeShape) { d.P, d.Dv = 320, 320 }, "latent: value dimension [128 192 256 384 512]: 320"},
		{func(d *DecodeShape) { d.R = 16 }, "latent: rope dimension [32 48 64]: 16"},
		{func(d *DecodeShape) { d.Cache, d.P, d.R, d.Dv = KV, 80, 0, 80 }, "kv: value dimension [64 96 128]: 80"},
		{func(d *DecodeShape) { d.Cache, d.P, d.R, d.Dv = KV, 64, 0, 128 },
			"kv: key and value have one dimension: 64 and 128"},
		{func(d *DecodeShape) { d.Cache, d.P, d.R, d.Dv = KV, 64, 32, 64 },
			"kv: heads of keys that are apart from their values share no columns: 32"},
		{func(d *DecodeShape) { d.Cache = "" }, `a cache is kept as kv, tied or latent, not ""`},
		{func(d *DecodeShape) { d.P = 128 }, "latent: key and value have one dimension: 128 and 256"},
		{func(d *DecodeShape) { d.Cache, d.P, d.R, d.Dv = Tied, 64, 32, 128 },
			"tied: 64 columns of the state and 32 of the rope key make the key's 128"},
		{func(d *DecodeShape) { d.Page = 24 }, "page size: a power of two from 1 to 256: 24"},
		{func(d *DecodeShape) { d.Page = 512 }, "page size: a power of two from 1 to 256: 512"},
		{func(d *DecodeShape) { d.MaxPages = 0 }, "pages a request: 0"},
		{func(d *DecodeShape) { d.Piece = 32 }, "pieces: 0 or a power of two from 64: 32"},
	} {
		d := good
		c.change(&d)
		err := d.Check()
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%+v: %v, want %q", d, err, c.want)
		}
	}
}

// TestDecodeTilings fixes how the shapes of the speed table run on an H200.
func TestDecodeTilings(t *testing.T) {
	for _, c := range []struct {
		T, H, G, P, R, Dv int
		want              string // decode_, the cache, its columns and so on
	}{
		{1, 64, 8, 64, 64, 128, "decode_tied_128_n1 66x2 blocks of 384, 4 heads, 1 warps of rows, 5 stages"},
		{1, 64, 8, 128, 0, 128, "decode_kv_128_n1 66x2 blocks of 384, 4 heads, 1 warps of rows, 3 stages"},
		{2, 64, 8, 128, 0, 128, "decode_kv_128_n2 33x4 blocks of 384, 2 heads, 1 warps of rows, 3 stages"},
		{1, 24, 4, 32, 32, 64, "decode_tied_64_n1 132x1 blocks of 384, 4 heads, 1 warps of rows, 5 stages"},
		{1, 24, 4, 64, 0, 64, "decode_kv_64_n1 132x1 blocks of 384, 4 heads, 1 warps of rows, 3 stages"},
		{1, 8, 1, 64, 0, 64, "decode_kv_64_n1 132x1 blocks of 256, 1 heads, 1 warps of rows, 6 stages"},
		{8, 64, 1, 128, 0, 128, "decode_kv_128_n4 66x2 blocks of 384, 1 heads, 8 warps of rows, 10 stages"},
		{1, 128, 2, 256, 64, 256, "decode_latent_256_split 66x2 blocks of 384, 1 heads, 1 warps of rows, 4 stages"},
		{2, 128, 2, 256, 64, 256, "decode_latent_256_pair 66x2 blocks of 384, 1 heads, 1 warps of rows, 3 stages"},
		{2, 64, 1, 256, 64, 256, "decode_latent_256_pair 132x1 blocks of 384, 1 heads, 1 warps of rows, 3 stages"},
		{1, 16, 1, 512, 64, 512, "decode_latent_512_wide 132x1 blocks of 384, 1 heads, 1 warps of rows, 2 stages"},
		{2, 128, 1, 512, 64, 512, "decode_latent_512_seesaw 33x4 blocks of 384, 1 heads, 1 warps of rows, 2 stages"},
	} {
		d := DecodeShape{Cache: strings.Split(c.want, "_")[1], B: 128, T: c.T, H: c.H, G: c.G, P: c.P, R: c.R, Dv: c.Dv,
			Page: 64, MaxPages: 128}
		x, err := d.tiling(h200SMs, h200Shared, true)
		got := fmt.Sprintf("%s %dx%d blocks of %d, %d heads, %d warps of rows, %d stages", x.kernel, x.parts, x.tiles,
			x.threads, x.heads, x.rows, x.stages)
		if err != nil || got != c.want {
			t.Errorf("%+v: %v, %v\nwant %s", d, got, err, c.want)
		}
	}
}

// TestDecodeTilingsFit goes through all supported shapes on an H200 and an A100: shared memory, grid and rows must fit.
func TestDecodeTilingsFit(t *testing.T) {
	for _, dev := range []struct {
		sms, shared int
		hopper      bool
	}{{h200SMs, h200Shared, true}, {108, 166912, false}} {
		for kind, dims := range decodeDims {
			for _, Dv := range dims {
				for _, R := range decodeRopeDims {
					for _, heads := range [][2]int{{1, 1}, {3, 1}, {16, 2}, {63, 1}, {64, 8}, {128, 1}, {128, 8}} {
						for T := 1; T <= decodeQueries; T++ {
							d := DecodeShape{Cache: kind, B: 4, T: T, H: heads[0], G: heads[1], P: Dv, R: R, Dv: Dv, Page: 16, MaxPages: 8}
							switch kind {
							case "kv":
								d.R = 0
							case "tied":
								d.P = Dv - R
							}
							if d.P <= 0 {
								continue
							}
							x, err := d.tiling(dev.sms, dev.shared, dev.hopper)
							if err != nil || d.Check() != nil {
								t.Fatalf("%+v: %v, %v", d, err, d.Check())
							}
							if x.shared > dev.shared || x.stages < 2 || x.parts < 1 || x.parts > 1 && x.parts*x.tiles > dev.sms {
								t.Errorf("%+v: %+v", d, x)
							}
							if kind == "latent" && dev.hopper {
								continue
							}
							step := int(x.kernel[len(x.kernel)-1] - '0')
							if tokens := d.smallTokens((x.threads-copyThreads)/32, x.rows, x.heads, step); copyChunk%tokens != 0 {
								t.Errorf("%+v: a tile of %d tokens", d, tokens)
							}
						}
					}
				}
			}
		}
	}
}
