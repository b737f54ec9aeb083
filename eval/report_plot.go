package eval

import (
	"bytes"
	"fmt"
	ink "image/color"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"headroom/internal/disk"
)

// plots writes loss, tradeoff, rates, law and speed as SVG and PNG, the charts of each side by side.
func (r *Report) plots(dir string) error {
	for name, charts := range map[string][]chart{"loss": r.lossCharts(), "tradeoff": r.tradeoffCharts(),
		"rates": r.rateCharts(), "law": r.lawCharts()} {
		var plots []*plot.Plot
		for i := range charts {
			p, err := charts[i].plot()
			if err != nil {
				return fmt.Errorf("eval: %s: %w", name, err)
			}
			plots = append(plots, p)
		}
		if err := save(dir, name, plots); err != nil {
			return err
		}
	}
	var plots []*plot.Plot
	for _, b := range append(r.decodingBars(), r.trainingBars()...) {
		p, err := b.plot()
		if err != nil {
			return fmt.Errorf("eval: speed: %w", err)
		}
		plots = append(plots, p)
	}
	return save(dir, "speed", plots)
}

// abreast is the largest number of plots in a row.
const abreast = 3

// save writes plots into one picture of each format.
func save(dir, name string, plots []*plot.Plot) error {
	if len(plots) == 0 {
		return nil
	}
	columns := min(abreast, len(plots))
	rows := (len(plots) + columns - 1) / columns
	grid := make([][]*plot.Plot, rows)
	for i := range grid {
		grid[i] = make([]*plot.Plot, columns)
		copy(grid[i], plots[i*columns:])
	}
	for _, format := range []string{"svg", "png"} {
		canvas, err := draw.NewFormattedCanvas(vg.Length(columns)*13*vg.Centimeter, vg.Length(rows)*9.5*vg.Centimeter, format)
		if err != nil {
			return fmt.Errorf("eval: %s: %w", name, err)
		}
		area := draw.New(canvas)
		area.SetColor(ink.White)
		area.Fill(area.Rectangle.Path())
		tiles := draw.Tiles{Rows: rows, Cols: columns, PadX: 8 * vg.Millimeter, PadY: 8 * vg.Millimeter,
			PadTop: 2 * vg.Millimeter, PadBottom: 2 * vg.Millimeter, PadLeft: 2 * vg.Millimeter, PadRight: 4 * vg.Millimeter}
		for i, row := range plot.Align(grid, tiles, area) {
			for j, inner := range row {
				if grid[i][j] != nil {
					grid[i][j].Draw(inner)
				}
			}
		}
		var picture bytes.Buffer
		if _, err := canvas.WriteTo(&picture); err != nil {
			return fmt.Errorf("eval: %s: %w", name, err)
		}
		if err := write(filepath.Join(dir, name+"."+format), picture.Bytes()); err != nil {
			return err
		}
	}
	return nil
}

// write replaces a file whole or not at all.
func write(path string, text []byte) error {
	if err := disk.Replace(path, text); err != nil {
		return fmt.Errorf("eval: %w", err)
	}
	return nil
}

// plot draws the bars with gonum/plot.
func (b *bars) plot() (*plot.Plot, error) {
	p := plot.New()
	title, unit, _ := strings.Cut(b.Title, ": ")
	p.Title.Text, p.X.Label.Text = title, unit
	sans(p)
	p.X.Tick.Marker = plot.TickerFunc((&chart{}).plotTicks)
	p.X.Min = 0
	var names []string
	for i, row := range slices.Backward(b.Rows) { // the first on top
		one, err := plotter.NewBarChart(plotter.Values{row.Value}, vg.Points(14))
		if err != nil {
			return nil, err
		}
		one.Horizontal, one.XMin = true, float64(len(b.Rows)-1-i)
		one.Color, one.LineStyle.Width = rgb(row.Index, 255), 0
		p.Add(one)
		names = append(names, row.Name)
	}
	p.NominalY(names...)
	return p, nil
}

func sans(p *plot.Plot) {
	for _, style := range []*draw.TextStyle{&p.Title.TextStyle, &p.X.Label.TextStyle, &p.Y.Label.TextStyle,
		&p.X.Tick.Label, &p.Y.Tick.Label, &p.Legend.TextStyle} {
		style.Font.Variant = "Sans"
	}
}

// plot draws the chart with gonum/plot.
func (c *chart) plot() (*plot.Plot, error) {
	p := plot.New()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = c.Title, c.X, c.Y
	p.X.Tick.Marker, p.Y.Tick.Marker = plot.TickerFunc(c.plotTicks), rounds(verticalTicks)
	p.Legend.Top = true
	sans(p)
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
		if err := s.plotDots(p); err != nil {
			return nil, fmt.Errorf("%s: %w", s.Name, err)
		}
		if len(c.Rates) > 0 {
			if err := s.plotRates(p); err != nil {
				return nil, fmt.Errorf("%s: %w", s.Name, err)
			}
		}
	}
	if c.Beside {
		p.Legend = plot.NewLegend()
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

func (c *chart) plotTicks(low, high float64) (all []plot.Tick) {
	for _, t := range c.xTicks(low, high) {
		all = append(all, plot.Tick{Value: t.at, Label: t.text})
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

// plotRates puts a ring on every rate and a dot on the best.
func (s *series) plotRates(p *plot.Plot) error {
	for i, at := range s.Points {
		dot, err := plotter.NewScatter(plotter.XYs{{X: at.x, Y: at.mean}})
		if err != nil {
			return err
		}
		dot.Color, dot.Radius, dot.Shape = rgb(s.Index, 255), vg.Points(4), draw.RingGlyph{}
		if i == s.Best {
			dot.Shape = draw.CircleGlyph{}
		}
		p.Add(dot)
	}
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
