package model

import (
	"strings"
	"testing"

	"headroom/attention"
)

// TestNormsStandWhereTheyAreSaid names the norms of a block, in checkpoint order, and refuses what is no place, and
// devices that would norm before they sum.
func TestNormsStandWhereTheyAreSaid(t *testing.T) {
	for norm, want := range map[string]string{
		"":        "norm1 norm2",
		PreNorm:   "norm1 norm2",
		PostNorm:  "norm1post norm2post",
		BothNorms: "norm1 norm1post norm2 norm2post",
	} {
		c := Default()
		c.Norm = norm
		m, err := New(c, attention.Default())
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, p := range m.Params() {
			if name, ok := strings.CutPrefix(p.Name, "blocks.1."); ok && strings.HasPrefix(name, "norm") {
				got = append(got, name)
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("norm %q has %s, not %s", norm, got, want)
		}
		_, err = m.Shard(2)
		refused := err != nil && strings.Contains(err.Error(), "model.norm: "+norm)
		if refused != strings.Contains(want, "post") {
			t.Errorf("norm %q on two devices: %v", norm, err)
		}
	}
	c := Default()
	c.Norm = "behind"
	const want = "model: norm must be pre, post or both, it is behind"
	if _, err := New(c, attention.Default()); err == nil || err.Error() != want {
		t.Error(err)
	}
}
