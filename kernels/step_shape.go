package kernels

import "fmt"

// stepAttends are the kernels and how many units each warp has under way, by kind, width of the value and, of latents,
// R.
var stepAttends = map[string]int{
	"kv_64": 3, "kv_96": 4, "kv_128": 3, "tied_64": 4, "tied_96": 4, "tied_128": 4, "latent_128_32": 2, "latent_192_32": 3,
	"latent_256_32": 2, "latent_256_64": 2,
}

const stepAttendWarps = 8

func (d DecodeShape) stepAttend() (name string, stages int) {
	name = fmt.Sprintf("%s_%d", d.Cache, d.Dv)
	if d.Cache == Latent {
		name += fmt.Sprintf("_%d", d.R)
	}
	return "step_attend_" + name, stepAttends[name]
}

// StepAttends says whether StepAttend takes a shape.
func (d DecodeShape) StepAttends() bool {
	_, stages := d.stepAttend()
	return stages > 0 && !d.FP8 && d.T == 1 && d.P%16 == 0 && d.R%16 == 0 && d.Page%16 == 0 && d.Check() == nil
}

// stepAttendShared is the shared memory of step_attend.cu for a key of E columns and a value of W, of which a token has
// width in the cache: queries, then each warp's ring of tokens, later the warps' sums.
func stepAttendShared(E, W, width, stages int) int {
	ring := stepAttendWarps * stages * 16 * (2*width + 16)
	partial := 4 * (stepAttendWarps*16*(W+2) + 32)
	return 16*(2*ceil(E, 16)*16+16) + max(ring, partial)
}
