package watch

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Table writes a line for each run. Where a width is given, lines are cut there.
func (w *Watcher) Table(out io.Writer, width int) error {
	statuses, _ := w.Statuses()
	var s strings.Builder
	t := tabwriter.NewWriter(&s, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "run\tstate\tstep\tloss\tcurve\tlr\tgrad norm\ttokens/s\tMiB\tleft\tperplexity")
	for _, r := range statuses {
		step := fmt.Sprint(r.Step)
		if r.Steps > 0 {
			step += fmt.Sprintf("/%d", r.Steps)
		}
		left := ""
		if r.Left > 0 {
			left = time.Duration(r.Left * float64(time.Second)).Round(time.Second).String()
		}
		memory := "-" // an older version did not count it
		if r.Memory > 0 {
			memory = fmt.Sprintf("%.0f", float64(r.Memory)/(1<<20))
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%.4f\t%s\t%.3g\t%.3f\t%.0f\t%s\t%s\t%s\n", r.ID, r.State, step, r.Loss, w.spark(r.ID),
			r.LR, r.GradNorm, r.Speed, memory, left, r.last())
	}
	t.Flush()
	if len(statuses) == 0 {
		s.WriteString("no runs yet under " + strings.Join(w.roots, ", ") + "\n")
	}
	for line := range strings.Lines(s.String()) {
		line = strings.TrimRight(line, " \n")
		if runes := []rune(line); width > 0 && len(runes) > width {
			line = string(runes[:width-1]) + "…"
		}
		if _, err := fmt.Fprintln(out, line); err != nil {
			return err
		}
	}
	return nil
}

// last has the last perplexities and the reason of a failure.
func (r *Status) last() string {
	var words []string
	for _, set := range slices.Sorted(maps.Keys(r.Eval)) {
		words = append(words, fmt.Sprintf("%s %.4g", set, r.Eval[set]))
	}
	if r.Reason != "" {
		words = append(words, r.Reason)
	}
	return strings.Join(words, ", ")
}

const blocks = "▁▂▃▄▅▆▇█"

// spark draws the loss of a run in sixteen characters.
func (w *Watcher) spark(id string) string {
	const n = 16
	w.mu.Lock()
	defer w.mu.Unlock()
	i := slices.IndexFunc(w.runs, func(r *run) bool { return r.status.ID == id })
	if i < 0 || len(w.runs[i].series.points) == 0 {
		return ""
	}
	points := w.runs[i].series.points
	var values []float64
	for j := range min(n, len(points)) {
		from, to := j*len(points)/min(n, len(points)), (j+1)*len(points)/min(n, len(points))
		sum := 0.0
		for _, p := range points[from:to] {
			sum += p[2]
		}
		values = append(values, sum/float64(to-from))
	}
	low, high := slices.Min(values), slices.Max(values)
	marks := []rune(blocks)
	var s strings.Builder
	for _, v := range values {
		at := 0
		if high > low {
			at = min(len(marks)-1, int((v-low)/(high-low)*float64(len(marks))))
		}
		s.WriteRune(marks[at])
	}
	return s.String()
}
