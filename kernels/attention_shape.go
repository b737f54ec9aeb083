package kernels

import "strings"

// attentionTiles are the kernels and shapes of one Hopper instance: warpgroups of 64 queries, keys a block and stages
// forward; stages of 64 keys for dQ; queries a block and stages for dK and dV. The .cu files say the same.
type attentionTiles struct {
	forward, query, key   string
	gradient              string // dQ from kept gradients of the scores, if there is such a kernel
	groups, keys, stages  int
	queryStages           int
	keyQueries, keyStages int
}

// hopperTiles are the instances by the widths of key and value.
var hopperTiles = map[[2]int]attentionTiles{
	{64, 64}:   tilesFor("64_64", 3, 128, 4, 4, 64, 4),
	{96, 64}:   tilesFor("96_64", 3, 128, 3, 4, 64, 4),
	{96, 96}:   tilesFor("96_96", 2, 128, 3, 4, 64, 4),
	{128, 96}:  tilesFor("128_96", 2, 128, 3, 4, 64, 4),
	{128, 128}: tilesFor("128_128", 2, 128, 3, 4, 64, 4),
	{192, 128}: tilesFor("192_128", 2, 128, 2, 3, 32, 4),
}

func tilesFor(widths string, groups, keys, stages, queryStages, keyQueries, keyStages int) attentionTiles {
	t := attentionTiles{
		forward: "attention_forward_" + widths, query: "attention_backward_query_" + widths, key: "attention_backward_key_" +
			widths,
		groups: groups, keys: keys, stages: stages, queryStages: queryStages, keyQueries: keyQueries, keyStages: keyStages,
	}
	if d, _, _ := strings.Cut(widths, "_"); keyQueries == 64 {
		t.gradient = "attention_query_gradient_" + d
	}
	return t
}

// forwardShared is the shared memory of Forward in attention_forward.cu; those below are of their kernels.
func (t *attentionTiles) forwardShared(d, dv int) int {
	return swizzledRow(d)*64*t.groups + t.stages*t.keys*(swizzledRow(d)+swizzledRow(dv)) + 32 + 32*t.stages + 1024
}

func (t *attentionTiles) queryShared(d, dv int) int {
	return (swizzledRow(d)+swizzledRow(dv))*(128+64*t.queryStages) + 32 + 16*t.queryStages + 1024
}

func (t *attentionTiles) keyShared(d, dv int) int {
	return (swizzledRow(d)+swizzledRow(dv))*(128+t.keyQueries*t.keyStages) + 8*t.keyQueries*t.keyStages + 32 +
		16*t.keyStages + 1024
}

// gradientShared has three warpgroups of 64 queries, with gradientStages of 64 keys and their gradients of the scores.
const gradientStages = 5

func (t *attentionTiles) gradientShared(d int) int {
	return gradientStages*64*(swizzledRow(d)+3*swizzledRow(64)) + 32 + 16*gradientStages + 1024
}

// swizzledRow is the bytes that a row of n bf16 takes in tiles of 64 columns.
func swizzledRow(n int) int { return ceil(n, 64) * 128 }

// portableShared is the shared memory of the forward kernel in attention_portable.cu; plainShared is that of
// attention_fp32.cu.
func portableShared(d int) int  { return 2 * 64 * (2*(d+8) + 64 + 8) }
func plainShared(d, dv int) int { return 4 * 32 * (2*(d+1) + dv + 1 + 33) }

// The gradients have values and their gradients beside queries and keys, and those of the keys the statistics of 64
// queries.
func portableGradientShared(d, dv int) int { return 2 * 64 * 2 * (d + 8 + dv + 8) }
func plainGradientShared(d, dv int) int    { return 4 * 32 * (2*(d+1) + 2*(dv+1) + 33) }

const portableStats = 8 * 64
