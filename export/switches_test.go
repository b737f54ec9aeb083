package export

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"headroom/attention"
	"headroom/decode/decodetest"
	"headroom/model"
)

// TestSwitches holds every kind, with switches drawn at random, to what TestConformance holds it to without them, but
// for exports, which have tests of their own.
func TestSwitches(t *testing.T) {
	seen := map[string]bool{}
	for _, d := range attention.Descriptions {
		for seed := range uint64(6) {
			_, m := tiny(t, d.Name(2), unusual, decodetest.Switched(rand.New(rand.NewPCG(seed, 12))))
			if what := fmt.Sprintf("%+v %+v", m.Config, m.Attention); seen[what] {
				continue
			} else {
				seen[what] = true
			}
			t.Run(fmt.Sprintf("%s/%d", d.Kind, seed), func(t *testing.T) {
				if m.Config.Norm == model.PostNorm { // no norm brings what the first layer reads to this size
					for i := range m.Weights["embed"] {
						m.Weights["embed"][i] *= 3
					}
				}
				s := &specimen{Model: m, store: storeOf(t, m)}
				s.gradientsAreSlopes(t)
				s.seesThePastAlone(t)
				s.decodesAsForward(t)
				s.isCounted(t)
				if t.Failed() {
					t.Logf("it is %+v %+v", m.Config, m.Attention)
				}
			})
		}
	}
	if len(seen) < 3*len(attention.Descriptions) {
		t.Errorf("%d configurations were drawn of %d kinds", len(seen), len(attention.Descriptions))
	}
}

// TestSwitchesGoOut exports every kind with switches drawn at random, few and many: it comes back as it was, and a GGUF
// file has all of it or is refused and leaves nothing.
func TestSwitchesGoOut(t *testing.T) {
	classes, refused := map[Class]int{}, 0
	for _, d := range attention.Descriptions {
		for seed := range uint64(16) {
			t.Run(fmt.Sprintf("%s/%d", d.Kind, seed), func(t *testing.T) {
				draw := fewer
				if seed%2 == 1 {
					draw = decodetest.Switched
				}
				checkpoint, m := tiny(t, d.Name(2), unusual, draw(rand.New(rand.NewPCG(seed, 13))))
				(&specimen{Model: m}).goesThereAndBack(t, checkpoint)
				c, _ := ClassOf(m.Transformer)
				classes[c]++
				file := filepath.Join(t.TempDir(), "m.gguf")
				_, err := GGUF(checkpoint, Options{Dir: file, DType: "fp32"})
				if _, none := os.Stat(file); (err != nil) != os.IsNotExist(none) || err == nil && c == Own {
					t.Errorf("%+v %+v: %v, and the export: %v", m.Config, m.Attention, err, none)
				}
				if err != nil {
					refused++
				}
			})
		}
	}
	if classes[Own] < 100 || classes[Llama] < 3 || refused < 100 {
		t.Errorf("they went out as %v, and %d were refused as GGUF: too few of one", classes, refused)
	}
}

// fewer draws switches of which each stays with a chance of one in five.
func fewer(r *rand.Rand) func(*model.Config, *attention.Config) {
	return func(c *model.Config, a *attention.Config) {
		wasModel, was := *c, *a
		decodetest.Switched(r)(c, a)
		sparse(r, c, wasModel)
		if sparse(r, a, was); a.Validate() != nil {
			*a = was
		}
	}
}

// sparse gives most fields of a configuration the values that they had.
func sparse[C any](r *rand.Rand, c *C, was C) {
	now, then := reflect.ValueOf(c).Elem(), reflect.ValueOf(was)
	for i := range now.NumField() {
		if now.Field(i).CanSet() && r.IntN(5) > 0 {
			now.Field(i).Set(then.Field(i))
		}
	}
}
