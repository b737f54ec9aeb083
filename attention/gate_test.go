package attention_test

import (
	"slices"
	"strings"
	"testing"

	"headroom/attention"
	"headroom/internal/graph"
)

// TestGateIsThere: every kind has the gate's weights, of the shape that the configuration says, and a shard of it has
// its own heads' part of them.
func TestGateIsThere(t *testing.T) {
	for _, d := range attention.Descriptions {
		for _, c := range []struct {
			gate  string
			width int
			shape []int
		}{{"", 0, nil}, {attention.NoGate, 0, nil}, {attention.HeadGate, 0, []int{64, 8}},
			{attention.ElementGate, 0, []int{64, 128}}, {attention.HeadGate, 12, []int{12, 8}},
			{attention.ElementGate, 64, []int{64, 128}}} {
			a := attention.Default()
			a.Kind, a.Groups, a.Heads, a.HeadDim, a.Gate, a.GateWidth = d.Kind, 2, 8, 16, c.gate, c.width
			if got := gateOf(t, a); !slices.Equal(got, c.shape) {
				t.Errorf("%s with gate %q of width %d has Wg %v, want %v", d.Kind, c.gate, c.width, got, c.shape)
			}
			if part, err := a.Shard(2); err != nil {
				t.Errorf("%s with gate %q on two devices: %v", d.Kind, c.gate, err)
			} else if got := gateOf(t, part); c.shape != nil && !slices.Equal(got, []int{c.shape[0], c.shape[1] / 2}) {
				t.Errorf("%s with gate %q of width %d has Wg %v on each of two devices", d.Kind, c.gate, c.width, got)
			}
		}
	}
}

// gateOf is the shape of a layer's gate.
func gateOf(t *testing.T, a attention.Config) []int {
	t.Helper()
	l, err := attention.New(a, attention.Place{Name: "attn", Width: 64, NormEps: 1e-5, Std: 0.02, OutStd: 0.02})
	if err != nil {
		t.Fatalf("%s: %v", a.Kind, err)
	}
	for _, p := range l.Params() {
		if p.Name == "attn.Wg" {
			if want := (graph.Init{Std: 0.02}); p.Init != want || !p.Decay {
				t.Errorf("%s: a gate begins as %+v and decays: %v; it is a matrix like the others", a.Kind, p.Init, p.Decay)
			}
			return p.Shape
		}
	}
	return nil
}

// TestGateIsRefused: what a gate cannot be is an error that states the rule.
func TestGateIsRefused(t *testing.T) {
	for _, c := range []struct {
		gate  string
		width int
		want  string
	}{
		{"heads", 0, `gate is none, head or element, not "heads"`},
		{attention.HeadGate, -1, "gate_width must not be negative, it is -1"},
		{attention.NoGate, 3, "gate_width is 3, and there is no gate"},
		{"", 3, "gate_width is 3, and there is no gate"},
		{attention.ElementGate, 65, "gate_width is 65, and the layer's input has 64 columns"},
	} {
		a := attention.Default()
		a.Gate, a.GateWidth = c.gate, c.width
		_, err := attention.New(a, attention.Place{Name: "attn", Width: 64, NormEps: 1e-5, Std: 0.02, OutStd: 0.02})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("gate %q of width %d: %v, want %s", c.gate, c.width, err, c.want)
		}
	}
	a := attention.Default()
	a.Gate = ""
	if a.General() != attention.Default().General() {
		t.Error("a configuration that does not say gate is not the one without it")
	}
}
