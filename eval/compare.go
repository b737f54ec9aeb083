package eval

import (
	"cmp"
	"math"
	"slices"
)

// A Trial is one trained and measured run of an arm.
type Trial struct {
	Seed            uint64             `json:"seed"`
	Perplexity      map[string]float64 `json:"perplexity"`       // by set; the loss is its logarithm
	Blocks          map[string][]Block `json:"blocks,omitempty"` // by set
	TokensPerSecond float64            `json:"tokens_per_second"`
	More            []Measure          `json:"more,omitempty"`
}

// A Measure is one more figure of a trial, with a column of its own in the table.
type Measure struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Error float64 `json:"error,omitempty"` // half of its 95% interval within the trial; 0 where unknown
}

// A Failure is a run of an arm that has no result.
type Failure struct {
	Seed   uint64 `json:"seed"`
	Reason string `json:"reason"`
}

// An Arm is one variant of a comparison with everything measured on it. Score fills in the estimates by set.
type Arm struct {
	Name       string    `json:"name"`
	Size       string    `json:"size,omitempty"` // of the base; empty where there is but one
	Attention  string    `json:"attention"`
	MLP        int       `json:"mlp,omitempty"`
	Parameters int64     `json:"parameters"`
	FLOPs      float64   `json:"training_flops_per_token,omitempty"`
	Tokens     int64     `json:"training_tokens,omitempty"`                 // of one run
	CacheBytes int64     `json:"cache_bytes_per_token_layer"`               // in bf16
	CacheFP8   int64     `json:"cache_bytes_per_token_layer_fp8,omitempty"` // none in older comparisons
	LR         float64   `json:"lr,omitempty"`                              // the best of Rates
	Rates      []Rate    `json:"rates,omitempty"`                           // where several were tried
	Edge       string    `json:"rates_edge,omitempty"`                      // lower or higher: where a better rate may lie
	Optimum    *Optimum  `json:"rates_optimum,omitempty"`
	NoOptimum  string    `json:"no_optimum,omitempty"` // why there is none
	Decode     []Decode  `json:"decode,omitempty"`
	Trials     []Trial   `json:"trials"`
	Failures   []Failure `json:"failures,omitempty"`

	TokensPerSecond Estimate              `json:"tokens_per_second"`
	Loss            map[string]Estimate   `json:"loss"`                 // nats a token
	Perplexity      map[string]float64    `json:"perplexity"`           // of the mean loss
	Difference      map[string]Difference `json:"difference,omitempty"` // of the loss to the baseline's
	More            map[string]Estimate   `json:"more,omitempty"`
}

// ID names an arm among all sizes.
func (a *Arm) ID() string {
	if a.Size == "" {
		return a.Name
	}
	return a.Size + "/" + a.Name
}

// A Comparison is the arms of one experiment, each against the baseline of its size, on named sets.
type Comparison struct {
	Name     string   `json:"name"`
	Baseline string   `json:"baseline"`
	Sets     []string `json:"sets"`
	Seeds    int      `json:"seeds,omitempty"`
	LRSeeds  int      `json:"lr_seeds,omitempty"`  // those that every learning rate was tried with
	ChosenOn []string `json:"chosen_on,omitempty"` // the sets whose loss chose each arm's learning rate
	// those of Sets that are among these, by name or by their text
	ChosenReported []string `json:"chosen_on_and_reported,omitempty"`
	// what MLP widths were fitted to: parameters or flops
	Match string `json:"match,omitempty"`
	Arms  []Arm  `json:"arms"`
	Laws  []Law  `json:"laws,omitempty"` // by set, where there are sizes
}

// base is the baseline of an arm, nil where its size lacks one.
func (c *Comparison) base(a *Arm) *Arm {
	i := slices.IndexFunc(c.Arms, func(b Arm) bool { return b.Name == c.Baseline && b.Size == a.Size })
	if i < 0 {
		return nil
	}
	return &c.Arms[i]
}

// more estimates the further figures of the trials. That of a single trial has the interval that the trial gave it.
func (a *Arm) more() {
	values, single := map[string][]float64{}, map[string]float64{}
	for _, t := range a.Trials {
		for _, m := range t.More {
			values[m.Name], single[m.Name] = append(values[m.Name], m.Value), m.Error
		}
	}
	a.More = nil
	for name, x := range values {
		e := Mean(x)
		if e.N == 1 {
			e.Half = single[name]
		}
		if a.More == nil {
			a.More = map[string]Estimate{}
		}
		a.More[name] = e
	}
}

// columns are the names of further figures, in the order in which trials first have them.
func (c *Comparison) columns() (names []string) {
	for _, a := range c.Arms {
		for _, t := range a.Trials {
			for _, m := range t.More {
				if !slices.Contains(names, m.Name) {
					names = append(names, m.Name)
				}
			}
		}
	}
	return names
}

// on is the arm's loss on a set in nats a token, by seed in rising order: of all seeds, or of those that another arm
// has too.
func (a *Arm) on(set string, other *Arm) (x []float64) {
	for _, t := range a.measured(set, other) {
		x = append(x, math.Log(t.Perplexity[set]))
	}
	return x
}

// blocks are the arm's losses by document on a set, in the order of on.
func (a *Arm) blocks(set string, other *Arm) (all [][]Block) {
	for _, t := range a.measured(set, other) {
		all = append(all, t.Blocks[set])
	}
	return all
}

// measured are the arm's trials on a set, by seed in rising order: all, or those of seeds that another arm has too.
func (a *Arm) measured(set string, other *Arm) (all []Trial) {
	for _, t := range a.Trials {
		if _, ok := t.Perplexity[set]; ok && (other == nil || other.has(set, t.Seed)) {
			all = append(all, t)
		}
	}
	slices.SortFunc(all, func(s, t Trial) int { return cmp.Compare(s.Seed, t.Seed) })
	return all
}

func (a *Arm) has(set string, seed uint64) bool {
	return slices.ContainsFunc(a.Trials, func(t Trial) bool {
		_, ok := t.Perplexity[set]
		return ok && t.Seed == seed
	})
}
