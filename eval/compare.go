package eval

import (
	"fmt"
	"slices"
	"strings"
)

// A Trial is one trained and measured run of an arm.
type Trial struct {
	Seed            uint64             `json:"seed"`
	Perplexity      map[string]float64 `json:"perplexity"` // by set
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
	CacheBytes int64     `json:"cache_bytes_per_token_layer"` // in bf16
	LR         float64   `json:"lr,omitempty"`                // the best of Rates
	Rates      []Rate    `json:"rates,omitempty"`             // where several were tried
	Decode     []Decode  `json:"decode,omitempty"`
	Trials     []Trial   `json:"trials"`
	Failures   []Failure `json:"failures,omitempty"`

	TokensPerSecond Estimate              `json:"tokens_per_second"`
	Perplexity      map[string]Estimate   `json:"perplexity"`
	Difference      map[string]Difference `json:"difference,omitempty"` // to the baseline; P is after Holm's correction
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
	Name           string   `json:"name"`
	Baseline       string   `json:"baseline"`
	Sets           []string `json:"sets"`
	Seeds          int      `json:"seeds,omitempty"`
	LRSeeds        int      `json:"lr_seeds,omitempty"`               // those that every learning rate was tried with
	ChosenOn       []string `json:"chosen_on,omitempty"`              // the sets whose loss chose each arm's learning rate
	ChosenReported []string `json:"chosen_on_and_reported,omitempty"` // those of Sets that are among these, by name or by their text
	Match          string   `json:"match,omitempty"`                  // what MLP widths were fitted to: parameters or flops
	Arms           []Arm    `json:"arms"`
}

// base is the baseline of an arm, nil where its size lacks one.
func (c *Comparison) base(a *Arm) *Arm {
	i := slices.IndexFunc(c.Arms, func(b Arm) bool { return b.Name == c.Baseline && b.Size == a.Size })
	if i < 0 {
		return nil
	}
	return &c.Arms[i]
}

// Score computes the estimates of every arm from its trials. Differences pair the seeds that both arms finished; their
// p-values are corrected over the arms that are tested on a set.
func (c *Comparison) Score() error {
	for i := range c.Arms {
		a := &c.Arms[i]
		if c.base(a) == nil {
			return fmt.Errorf("eval: the baseline %q is not among the arms", strings.TrimPrefix(a.Size+"/"+c.Baseline, "/"))
		}
		a.Perplexity, a.Difference = map[string]Estimate{}, map[string]Difference{}
		var speeds []float64
		for _, t := range a.Trials {
			speeds = append(speeds, t.TokensPerSecond)
		}
		a.TokensPerSecond = Mean(speeds)
		a.more()
	}
	if len(c.Arms) == 0 {
		return fmt.Errorf("eval: the baseline %q is not among the arms", c.Baseline)
	}
	for _, set := range c.Sets {
		var tested []*Arm
		var p []float64
		for i := range c.Arms {
			a := &c.Arms[i]
			if e := Mean(a.on(set, nil)); e.N > 0 {
				a.Perplexity[set] = e
			}
			base := c.base(a)
			if a == base {
				continue
			}
			d := Paired(a.on(set, base), base.on(set, a))
			if d.N == 0 {
				continue
			}
			a.Difference[set] = d
			if d.N > 1 {
				tested, p = append(tested, a), append(p, d.P)
			}
		}
		for i, corrected := range Holm(p) {
			d := tested[i].Difference[set]
			d.P = corrected
			tested[i].Difference[set] = d
		}
	}
	return nil
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

// on is the arm's perplexity on a set, by seed in rising order: of all seeds, or of those that another arm has too.
func (a *Arm) on(set string, other *Arm) (x []float64) {
	trials := slices.SortedFunc(slices.Values(a.Trials), func(s, t Trial) int {
		if s.Seed < t.Seed {
			return -1
		}
		return 1
	})
	for _, t := range trials {
		if ppl, ok := t.Perplexity[set]; ok && (other == nil || other.has(set, t.Seed)) {
			x = append(x, ppl)
		}
	}
	return x
}

func (a *Arm) has(set string, seed uint64) bool {
	return slices.ContainsFunc(a.Trials, func(t Trial) bool {
		_, ok := t.Perplexity[set]
		return ok && t.Seed == seed
	})
}
