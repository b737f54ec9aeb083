package export

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"headroom/attention"
	"headroom/decode/decodetest"
)

// TestSwitches holds every kind, with switches drawn at random, to what TestConformance holds it to without them, but
// for exports, which have tests of their own.
func TestSwitches(t *testing.T) {
	seen := map[string]bool{}
	for _, d := range attention.Descriptions {
		for seed := range uint64(6) {
			_, m := tiny(t, d.Name(2), unusual, decodetest.Switched(rand.New(rand.NewPCG(seed, 12))))
			if what := fmt.Sprintf("%+v", m.Attention); seen[what] {
				continue
			} else {
				seen[what] = true
			}
			t.Run(fmt.Sprintf("%s/%d", d.Kind, seed), func(t *testing.T) {
				s := &specimen{Model: m, store: storeOf(t, m)}
				s.gradientsAreSlopes(t)
				s.seesThePastAlone(t)
				s.decodesAsForward(t)
				s.isCounted(t)
				if t.Failed() {
					t.Logf("it is %+v", m.Attention)
				}
			})
		}
	}
	if len(seen) < 3*len(attention.Descriptions) {
		t.Errorf("%d configurations were drawn of %d kinds", len(seen), len(attention.Descriptions))
	}
}
