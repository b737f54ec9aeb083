package main

import (
	"fmt"

	"gonum.org/v1/plot/plotter"

	"headroom/internal/roofline"
	"headroom/model"
)

// plotRoofline puts a point for each model and query length on one device under what a GPU allows.
func plotRoofline(file string, g roofline.GPU, all []model.Analysis) error {
	if err := checkPicture("analyze", file); err != nil {
		return err
	}
	var points []series
	for _, a := range all {
		s := series{name: a.Name}
		for _, d := range a.Shards[0].Decode {
			s.points = append(s.points, plotter.XY{X: d.Intensity, Y: d.FLOPs / 1e12})
		}
		points = append(points, s)
	}
	return drawRoofline(file, fmt.Sprintf("Decoding under the roofline of %s: 1, 2 and 4 new tokens", g.Name), g, points)
}
