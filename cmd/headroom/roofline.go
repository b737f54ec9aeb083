package main

import (
	"fmt"
	"path/filepath"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"

	"headroom/internal/roofline"
)

// A series is a legend's entry: points of FLOPs per byte and TFLOP/s.
type series struct {
	name   string
	points plotter.XYs
}

// checkPicture refuses a file whose ending names no format of pictures, before any work is done.
func checkPicture(command, file string) error {
	if ext := filepath.Ext(file); file != "" && ext != ".png" && ext != ".svg" {
		return fmt.Errorf("%s: a picture is .png or .svg, not %s", command, file)
	}
	return nil
}

// drawRoofline draws a GPU's attainable operations a second by intensity, and the given points.
func drawRoofline(file, title string, g roofline.GPU, all []series) error {
	p := plot.New()
	p.Title.Text = title
	p.X.Label.Text, p.Y.Label.Text = "FLOPs per byte", "TFLOP/s"
	p.X.Scale, p.Y.Scale = plot.LogScale{}, plot.LogScale{}
	p.X.Tick.Marker, p.Y.Tick.Marker = plot.LogTicks{Prec: -1}, plot.LogTicks{Prec: -1}
	p.Legend.Top, p.Legend.Left = true, true
	low, high := 0.5*min(1, g.Ridge()), 4*g.Ridge()
	for _, s := range all {
		for _, at := range s.points {
			low, high = min(low, at.X/2), max(high, 2*at.X)
		}
	}
	roof, err := plotter.NewLine(plotter.XYs{
		{X: low, Y: g.Attainable(low) / 1e12}, {X: g.Ridge(), Y: g.FLOPs / 1e12}, {X: high, Y: g.Attainable(high) / 1e12},
	})
	if err != nil {
		return fmt.Errorf("roofline: %w", err)
	}
	p.Add(plotter.NewGrid(), roof)
	for i, s := range all {
		dots, err := plotter.NewScatter(s.points)
		if err != nil {
			return fmt.Errorf("roofline: %s: %w", s.name, err)
		}
		dots.Color, dots.Shape, dots.Radius = plotutil.Color(i), plotutil.Shape(i), vg.Points(4)
		p.Add(dots)
		p.Legend.Add(s.name, dots)
	}
	p.Y.Max = 2 * g.FLOPs / 1e12
	if err := p.Save(18*vg.Centimeter, 12*vg.Centimeter, file); err != nil {
		return fmt.Errorf("roofline: %w", err)
	}
	return nil
}
