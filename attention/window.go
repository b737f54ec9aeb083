package attention

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"headroom/internal/graph"
)

// Windows. A query of a window layer at position t reads the keys t-window+1 to t, its own with them, as Mistral 7B
// (arXiv 2310.06825) and the transformers library count them. With a pattern some layers have the window and some are
// full, and the two may rotate by different bases, as in Gemma 3 (arXiv 2503.19786).

// What a pattern is made of.
const (
	WindowLayer = "window"
	FullLayer   = "full"
)

// A Pattern is the words of a pattern with commas between them, so that configurations can be compared.
type Pattern string

// PatternOf is the pattern of a text such as [window, full], in which commas, spaces and brackets stand between words.
func PatternOf(text string) Pattern {
	between := func(r rune) bool { return strings.ContainsRune(",[] \t\n", r) }
	return Pattern(strings.Join(strings.FieldsFunc(text, between), ","))
}

// Words are what layers are in turn.
func (p Pattern) Words() []string {
	if p == "" {
		return nil
	}
	return strings.Split(string(p), ",")
}

// MarshalYAML writes a pattern as a list.
func (p Pattern) MarshalYAML() (any, error) { return append([]string{}, p.Words()...), nil }

// shortest is the shortest pattern that says the same of all layers.
func (p Pattern) shortest() Pattern {
	words := p.Words()
	for n := 1; n < len(words); n++ {
		if len(words)%n == 0 && slices.Equal(words[n:], words[:len(words)-n]) {
			return PatternOf(strings.Join(words[:n], ","))
		}
	}
	return p
}

// Layer is the attention of layer i, which has no pattern.
func (c Config) Layer(i int) Config {
	if words := c.Pattern.Words(); len(words) > 0 {
		if words[i%len(words)] == FullLayer {
			c.Window = 0
		} else if c.WindowRopeTheta != 0 {
			c.RopeTheta, c.RopeScaling = c.WindowRopeTheta, RopeScaling{}
		}
	}
	c.Pattern, c.WindowRopeTheta = "", 0
	return c
}

// mask is what queries of one layer read.
func (c Config) mask() graph.Mask { return graph.Mask{Window: c.Window} }

// windows writes windows and pattern in the one way that General has for all that say the same.
func (c Config) windows() Config {
	c.Pattern = c.Pattern.shortest()
	if c.Pattern == WindowLayer {
		c.Pattern = ""
	}
	if c.WindowRopeTheta == c.RopeTheta && c.RopeScaling == (RopeScaling{}) {
		c.WindowRopeTheta = 0
	}
	return c
}

// checkWindow states the rule that window and pattern break.
func (c Config) checkWindow() error {
	words := c.Pattern.Words()
	for _, w := range words {
		if w != WindowLayer && w != FullLayer {
			return fmt.Errorf("pattern is made of %s and %s, it has %q", WindowLayer, FullLayer, w)
		}
	}
	switch {
	case c.Window < 0:
		return fmt.Errorf("window must not be negative, it is %d", c.Window)
	case c.Window == 0 && len(words) > 0:
		return errors.New("pattern has window layers, so that window must be above 0: the keys that a query reads there")
	case len(words) > 0 && !slices.Contains(words, WindowLayer):
		return fmt.Errorf("pattern has no window layer: leave out window and pattern, and all layers are full")
	case c.WindowRopeTheta != 0 && !slices.Contains(words, FullLayer):
		return errors.New("window_rope_theta is of window layers that stand among full ones in a pattern: " +
			"where all are alike, set rope_theta")
	case c.WindowRopeTheta != 0 && !(c.WindowRopeTheta > 1):
		return fmt.Errorf("window_rope_theta must be above 1, it is %v", c.WindowRopeTheta)
	}
	return nil
}

// Keys is how many keys the T queries of a sequence read together in a layer with a window, or without one where it is
// 0.
func Keys(T, window int) int64 {
	t, w := int64(T), int64(T)
	if window > 0 {
		w = min(t, int64(window))
	}
	return w*(w+1)/2 + (t-w)*w
}

// Kept is how many tokens of T a layer with a window still needs to go on, or without one where it is 0.
func Kept(T, window int) int {
	if window == 0 {
		return T
	}
	return min(T, window)
}
