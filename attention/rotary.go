package attention

import (
	"fmt"

	"headroom/internal/graph"
)

// RopeScaling slows the slow pairs of a rotary embedding, as Llama 3.1 does for contexts longer than the one that it
// was first trained on.
type RopeScaling struct {
	// how many times slower the slowest pairs of columns turn, as Llama 3.1 has it for long contexts; 0 scales nothing
	Factor float64 `mapstructure:"factor" yaml:"factor"`
	// a pair that turns fewer times than this within original_context is slowed by the whole factor
	LowFreqFactor float64 `mapstructure:"low_freq_factor" yaml:"low_freq_factor"`
	// a pair that turns more often than this is not slowed, and between the two the frequency goes linearly
	HighFreqFactor float64 `mapstructure:"high_freq_factor" yaml:"high_freq_factor"`
	// tokens of the context before it was scaled
	OriginalContext int `mapstructure:"original_context" yaml:"original_context"`
}

func (s RopeScaling) validate() error {
	switch {
	case s == RopeScaling{}:
		return nil
	case !(s.Factor >= 1 && s.Factor <= 1e6):
		return fmt.Errorf("rope_scaling.factor must be at least 1, or 0 with all keys of rope_scaling where nothing is "+
			"scaled, it is %v", s.Factor)
	case !(s.LowFreqFactor > 0 && s.HighFreqFactor > s.LowFreqFactor && s.HighFreqFactor <= 1e6):
		return fmt.Errorf("rope_scaling.high_freq_factor must be above low_freq_factor, and both positive, they are %v "+
			"and %v", s.HighFreqFactor, s.LowFreqFactor)
	case s.OriginalContext < 1:
		return fmt.Errorf("rope_scaling.original_context must be positive, it is %d", s.OriginalContext)
	}
	return nil
}

// Rotary is the rotary embedding of queries and keys.
func (c Config) Rotary() graph.Rotary {
	s := c.RopeScaling
	return graph.Rotary{Theta: c.RopeTheta, Factor: s.Factor, Low: s.LowFreqFactor, High: s.HighFreqFactor,
		Context: s.OriginalContext}
}
