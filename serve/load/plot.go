package load

import (
	"fmt"
	"image/color"
	"path/filepath"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// inks are the colours of servers, which people with red-green blindness can tell apart too (Okabe and Ito's palette).
var inks = []color.RGBA{{0, 114, 178, 255}, {230, 159, 0, 255}, {0, 158, 115, 255}, {204, 121, 167, 255},
	{213, 94, 0, 255}, {86, 180, 233, 255}}

// CheckPicture says whether a file can be drawn.
func CheckPicture(path string) error {
	if ext := filepath.Ext(path); ext != ".png" && ext != ".svg" {
		return fmt.Errorf("load: a picture is .png or .svg, not %s", path)
	}
	return nil
}

// Plot draws the median time per output token, and its 99th percentile dashed, against the tokens a second of each
// load: latency for a user against throughput of the server.
func Plot(path string, results []Result) error {
	if err := CheckPicture(path); err != nil {
		return err
	}
	p := plot.New()
	p.X.Label.Text, p.Y.Label.Text = "tokens a second, all requests", "ms an output token: median, 99% dashed"
	p.X.Min, p.Y.Min = 0, 0
	p.Legend.Top, p.Legend.Left = true, true
	p.Add(plotter.NewGrid())
	var names []string
	lines := map[string][2]plotter.XYs{}
	for _, r := range results {
		name := strings.TrimSpace(r.Name + " ")
		if name == "" {
			name = r.Model
		}
		l, seen := lines[name]
		if !seen {
			names = append(names, name)
		}
		l[0] = append(l[0], plotter.XY{X: r.TokensPerSecond, Y: r.Mean.Median})
		l[1] = append(l[1], plotter.XY{X: r.TokensPerSecond, Y: r.Mean.P99})
		lines[name] = l
	}
	for i, name := range names {
		for j, xy := range lines[name] {
			line, dots, err := plotter.NewLinePoints(xy)
			if err != nil {
				return fmt.Errorf("load: %w", err)
			}
			line.Color, dots.Color, dots.Shape = inks[i%len(inks)], inks[i%len(inks)], draw.CircleGlyph{}
			if j == 1 {
				line.Dashes = []vg.Length{vg.Points(4), vg.Points(3)}
			} else {
				p.Legend.Add(name, line)
			}
			p.Add(line, dots)
		}
	}
	if err := p.Save(18*vg.Centimeter, 12*vg.Centimeter, path); err != nil {
		return fmt.Errorf("load: %w", err)
	}
	return nil
}
