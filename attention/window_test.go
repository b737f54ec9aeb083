package attention

import (
	"strings"
	"testing"
)

// TestPatternOverLayers: a pattern is repeated over the layers, which differ in window and base alone.
func TestPatternOverLayers(t *testing.T) {
	c := Default()
	c.Window, c.Pattern, c.RopeTheta, c.WindowRopeTheta = 512, PatternOf("[window, window,full]"), 1e6, 1e4
	c.RopeScaling = RopeScaling{8, 1, 4, 8192}
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	for i := range 7 {
		want := Default()
		if i%3 == 2 {
			want.RopeTheta, want.RopeScaling = 1e6, c.RopeScaling
		} else {
			want.Window, want.RopeTheta = 512, 1e4
		}
		if got := c.Layer(i); got != want {
			t.Errorf("layer %d is %+v", i, got)
		}
	}
	c.WindowRopeTheta = 0
	if got := c.Layer(0); got.RopeTheta != 1e6 || got.RopeScaling != c.RopeScaling || got.Window != 512 {
		t.Errorf("without a base of its own a window layer is %+v", got)
	}
	c.Pattern = ""
	if got := c.Layer(5); got != c {
		t.Errorf("without a pattern layer 5 is %+v", got)
	}
}

// TestWindowRules holds each rule against a configuration that breaks it alone.
func TestWindowRules(t *testing.T) {
	for want, change := range map[string]func(*Config){
		"window must not be negative":           func(c *Config) { c.Window = -1 },
		"so that window must be above 0":        func(c *Config) { c.Window, c.Pattern = 0, "window,full" },
		`and full, it has "local"`:              func(c *Config) { c.Pattern = "local,full" },
		"pattern has no window layer":           func(c *Config) { c.Pattern = "full" },
		"window_rope_theta is of window layers": func(c *Config) { c.WindowRopeTheta = 500 },
		"window_rope_theta must be above 1":     func(c *Config) { c.Pattern, c.WindowRopeTheta = "window,full", 1 },
	} {
		for _, d := range Descriptions {
			c := Default()
			c.Kind, c.Window = d.Kind, 16
			if err := c.Validate(); err != nil {
				t.Fatal(err)
			}
			change(&c)
			if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) ||
				!strings.HasPrefix(err.Error(), "attention: "+string(d.Kind)+": ") {
				t.Errorf("%v, not: %s", err, want)
			}
		}
	}
}

// TestOneWayToSayAPattern: configurations that say the same of all layers are equal in their general form.
func TestOneWayToSayAPattern(t *testing.T) {
	with := func(pattern Pattern, theta float64) Config {
		c := Default()
		c.Window, c.Pattern, c.WindowRopeTheta = 16, pattern, theta
		return c.General()
	}
	if with("window", 0) != with("", 0) || with("window,full,window,full", 0) != with("window,full", 10000) ||
		with("window,window", 0) != with("", 0) {
		t.Error("equal patterns have unequal forms")
	}
	if with("window,full,window", 0) == with("window,full", 0) || with("window,full", 500) == with("window,full", 0) {
		t.Error("unequal patterns have one form")
	}
}

// TestKeys counts by the definition.
func TestKeys(t *testing.T) {
	for _, window := range []int{0, 1, 3, 9, 10, 50} {
		for _, T := range []int{1, 2, 9, 10, 11} {
			n, kept := 0, 0
			for q := range T {
				for k := range q + 1 {
					if window == 0 || q-k < window {
						if n++; q == T-1 {
							kept++
						}
					}
				}
			}
			if got := Keys(T, window); got != int64(n) || Kept(T, window) != kept {
				t.Errorf("window %d, %d tokens: %d keys and %d kept, by hand %d and %d", window, T, got, Kept(T, window), n, kept)
			}
		}
	}
}
