package model_test

import (
	"maps"
	"math"
	"strings"
	"testing"

	"headroom/internal/graph"
	"headroom/model"
)

// TestInit: model.init decides about the projections into the residual stream and about nothing else; a file that says
// nothing of it is scaled.
func TestInit(t *testing.T) {
	for _, name := range everyKind() {
		c := newTiny(t, config(t, name), 1).Config
		start := func(how string) map[string]graph.Init {
			c.Layers, c.InitStd, c.Init = 8, 0.4, how
			m, err := model.New(c, config(t, name))
			must(t, err)
			inits := map[string]graph.Init{}
			for _, p := range m.Params() {
				inits[p.Name] = p.Init
			}
			return inits
		}
		scaled, plain := start(model.Scaled), start(model.Plain)
		if !maps.Equal(scaled, start("")) {
			t.Errorf("%s: a model that does not say starts in another way than scaled", name)
		}
		for param, init := range plain {
			out := strings.HasSuffix(param, ".Wo") || strings.HasSuffix(param, ".Wdown")
			if out && (init.Std != 0.4 || math.Abs(scaled[param].Std-0.1) > 1e-15) || !out && scaled[param] != init {
				t.Errorf("%s: %s starts with %+v, scaled with %+v", name, param, init, scaled[param])
			}
		}
	}
}
