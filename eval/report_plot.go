package eval

import (
	"fmt"
	ink "image/color"
	"os"
	"path/filepath"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// plots writes loss and tradeoff as SVG and PNG, the charts of each side by side.
func (r *Report) plots(dir string) error {
	for name, charts := range map[string][]chart{"loss": r.lossCharts(), "tradeoff": r.tradeoffCharts()} {
		for _, format := range []string{"svg", "png"} {
			if len(charts) == 0 {
				continue
			}
			if err := save(filepath.Join(dir, name+"."+format), format, charts); err != nil {
				return fmt.Errorf("eval: %s.%s: %w", name, format, err)
			}
		}
	}
	return nil
}

func save(path, format string, charts []chart) (err error) {
	row := make([]*plot.Plot, len(charts))
	for i := range charts {
		if row[i], err = charts[i].plot(); err != nil {
			return err
		}
	}
	canvas, err := draw.NewFormattedCanvas(vg.Length(len(charts))*13*vg.Centimeter, 9.5*vg.Centimeter, format)
	if err != nil {
		return err
	}
	area := draw.New(canvas)
	area.SetColor(ink.White)
	area.Fill(area.Rectangle.Path())
	tiles := draw.Tiles{Rows: 1, Cols: len(row), PadX: 8 * vg.Millimeter, PadTop: 2 * vg.Millimeter, PadBottom: 2 * vg.Millimeter, PadLeft: 2 * vg.Millimeter, PadRight: 4 * vg.Millimeter}
	for i, inner := range plot.Align([][]*plot.Plot{row}, tiles, area)[0] {
		row[i].Draw(inner)
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if _, err := canvas.WriteTo(f); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// plot draws the chart with gonum/plot.
func (c *chart) plot() (*plot.Plot, error) {
	p := plot.New()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = c.Title, c.X, c.Y
	p.X.Tick.Marker, p.Y.Tick.Marker = rounds(horizontalTicks), rounds(verticalTicks)
	p.Legend.Top = true
	for _, style := range []*draw.TextStyle{&p.Title.TextStyle, &p.X.Label.TextStyle, &p.Y.Label.TextStyle, &p.X.Tick.Label, &p.Y.Tick.Label, &p.Legend.TextStyle} {
		style.Font.Variant = "Sans"
	}
	grid := plotter.NewGrid()
	grid.Vertical.Color, grid.Horizontal.Color = ink.Gray{225}, ink.Gray{225}
	p.Add(grid)
	if !c.lines() {
		if err := c.plotFront(p); err != nil {
			return nil, err
		}
	}
	for _, s := range c.Series {
		add := s.plotMark
		if c.lines() {
			add = s.plotLine
		}
		if err := add(p); err != nil {
			return nil, fmt.Errorf("%s: %w", s.Name, err)
		}
	}
	x, y := c.ranges()
	p.X.Min, p.X.Max, p.Y.Min, p.Y.Max = x[0], x[1], y[0], y[1]
	return p, nil
}

// rounds places and names ticks as the page does.
type rounds int

// Ticks are the ticks of one axis.
func (n rounds) Ticks(low, high float64) (all []plot.Tick) {
	for _, t := range ticks(low, high, int(n)) {
		all = append(all, plot.Tick{Value: t, Label: short(t)})
	}
	return all
}

func rgb(arm int, alpha uint8) ink.Color {
	v, err := strconv.ParseUint(palette[arm%len(palette)][1:], 16, 32)
	if err != nil {
		panic(err)
	}
	return ink.NRGBA{uint8(v >> 16), uint8(v >> 8), uint8(v), alpha}
}

func (s *series) plotLine(p *plot.Plot) error {
	var line, band plotter.XYs
	for _, at := range s.Points {
		line, band = append(line, plotter.XY{X: at.x, Y: at.mean}), append(band, plotter.XY{X: at.x, Y: at.high})
	}
	for i := len(s.Points) - 1; i >= 0; i-- {
		band = append(band, plotter.XY{X: s.Points[i].x, Y: s.Points[i].low})
	}
	area, err := plotter.NewPolygon(band)
	if err != nil {
		return err
	}
	area.Color, area.LineStyle.Width = rgb(s.Index, 45), 0
	mean, err := plotter.NewLine(line)
	if err != nil {
		return err
	}
	mean.Color, mean.Width = rgb(s.Index, 255), vg.Points(1.5)
	if s.Index >= len(palette) {
		mean.Dashes = []vg.Length{vg.Points(4), vg.Points(3)}
	}
	p.Add(area, mean)
	p.Legend.Add(s.Name, mean)
	return nil
}

func (s *series) plotMark(p *plot.Plot) error {
	at := s.Points[0]
	at.x += s.Shift
	whisker, err := plotter.NewLine(plotter.XYs{{X: at.x, Y: at.low}, {X: at.x, Y: at.high}})
	if err != nil {
		return err
	}
	mark, err := plotter.NewScatter(plotter.XYs{{X: at.x, Y: at.mean}})
	if err != nil {
		return err
	}
	whisker.Color, mark.Color = rgb(s.Index, 255), rgb(s.Index, 255)
	mark.Radius, mark.Shape = vg.Points(4), draw.RingGlyph{}
	if s.Front {
		mark.Shape = draw.CircleGlyph{}
	}
	p.Add(whisker, mark)
	p.Legend.Add(s.Name, mark)
	return nil
}

func (c *chart) plotFront(p *plot.Plot) error {
	x, y := c.ranges()
	var steps plotter.XYs
	for i, at := range c.front() {
		from := y[1]
		if i > 0 {
			from = steps[len(steps)-1].Y
		}
		steps = append(steps, plotter.XY{X: at.x, Y: from}, plotter.XY{X: at.x, Y: at.mean})
	}
	steps = append(steps, plotter.XY{X: x[1], Y: steps[len(steps)-1].Y})
	front, err := plotter.NewLine(steps)
	if err != nil {
		return err
	}
	front.Color, front.Dashes = ink.Gray{130}, []vg.Length{vg.Points(4), vg.Points(3)}
	p.Add(front)
	return nil
}
