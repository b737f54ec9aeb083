package roofline_test

import (
	"fmt"
	"math"
	"testing"

	"headroom/internal/roofline"
)

func TestRoofline(t *testing.T) {
	g, err := roofline.Find("h100")
	if err != nil || g.Name != "H100" || math.Abs(g.Ridge()-295.2) > 0.1 {
		t.Errorf("%+v, %v: the ridge is at %v", g, err, g.Ridge())
	}
	if low, high := g.Attainable(100), g.Attainable(1000); low != 100*g.Bandwidth || high != g.FLOPs {
		t.Errorf("%v below the ridge, %v above it", low, high)
	}
	if _, err := roofline.Find("V1"); fmt.Sprint(
		err) != `roofline: no figures for GPU "V1": there are A100, H100, H200, B200` {
		t.Error(err)
	}
}
