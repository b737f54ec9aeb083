package data

import (
	"slices"
	"strings"
	"testing"
)

// TestStarts: a document starts at the token that it begins with, whether another ends it or not, and each row starts
// one, for what it begins with may be the rest of a document.
func TestStarts(t *testing.T) {
	const begin, end, x = 7, 8, 1
	for _, c := range []struct {
		name         string
		inputs, want []int32
	}{
		{"begins", []int32{begin, x, begin, x, x, begin}, []int32{0, 0, 2, 2, 2, 5}},
		{"a row within a document", []int32{x, x, begin, x, x, x}, []int32{0, 0, 2, 2, 2, 2}},
		{"begins and ends", []int32{x, end, begin, x, end, begin}, []int32{0, 0, 2, 2, 2, 5}},
		{"no text", []int32{begin, begin, begin, end, begin, end}, []int32{0, 1, 2, 2, 4, 4}},
		{"one document", []int32{x, x, x, x, x, x}, []int32{0, 0, 0, 0, 0, 0}},
	} {
		b := NewBatch(2, 6)
		copy(b.Inputs, []int32{x, begin, x, x, x, x})
		copy(b.Inputs[6:], c.inputs)
		starts := slices.Repeat([]int32{99}, 12)
		(&Documents{begin}).Starts(b, starts)
		if want := append([]int32{0, 1, 1, 1, 1, 1}, c.want...); !slices.Equal(starts, want) {
			t.Errorf("%s: %v, not %v", c.name, starts, want)
		}
	}
}

// TestDocumentsPerRow counts the parts of documents that rows have, and refuses shards that mark none.
func TestDocumentsPerRow(t *testing.T) {
	set := open(t, string(shard(magic16, version16, 7, 1, 1, 1, 7, 1, 1, 7, 1, 1, 1, 1, 1)))
	for width, want := range map[int]float64{4: (1. + 2 + 1) / 3, 6: (2. + 2) / 2, 13: 3} {
		if got, err := (&Documents{7}).PerRow(set, width); got != want || err != nil {
			t.Errorf("rows of %d: %v documents (%v), not %v", width, got, err, want)
		}
	}
	if _, err := (&Documents{9}).PerRow(set, 4); err == nil || !strings.Contains(err.Error(),
		"none of the first 12 tokens of the shards is 9") {
		t.Errorf("shards without documents: %v", err)
	}
}

// open opens the one shard of a folder.
func open(t *testing.T, text string) *Tokens {
	t.Helper()
	set, err := Open(write(t, map[string]string{"x.bin": text}), OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { set.Close() })
	return set
}
