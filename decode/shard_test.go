package decode_test

import (
	"strings"
	"testing"

	"headroom/attention"
	"headroom/decode/decodetest"
	"headroom/model"
)

func TestShardRefuses(t *testing.T) {
	for _, c := range []struct {
		kind  string
		parts int
		want  string
	}{
		{"mha", 3, "4 query heads cannot be divided among 3"}, {"gqa-4", 8, "4 query heads"},
		{"gla_q-2", 2, "cannot be divided"},
	} {
		whole := func(_ *model.Config, a *attention.Config) { a.QueryNorm = attention.WholeNorm }
		if _, err := decodetest.Tiny(t, c.kind, whole).Shard(0, c.parts); err == nil ||
			!strings.Contains(err.Error(), c.want) {
			t.Errorf("%s in %d: %v", c.kind, c.parts, err)
		}
	}
}
