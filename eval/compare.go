package eval

import (
	"fmt"
	"slices"
)

// A Trial is one trained and measured run of an arm.
type Trial struct {
	Seed            uint64             `json:"seed"`
	Perplexity      map[string]float64 `json:"perplexity"` // by set
	TokensPerSecond float64            `json:"tokens_per_second"`
}

// A Failure is a run of an arm that has no result.
type Failure struct {
	Seed   uint64 `json:"seed"`
	Reason string `json:"reason"`
}

// An Arm is one variant of a comparison with everything measured on it. Score fills in the estimates by set.
type Arm struct {
	Name       string    `json:"name"`
	Attention  string    `json:"attention"`
	Parameters int64     `json:"parameters"`
	CacheBytes int64     `json:"cache_bytes_per_token_layer"` // in bf16
	Trials     []Trial   `json:"trials"`
	Failures   []Failure `json:"failures,omitempty"`

	TokensPerSecond Estimate              `json:"tokens_per_second"`
	Perplexity      map[string]Estimate   `json:"perplexity"`
	Difference      map[string]Difference `json:"difference,omitempty"` // to the baseline; P is after Holm's correction
}

// A Comparison is the arms of one experiment against their baseline, on named sets.
type Comparison struct {
	Name     string   `json:"name"`
	Baseline string   `json:"baseline"`
	Sets     []string `json:"sets"`
	Arms     []Arm    `json:"arms"`
}

// Score computes the estimates of every arm from its trials. Differences pair the seeds that both arms finished; their
// p-values are corrected over the arms that are tested on a set.
func (c *Comparison) Score() error {
	base := slices.IndexFunc(c.Arms, func(a Arm) bool { return a.Name == c.Baseline })
	if base < 0 {
		return fmt.Errorf("eval: the baseline %q is not among the arms", c.Baseline)
	}
	for i := range c.Arms {
		a := &c.Arms[i]
		a.Perplexity, a.Difference = map[string]Estimate{}, map[string]Difference{}
		var speeds []float64
		for _, t := range a.Trials {
			speeds = append(speeds, t.TokensPerSecond)
		}
		a.TokensPerSecond = Mean(speeds)
	}
	for _, set := range c.Sets {
		var tested []*Arm
		var p []float64
		for i := range c.Arms {
			a := &c.Arms[i]
			if e := Mean(a.on(set, nil)); e.N > 0 {
				a.Perplexity[set] = e
			}
			if i == base {
				continue
			}
			d := Paired(a.on(set, &c.Arms[base]), c.Arms[base].on(set, a))
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
