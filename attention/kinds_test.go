package attention

import (
	"strings"
	"testing"
)

// TestDescriptions: every kind has a layer of its own description, whose cache holds what the description says.
func TestDescriptions(t *testing.T) {
	for _, d := range Descriptions {
		c := Default()
		c.Kind, c.Heads, c.HeadDim = d.Kind, 8, 16
		if d.Usual > 0 {
			c.Groups = 2
		}
		l, err := New(c, Place{Name: "attn", Width: 64, NormEps: 1e-5, Std: 0.02, OutStd: 0.02})
		if err != nil {
			t.Errorf("%s: %v", d.Kind, err)
			continue
		}
		s := c.Shape()
		elements := 0
		for _, slot := range l.CacheLayout() {
			elements += slot.Heads * slot.Dim
		}
		want := c.Resolve().Groups * 2 * s.Dv
		if d.Cache != KeyValue {
			want = c.Resolve().Groups*s.Dv + s.R
		}
		if elements != want || s.P+s.R < 1 {
			t.Errorf("%s: %d cached elements a token, by its description %d", d.Kind, elements, want)
		}
		if kind, groups, err := Parse(c.Name()); kind != d.Kind || err != nil || d.Usual > 0 && groups != 2 {
			t.Errorf("%s is read as %s of %d: %v", c.Name(), kind, groups, err)
		}
	}
}

// TestUnknownKind: a kind without a description is an error that names it, nowhere another kind.
func TestUnknownKind(t *testing.T) {
	c := Default()
	c.Kind = "mfa"
	_, made := New(c, Place{Name: "attn", Width: 64})
	_, _, parsed := Parse("mfa-2")
	_, described := c.Kind.Describe()
	for what, err := range map[string]error{"New": made, "Parse": parsed, "Validate": c.Validate(), "Describe": described} {
		if err == nil || !strings.Contains(err.Error(), "mfa") {
			t.Errorf("%s: %v", what, err)
		}
	}
}
