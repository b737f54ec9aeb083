package lab

import "testing"

func TestQuote(t *testing.T) {
	if got := quote([]string{"headroom", "--set",
		"train.lr=3e-4", "it's", ""}); got != `headroom --set train.lr=3e-4 'it'\''s' ''` {
		t.Errorf("got %s", got)
	}
}
