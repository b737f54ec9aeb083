package main

import (
	"fmt"
	"path/filepath"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"

	"headroom/attention"
	"headroom/model"
)

// plotRoofline draws what a GPU allows over intensity, and on it a point for each model and query length on one device.
func plotRoofline(file string, g attention.GPU, all []model.Analysis) error {
	if ext := filepath.Ext(file); ext != ".png" && ext != ".svg" {
		return fmt.Errorf("analyze: a picture is .png or .svg, not %s", file)
	}
	p := plot.New()
	p.Title.Text = fmt.Sprintf("Decoding under the roofline of %s: 1, 2 and 4 new tokens", g.Name)
	p.X.Label.Text, p.Y.Label.Text = "FLOPs per byte", "TFLOP/s"
	p.X.Scale, p.Y.Scale = plot.LogScale{}, plot.LogScale{}
	p.X.Tick.Marker, p.Y.Tick.Marker = plot.LogTicks{Prec: -1}, plot.LogTicks{Prec: -1}
	p.Legend.Top, p.Legend.Left = true, true
	low, high := 0.5*min(1, g.Ridge()), 4*g.Ridge()
	for _, a := range all {
		for _, d := range a.Shards[0].Decode {
			low, high = min(low, d.Intensity/2), max(high, 2*d.Intensity)
		}
	}
	roof, err := plotter.NewLine(plotter.XYs{
		{X: low, Y: g.Attainable(low) / 1e12}, {X: g.Ridge(), Y: g.FLOPs / 1e12}, {X: high, Y: g.Attainable(high) / 1e12},
	})
	if err != nil {
		return fmt.Errorf("analyze: %w", err)
	}
	p.Add(plotter.NewGrid(), roof)
	for i, a := range all {
		var points plotter.XYs
		for _, d := range a.Shards[0].Decode {
			points = append(points, plotter.XY{X: d.Intensity, Y: d.FLOPs / 1e12})
		}
		s, err := plotter.NewScatter(points)
		if err != nil {
			return fmt.Errorf("analyze: %s: %w", a.Name, err)
		}
		s.Color, s.Shape, s.Radius = plotutil.Color(i), plotutil.Shape(i), vg.Points(4)
		p.Add(s)
		p.Legend.Add(a.Name, s)
	}
	p.Y.Max = 2 * g.FLOPs / 1e12
	if err := p.Save(18*vg.Centimeter, 12*vg.Centimeter, file); err != nil {
		return fmt.Errorf("analyze: %w", err)
	}
	return nil
}
