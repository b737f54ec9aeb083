package eval

import (
	"bytes"
	_ "embed" // the page
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// comparisonName is where a comparison lies beside its runs.
const comparisonName = "comparison.json"

// A Report is a comparison with what lies in its run directories.
type Report struct {
	Comparison
	Curves       []Curve
	FLOPs        map[string]float64 // of training on one token, by arm; none where unknown
	Settings     []Setting
	Environments []Environment
	Notes        []string // what is missing, and why
}

// A Setting is one configuration key in which arms differ.
type Setting struct {
	Key    string
	Values []string // by arm
}

// An Environment is what some of the runs were started with.
type Environment struct {
	Runs                        int
	Command, Revision, Hardware string
}

// ReadComparison reads the comparison of a directory and scores it again.
func ReadComparison(dir string) (*Comparison, error) {
	path := filepath.Join(dir, comparisonName)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("eval: %s holds no comparison: there is no %s", dir, comparisonName)
	}
	if err != nil {
		return nil, fmt.Errorf("eval: %w", err)
	}
	var c Comparison
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		return nil, fmt.Errorf("eval: %s is damaged or of another version: %w", path, err)
	}
	if err := c.Score(); err != nil {
		return nil, fmt.Errorf("%w (%s)", err, path)
	}
	return &c, nil
}

// Write puts report.html and the pictures into a directory.
func (r *Report) Write(dir string) error {
	var page bytes.Buffer
	if err := r.HTML(&page); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "report.html"), page.Bytes(), 0o666); err != nil {
		return fmt.Errorf("eval: %w", err)
	}
	return r.plots(dir)
}

//go:embed report.html.tmpl
var pageText string

var page = template.Must(template.New("report").Funcs(template.FuncMap{
	"numeric": numeric,
	"color":   color,
	"body":    func(rows [][]string) [][]string { return rows[1:] },
}).Parse(pageText))

// HTML writes the report as one page that needs nothing else.
func (r *Report) HTML(w io.Writer) error {
	differences, seeds := r.differences()
	view := struct {
		*Report
		Measured, Differences [][]string
		Paired                bool
		Loss, Tradeoff        []template.HTML
		Speeds                []speed
	}{Report: r, Measured: r.measured(), Paired: seeds > 1, Speeds: r.speeds()}
	if len(differences) > 1 {
		view.Differences = differences
	}
	for _, c := range r.lossCharts() {
		view.Loss = append(view.Loss, c.svg())
	}
	for _, c := range r.tradeoffCharts() {
		view.Tradeoff = append(view.Tradeoff, c.svg())
	}
	if err := page.Execute(w, view); err != nil {
		return fmt.Errorf("eval: report: %w", err)
	}
	return nil
}

// A speed is one bar of training speed.
type speed struct {
	Name, Text, Class string
	Percent           float64 // of the fastest
}

func (r *Report) speeds() (all []speed) {
	fastest := 0.0
	for _, a := range r.Arms {
		fastest = max(fastest, a.TokensPerSecond.Mean)
	}
	for i, a := range r.Arms {
		if a.TokensPerSecond.Mean > 0 {
			all = append(all, speed{a.Name, thousands(int64(a.TokensPerSecond.Mean)), color(i), 100 * a.TokensPerSecond.Mean / fastest})
		}
	}
	return all
}

// lossCharts are the loss over tokens, and over FLOPs where they are known for every arm that has a curve.
func (r *Report) lossCharts() []chart {
	tokens := chart{Title: "Loss by tokens", X: "training tokens", Y: "training loss"}
	flops := chart{Title: "Loss by FLOPs", X: "training FLOPs", Y: "training loss"}
	known := true
	for i, a := range r.Arms {
		var own []Curve
		for _, c := range r.Curves {
			if c.Arm == a.Name {
				own = append(own, c)
			}
		}
		band := spreads(own)
		if len(band) == 0 {
			continue
		}
		tokens.Series = append(tokens.Series, series{Name: a.Name, Index: i, Points: band})
		scaled := make([]spread, len(band))
		for j, s := range band {
			s.x *= r.FLOPs[a.Name]
			scaled[j] = s
		}
		flops.Series = append(flops.Series, series{Name: a.Name, Index: i, Points: scaled})
		known = known && r.FLOPs[a.Name] > 0
	}
	switch {
	case len(tokens.Series) == 0:
		return nil
	case !known:
		return []chart{tokens}
	}
	return []chart{tokens, flops}
}

// part moves marks of the same cache apart, so that none hides another. The one on the front stays where it is.
func (c *chart) part() {
	widest, seen := 0.0, map[float64]int{}
	for _, s := range c.Series {
		widest = max(widest, s.Points[0].x)
		if s.Front {
			seen[s.Points[0].x]++
		}
	}
	for i, s := range c.Series {
		if s.Front {
			continue
		}
		n := seen[s.Points[0].x]
		seen[s.Points[0].x]++
		c.Series[i].Shift = 0.03 * widest * float64(n) // to the right: none may seem to lie before the front
	}
}

// tradeoffCharts are the perplexity over the cache, one for each set.
func (r *Report) tradeoffCharts() (all []chart) {
	for _, set := range r.Sets {
		c := chart{Title: set, X: "cache bytes per token and layer", Y: "perplexity on " + set}
		front := r.Front(set)
		for i := range r.Arms {
			a := &r.Arms[i]
			if values := a.on(set, nil); len(values) > 0 {
				point := []spread{over(float64(a.CacheBytes), values)}
				c.Series = append(c.Series, series{Name: a.Name, Index: i, Points: point, Front: front[i]})
			}
		}
		if len(c.Series) > 0 {
			c.part()
			all = append(all, c)
		}
	}
	return all
}
