package kernels

import (
	"fmt"
	"math/bits"
	"slices"
)

// A DecodeShape is one problem of decode attention: T new tokens of each of B requests, H query heads, G kv or latent
// heads; a key is P columns of its own head and R that all heads share, a value Dv columns. Cache says how they are
// kept: KV apart, with P = Dv and R = 0; Tied in one state, with P + R = Dv; Latent in a latent that is key and value,
// with P = Dv and R > 0. Requests are cut for more parallelism; Piece, a power of two, cuts them at its multiples and
// nowhere else, so that a request's result does not depend on the rest of the batch.
type DecodeShape struct {
	Cache                 string
	B, T, H, G, P, R, Dv  int
	Page, MaxPages, Piece int
	FP8                   bool // elements of the cache are E4M3, each vector with a scale of its own
}

// The ways to keep keys and values that there are kernels for.
const (
	KV     = "kv"
	Tied   = "tied"
	Latent = "latent"
)

var (
	decodeDims     = map[string][]int{KV: {64, 96, 128}, Tied: {64, 96, 128}, Latent: {128, 192, 256, 384, 512}}
	decodeRopeDims = []int{32, 48, 64}
)

const (
	decodeQueries  = 8   // new tokens
	decodePage     = 256 // tokens
	leastPiece     = 64  // tokens
	decodeRequests = 1 << 20
)

func powerOfTwo(n int) bool { return n > 0 && n&(n-1) == 0 }

// Check is an error for a shape that the kernels do not support, and says what they do.
func (d DecodeShape) Check() error {
	fail := func(format string, args ...any) error {
		return fmt.Errorf("kernels: decode: "+format, args...)
	}
	switch {
	case decodeDims[d.Cache] == nil:
		return fail("a cache is kept as %s, %s or %s, not %q", KV, Tied, Latent, d.Cache)
	case d.B < 1 || d.B > decodeRequests:
		return fail("1 to %d requests: %d", decodeRequests, d.B)
	case d.T < 1 || d.T > decodeQueries:
		return fail("1 to %d new tokens: %d", decodeQueries, d.T)
	case d.G < 1 || d.H < 1 || d.H%d.G != 0:
		return fail("%d kv heads do not divide %d query heads", d.G, d.H)
	case !slices.Contains(decodeDims[d.Cache], d.Dv):
		return fail("%s: value dimension %v: %d", d.Cache, decodeDims[d.Cache], d.Dv)
	case d.Cache == KV && d.R != 0:
		return fail("%s: heads of keys that are apart from their values share no columns: %d", d.Cache, d.R)
	case d.Cache != Tied && d.P != d.Dv:
		return fail("%s: key and value have one dimension: %d and %d", d.Cache, d.P, d.Dv)
	case d.Cache == Tied && d.P+d.R != d.Dv:
		return fail("%s: %d columns of the state and %d of the rope key make the key's %d", d.Cache, d.P, d.R, d.Dv)
	case d.Cache != KV && !slices.Contains(decodeRopeDims, d.R):
		return fail("%s: rope dimension %v: %d", d.Cache, decodeRopeDims, d.R)
	case !powerOfTwo(d.Page) || d.Page > decodePage:
		return fail("page size: a power of two from 1 to %d: %d", decodePage, d.Page)
	case d.MaxPages < 1 || d.MaxPages > 1<<30/d.Page:
		return fail("1 to %d pages a request: %d", 1<<30/d.Page, d.MaxPages)
	case d.Piece != 0 && (!powerOfTwo(d.Piece) || d.Piece < leastPiece):
		return fail("pieces: 0 or a power of two from %d: %d", leastPiece, d.Piece)
	}
	return nil
}

// A decodeTiling is the launch of a shape on a device: the kernel, its blocks, and the work of a block.
type decodeTiling struct {
	kernel          string
	threads, shared int
	parts, tiles    int // the grid is parts · tiles
	// kv heads of a tile, warps over its rows, stages of the copies; partial results at most
	heads, rows, stages, pieces int
}

const (
	copyThreads  = 128 // the copying warpgroup
	sliceBytes   = 64 * 128
	stageLimit   = 16
	copyChunk    = 128 // tokens that the mma.sync kernel looks up at once
	tileAlign    = 1024
	barrierBytes = 256
	splitBytes   = 2048                 // barriers, walk, maxima and sums of decode_latent_split
	lookBytes    = 2 * 8 * 4 * (64 + 8) // of its page numbers to come, where a page has
	lookPage     = 8                    // tokens at most
	walkBytes    = 64
)

func (d DecodeShape) tiling(sms, shared int, hopper bool) (t decodeTiling, err error) {
	if d.Cache == Latent && hopper {
		t = d.latentTiling(shared)
	} else if t, err = d.smallTiling(shared); err != nil {
		return t, err
	}
	if d.FP8 {
		if !hopper {
			return t, fmt.Errorf("kernels: decode: an 8-bit cache has kernels for compute capability 9.0 alone")
		}
		t.kernel += "_fp8"
	}
	t.parts = max(1, sms/t.tiles)
	t.pieces = 2 * t.parts
	if d.Piece > 0 {
		t.pieces = d.B * max(1, ceil(d.Page*d.MaxPages, d.Piece))
	}
	return t, nil
}

// latentTiling chooses among the wgmma kernels, whose tiles have 64 rows or, as pairs, 128.
func (d DecodeShape) latentTiling(shared int) decodeTiling {
	rows, stage := d.T*d.H/d.G, (d.Dv/64+1)*sliceBytes
	t := decodeTiling{threads: 2*128 + copyThreads, heads: 1, rows: 1}
	fixed, tiles, form := tileAlign+splitBytes, 1, "split"
	switch {
	case d.Dv > 256 && rows > 64 && !d.FP8:
		form, fixed = "seesaw", tileAlign+sliceBytes+splitBytes
	case d.Dv > 256:
		form, fixed = "wide", tileAlign+sliceBytes+barrierBytes+walkBytes+2*64*4
	case rows > 64:
		form, tiles = "pair", 2
	case d.Page <= lookPage:
		fixed += lookBytes
	}
	t.kernel = fmt.Sprintf("decode_latent_%d_%s", d.Dv, form)
	t.tiles = d.G * ceil(rows, 64*tiles)
	t.stages = min(8, (shared-fixed-tiles*stage)/stage)
	switch form {
	case "wide":
		t.stages = min(t.stages, 4)
	case "seesaw":
		t.stages = 2
	}
	t.shared = fixed + (tiles+t.stages)*stage
	return t
}

// smallTiling fits the mma.sync kernel: as many rows a warp as its registers hold, then warps over rows, kv heads side
// by side as long as they leave three stages, the rest of the warps over tokens.
func (d DecodeShape) smallTiling(shared int) (decodeTiling, error) {
	rows := d.T * d.H / d.G
	most := 4 // steps of 8 rows
	switch {
	case d.Cache == Latent && d.Dv > 256:
		most = 1
	case d.Cache == Latent:
		most = 2
	}
	step := min(most, 1<<bits.Len(uint(ceil(rows, 8)-1)))
	warpRows := 1 << bits.Len(uint(ceil(rows, 8*step)-1))
	for _, c := range [][2]int{{8, min(8, warpRows)}, {4, min(4, warpRows)}, {4, 2}, {4, 4}} { // warps, those over rows
		warps, warpRows := c[0], c[1]
		heads := 1
		for heads*2 <= 4 && d.G%(heads*2) == 0 && heads*2*warpRows <= warps &&
			d.smallShared(warps, warpRows, heads*2, step, 3) <= shared {
			heads *= 2
		}
		if d.smallTokens(warps, warpRows, heads, step) > copyChunk {
			continue
		}
		stages := 2
		for stages < stageLimit && d.smallShared(warps, warpRows, heads, step, stages+1) <= shared {
			stages++
		}
		if bytes := d.smallShared(warps, warpRows, heads, step, stages); bytes <= shared {
			return decodeTiling{
				kernel: fmt.Sprintf("decode_%s_%d_n%d", d.Cache, d.Dv, step), threads: warps*32 + copyThreads, shared: bytes,
				tiles: d.G / heads * ceil(rows, warpRows*step*8), heads: heads, rows: warpRows, stages: stages,
			}, nil
		}
	}
	return decodeTiling{}, fmt.Errorf("kernels: decode: %s of %d columns needs more than %d bytes of shared memory",
		d.Cache, d.Dv, shared)
}

// smallTokens is the length of the mma.sync kernel's tile: 16 tokens a warp, or twice that where rows are narrow.
func (d DecodeShape) smallTokens(warps, warpRows, heads, step int) int {
	tokens := warps / (warpRows * heads) * 16
	if d.Dv == 64 && step <= 2 {
		tokens *= 2
	}
	return tokens
}

// smallShared is the shared memory of the mma.sync kernel, laid out as decode_mma.cu does.
func (d DecodeShape) smallShared(warps, warpRows, heads, step, stages int) int {
	tokens, queries, stage := d.smallTokens(warps, warpRows, heads, step), d.Dv+8, heads*d.Dv+8
	switch d.Cache {
	case KV:
		stage *= 2
	case Latent:
		queries += 64
		fallthrough
	case Tied:
		stage += d.R + 8
	default:
		panic(fmt.Sprintf("kernels: decode: no kernel for a cache that is kept as %q", d.Cache))
	}
	head := heads*warpRows*step*8*max(queries*2, (d.Dv+4)*4) + warps*64*step + walkBytes + barrierBytes
	return ceil(head, 128)*128 + stages*tokens*stage*2
}

// ceil divides and rounds up.
func ceil(n, by int) int { return (n + by - 1) / by }
