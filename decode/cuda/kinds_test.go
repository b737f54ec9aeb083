//go:build gpu

package cuda

import (
	"slices"
	"strings"
	"testing"

	"headroom/attention"
	"headroom/decode"
	"headroom/decode/decodetest"
	"headroom/internal/device"
)

// kinds are those that there are kernels for.
var kinds = slices.DeleteFunc(slices.Clone(decodetest.Kinds), func(kind string) bool {
	k, _, err := attention.Parse(kind)
	if err != nil {
		panic(err)
	}
	d, err := k.Describe()
	return err == nil && d.Cache == attention.Factored
})

// TestFactorsAreRefused: a cache of factors, which no kernel reads, is refused by the kind's name.
func TestFactorsAreRefused(t *testing.T) {
	m := decodetest.Tiny(t, "tpa")
	_, err := simulate(device.F32).Open(m, decode.Limits{Pages: 4, Rows: 1, Tokens: 8, Scores: 1, Context: 64})
	if err == nil || !strings.Contains(err.Error(), "attention.kind tpa: use --device cpu") {
		t.Errorf("a model of tpa opens with %v", err)
	}
	if len(kinds) == len(decodetest.Kinds) {
		t.Error("there is no kind without kernels")
	}
}
