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
	Settings     []Setting
	Environments []Environment
	Notes        []string // parts that are missing, with reasons
}

// A Setting is one configuration key in which arms differ.
type Setting struct {
	Key    string
	Values []string // by arm
}

// An Environment is the program and machine of some of the runs.
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
	if err := write(filepath.Join(dir, "report.html"), page.Bytes()); err != nil {
		return err
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
	differences := r.differences()
	view := struct {
		*Report
		Measured, Differences [][]string
		Swept                 [][]string
		Fits, Predictions     [][]string
		Remarks, Failed, Key  []string
		RateKey, LawKey       []string
		Caption, LawCaption   string
		PredictionCaption     string
		Legend                []series
		Loss, Tradeoff, Rates []template.HTML
		LawCharts             []template.HTML
		Training, Decoding    []bars
	}{
		Report: r, Measured: r.measured(), Key: r.key(), Caption: r.caption(), Remarks: r.remarks(), Failed: r.failed(),
		Legend: r.legend(),
		Loss:   pictures(r.lossCharts()), Tradeoff: pictures(r.tradeoffCharts()), Rates: pictures(r.rateCharts()),
		Training: r.trainingBars(), Decoding: r.decodingBars(),
		LawKey: r.lawKey(), LawCharts: pictures(r.lawCharts()),
	}
	if len(differences) > 1 {
		view.Differences = differences
	}
	if r.fits() {
		view.LawCaption, view.Fits = lawCaption, r.lawRows()
		view.PredictionCaption, view.Predictions = predictionCaption, r.predictionRows()
	}
	if r.swept() {
		view.Swept, view.RateKey = r.rates(), r.rateKey()
	}
	if err := page.Execute(w, view); err != nil {
		return fmt.Errorf("eval: report: %w", err)
	}
	return nil
}

func pictures(charts []chart) (all []template.HTML) {
	for _, c := range charts {
		all = append(all, c.svg())
	}
	return all
}
