package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"headroom/attention"
	"headroom/decode"
	"headroom/internal/roofline"
	"headroom/model"
)

// A predictor has the flags of analyze that predict a decode step on more devices than were measured.
type predictor struct {
	model.Plan
	batch        int
	latency      float64 // seconds
	memory, link float64 // 0: the GPU's
	measured     string  // a file of bench decode --json, or nothing
}

// A predicted is the answer for one model.
type predicted struct {
	Name      string `json:"name"`
	Attention string `json:"attention"`
	model.Prediction
	Cost  model.StepCost `json:"cost"`
	Worst float64        `json:"fit_error"` // the largest relative one, of measured steps; 0 from the roofline
}

// check checks the flags as far as no model is needed for that, and reads the file of measured steps.
func (p predictor) check(gpu *roofline.GPU) (measured []decode.BenchResult, err error) {
	if !(p.latency >= 0 && p.memory >= 0 && p.link >= 0) {
		return nil, fmt.Errorf("analyze: latency, memory and link must not be negative, they are %v, %v and %v",
			p.latency, p.memory, p.link)
	}
	if p.memory > 0 {
		gpu.Memory = p.memory
	}
	if p.link > 0 {
		gpu.Link = p.link
	}
	if p.measured == "" {
		return nil, nil
	}
	text, err := os.ReadFile(p.measured)
	if err != nil {
		return nil, fmt.Errorf("analyze: %w", err)
	}
	var file struct{ Results []decode.BenchResult }
	if err := json.Unmarshal(text, &file); err != nil {
		return nil, fmt.Errorf("analyze: %s is not what bench decode --json prints: %w", p.measured, err)
	}
	return file.Results, nil
}

func (p predictor) predict(name string, m *model.Transformer, gpu roofline.GPU,
	measured []decode.BenchResult, context int, cache attention.CacheType) (r predicted, err error) {
	r = predicted{Name: name, Attention: m.Attention.Name(), Cost: m.RooflineCost(gpu)}
	if p.measured != "" {
		var steps []model.MeasuredStep
		size := m.Count().Parameters
		for _, b := range measured {
			if b.Attention == r.Attention && b.Parameters == size && b.TokenMillis > 0 && (b.Cache == "" || b.Cache == cache) {
				steps = append(steps, model.MeasuredStep{Rows: float64(b.Batch), Cache: float64(b.CacheBytes),
					Seconds: b.TokenMillis / 1e3})
			}
		}
		if len(steps) == 0 {
			return r, fmt.Errorf("analyze: %s measured no %s model of %d parameters with a cache in %s", p.measured,
				r.Attention, size, cache)
		}
		if r.Cost, r.Worst, err = model.FitCost(steps); err != nil {
			return r, fmt.Errorf("analyze: %s: %w", p.measured, err)
		}
	}
	r.Prediction, err = m.Predict(r.Cost, gpu, p.latency, p.Plan, p.batch, context, cache)
	return r, err
}

func printPredictions(out io.Writer, p predictor, context int, all []predicted) error {
	from := "the GPU's roofline, without launches and waits"
	if p.measured != "" {
		from = "steps measured on one GPU"
	}
	_,
		failed := fmt.Fprintf(out,
		"\nPredicted decode steps, %d rows at a context of %d, from %s; sums take %.3g us and the links' time:\n", p.batch,
		context, from, p.latency*1e6)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	row := func(cells ...any) {
		_, err := fmt.Fprintln(w, strings.Join(texts(cells), "\t"))
		failed = errors.Join(failed, err)
	}
	row("model", "tp", "dp", "groups", "rows at once", "fit", "weights GB", "cache B/token", "sent MB/step", "step ms",
		"tokens/s", "fit within")
	for _, r := range all {
		within := "-"
		if p.measured != "" {
			within = fmt.Sprintf("%.0f%%", 100*r.Worst)
		}
		row(r.Name, r.TP, r.DP, r.AttentionDP, r.Rows, r.Largest, fmt.Sprintf("%.2f", r.WeightBytes/1e9),
			fmt.Sprintf("%.0f", r.CacheBytes),
			fmt.Sprintf("%.2f", r.TrafficBytes/1e6), fmt.Sprintf("%.3f", r.Seconds*1e3),
			fmt.Sprintf("%.0f", r.TokensPerSecond), within)
	}
	return errors.Join(failed, w.Flush())
}
