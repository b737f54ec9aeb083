package load

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// A Result summarises the requests of one load. Latencies are in milliseconds.
type Result struct {
	Name        string  `json:"name,omitempty"` // of the server, where several are compared
	Model       string  `json:"model"`
	Concurrency int     `json:"concurrency,omitempty"`
	Rate        float64 `json:"requests_per_second_sent,omitempty"`

	Requests int      `json:"requests"` // measured
	Refused  int      `json:"refused"`  // 429
	Failed   int      `json:"failed"`
	Errors   []string `json:"errors,omitempty"` // the first few

	Seconds         float64 `json:"seconds"`
	PromptTokens    int     `json:"prompt_tokens"`
	Tokens          int     `json:"tokens"`
	TokensPerSecond float64 `json:"tokens_per_second"` // that came
	Served          float64 `json:"requests_per_second"`
	Busy            Phase   `json:"all_busy"` // of a closed loop: while every client waited for an answer
	// and while all of them had their first token, so that no prompt was worked on
	Decoding Phase `json:"decoding"`

	First Latency    `json:"time_to_first_token_ms"`
	Gap   Latency    `json:"inter_token_ms"`           // between events of a stream
	Mean  Latency    `json:"time_per_output_token_ms"` // of a request, after its first token
	Whole Latency    `json:"end_to_end_ms"`            //
	Good  float64    `json:"good_requests_per_second"` // within the limits
	Share float64    `json:"good_share"`               // of all that were sent
	Limit [2]float64 `json:"limits_ms"`                // first token, time per output token; 0 is none
}

// A Latency is a distribution.
type Latency struct {
	Mean   float64 `json:"mean"`
	Median float64 `json:"median"`
	P90    float64 `json:"p90"`
	P99    float64 `json:"p99"`
	Max    float64 `json:"max"`
}

// latency sums up durations in milliseconds.
func latency(x []float64) (l Latency) {
	if len(x) == 0 {
		return l
	}
	slices.Sort(x)
	at := func(q float64) float64 { return x[min(len(x)-1, int(q*float64(len(x))))] }
	for _, v := range x {
		l.Mean += v / float64(len(x))
	}
	l.Median, l.P90, l.P99, l.Max = at(0.5), at(0.9), at(0.99), x[len(x)-1]
	return l
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// summarise makes a result of the outcomes and the time that they took.
func (p Plan) summarise(all []outcome, took time.Duration) Result {
	r := Result{Concurrency: p.Concurrency, Rate: p.Rate, Requests: len(all), Seconds: took.Seconds(),
		Limit: [2]float64{ms(p.FirstLimit), ms(p.GapLimit)}}
	var first, gaps, mean, whole []float64
	good := 0
	for _, o := range all {
		switch {
		case errors.Is(o.err, errRefused):
			r.Refused++
			continue
		case o.err != nil:
			if r.Failed++; len(r.Errors) < 3 {
				r.Errors = append(r.Errors, o.err.Error())
			}
			continue
		}
		r.PromptTokens, r.Tokens = r.PromptTokens+o.prompt, r.Tokens+o.tokens
		first, whole = append(first, ms(o.first.Sub(o.due))), append(whole, ms(o.last.Sub(o.due)))
		for _, g := range o.gaps {
			gaps = append(gaps, ms(g))
		}
		each := time.Duration(0)
		if o.tokens > 1 {
			each = o.last.Sub(o.first) / time.Duration(o.tokens-1)
			mean = append(mean, ms(each))
		}
		if (p.FirstLimit == 0 || o.first.Sub(o.due) <= p.FirstLimit) && (p.GapLimit == 0 || each <= p.GapLimit) {
			good++
		}
	}
	r.First, r.Gap, r.Mean, r.Whole = latency(first), latency(gaps), latency(mean), latency(whole)
	if r.Seconds > 0 {
		r.TokensPerSecond, r.Served, r.Good = float64(r.Tokens)/r.Seconds, float64(len(first))/r.Seconds,
			float64(good)/r.Seconds
	}
	r.Busy, r.Decoding = phases(all, p.Concurrency)
	if len(all) > 0 {
		r.Share = float64(good) / float64(len(all))
	}
	return r
}

// Load describes the load in words.
func (r Result) Load() string {
	if r.Concurrency > 0 {
		return fmt.Sprintf("%d at once", r.Concurrency)
	}
	return fmt.Sprintf("%.4g/s", r.Rate)
}

// Table is results for a terminal: milliseconds, median / 90% / 99%. Decoding is the tokens a second while no prompt
// was worked on.
func Table(results []Result) string {
	var s strings.Builder
	w := tabwriter.NewWriter(&s, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w,
		"server\tload\tserved\trefused\tfailed\ttokens/s\tdecoding\tfirst token ms\tinter-token ms\tend to end ms\tgood/s\t")
	for _, r := range results {
		three := func(l Latency) string { return fmt.Sprintf("%.4g / %.4g / %.4g", l.Median, l.P90, l.P99) }
		name := r.Name
		if name == "" {
			name = r.Model
		}
		decoding := "-"
		if r.Decoding.Seconds > 0 {
			decoding = fmt.Sprintf("%.4g", r.Decoding.TokensPerSecond)
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t%.4g\t%s\t%s\t%s\t%s\t%.3g (%.0f%%)\t\n", name, r.Load(),
			r.Requests-r.Refused-r.Failed, r.Refused, r.Failed,
			r.TokensPerSecond, decoding, three(r.First), three(r.Gap), three(r.Whole), r.Good, 100*r.Share)
	}
	w.Flush()
	return s.String()
}
