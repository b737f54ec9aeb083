package eval

import (
	"fmt"

	"headroom/attention"
)

// A Decode is the speed of an arm's decoding at one batch and context: greedy steps of the decode engine, end to end,
// over full caches.
type Decode struct {
	Batch           int                 `json:"batch"`
	Context         int                 `json:"context"` // tokens in the cache of each request
	Device          string              `json:"device"`
	Cache           attention.CacheType `json:"cache_type,omitempty"` // none in older results: that of the precision
	CacheBytes      int64               `json:"cache_bytes"`          // of the whole batch, as the device keeps it
	TokensPerSecond Estimate            `json:"tokens_per_second"`
	Failure         string              `json:"failure,omitempty"` // why there is no speed
}

// of names the case.
func (d Decode) of() string { return fmt.Sprintf("%d x %d", d.Batch, d.Context) }

// decodeCases are the batches and contexts that any arm was timed at.
func (c *Comparison) decodeCases() (cases []Decode) {
	for _, a := range c.Arms {
	next:
		for _, d := range a.Decode {
			for _, known := range cases {
				if known.of() == d.of() {
					continue next
				}
			}
			cases = append(cases, d)
		}
	}
	return cases
}

// decodes is an arm's speed in a case.
func (a *Arm) decodes(c Decode) string {
	for _, d := range a.Decode {
		if d.of() == c.of() {
			return d.TokensPerSecond.rate()
		}
	}
	return "-"
}
