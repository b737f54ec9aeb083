package data

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// numbers opens n tokens from k thousand on.
func numbers(t *testing.T, k, n int) *Tokens {
	t.Helper()
	var ids []uint32
	for i := range n {
		ids = append(ids, uint32(k*1000+i))
	}
	tokens, err := Open(write(t, map[string]string{"x_000000.bin": string(shard(magic16, version16, ids...))}),
		OpenOptions{Vocab: 1 << 16})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tokens.Close() })
	return tokens
}

// TestMixture: shares hold exactly in each round, each source goes through its windows epoch by epoch, ranks and stops
// change nothing.
func TestMixture(t *testing.T) {
	const T = 4
	tokens, weights := []*Tokens{numbers(t, 1, 41), numbers(t, 2, 801), numbers(t, 3, 17)}, []float64{0.7, 0.25, 0.05}
	load := func(rank, world int) *Loader {
		l, err := NewMixture(tokens, weights, T, 5, rank, world)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	l := load(0, 1)
	if l.Windows() != 10+200+4 {
		t.Errorf("%d windows", l.Windows())
	}
	var whole []int32
	of, starts := map[int32]int{}, map[int32]int{}
	batch := NewBatch(8, T)
	for range 2 * slots / 8 {
		if err := l.Next(batch); err != nil {
			t.Fatal(err)
		}
		for row := range batch.B {
			start := batch.Inputs[row*T]
			whole = append(whole, start)
			of[start/1000]++
			starts[start]++
		}
	}
	if want := map[int32]int{1: 2 * 717, 2: 2 * 256, 3: 2 * 51}; !maps.Equal(of, want) {
		t.Errorf("windows by source %v, want %v", of, want)
	}
	for start, n := range starts { // epochs: no window comes twice more than another
		if want := map[int32]int{1: 1434 / 10, 2: 512 / 200, 3: 102 / 4}[start/1000]; n != want && n != want+1 {
			t.Errorf("window %d came %d times, not %d or one more", start, n, want)
		}
	}
	var two []int32 // the same by two ranks
	a, b := load(0, 2), load(1, 2)
	half := NewBatch(4, T)
	for range 100 {
		for _, rank := range []*Loader{a, b} {
			if err := rank.Next(half); err != nil {
				t.Fatal(err)
			}
			for row := range half.B {
				two = append(two, half.Inputs[row*T])
			}
		}
	}
	if !slices.Equal(two, whole[:len(two)]) {
		t.Error("two ranks have other windows than one")
	}
	again := load(0, 1)
	if err := again.Restore(a.State()); err != nil {
		t.Fatal(err)
	}
	if err := again.Next(batch); err != nil || batch.Inputs[0] != whole[len(two)] {
		t.Error("a loader that was restored has other windows", err)
	}
	other, err := NewMixture(tokens, []float64{0.6, 0.35, 0.05}, T, 5, 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Restore(a.State()); err == nil || !strings.Contains(err.Error(), "mixture") {
		t.Error(err)
	}
}

func TestMixtureRefuses(t *testing.T) {
	a, b := numbers(t, 1, 50), numbers(t, 2, 5)
	for _, c := range []struct {
		tokens  []*Tokens
		weights []float64
		want    string
	}{
		{[]*Tokens{a, b}, []float64{1, 1}, "5 tokens: a window of T 8 needs 9"},
		{[]*Tokens{a, a}, []float64{1, 1e-9}, "less than one window in 1024"},
	} {
		if _, err := NewMixture(c.tokens, c.weights, 8, 1, 0, 1); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v", c.weights, err)
		}
	}
	for text, want := range map[string]string{
		"a": "[{a 1}]", "a,b": "[{a,b 1}]", "a:0.7,b:0.3": "[{a 0.7} {b 0.3}]", "c:/x:2": "[{c:/x 2}]", "a:b": "[{a:b 1}]",
		"x*[0-9]:1,y:2": "[{x*[0-9] 1} {y 2}]",
		"a:0,b:1":       "train has", ":1,b:2": "train has", "a:-1": "train has", "a:NaN,b:1": "train has",
	} {
		parts, err := ParseMixture(text)
		if got := fmt.Sprint(parts, err); !strings.Contains(got, want) {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

func FuzzParseMixture(f *testing.F) {
	f.Add("shards/web:0.7,shards/books:0.3")
	f.Fuzz(func(t *testing.T, text string) {
		parts, err := ParseMixture(text)
		if err != nil {
			return
		}
		var weights []float64
		for _, p := range parts {
			weights = append(weights, p.Weight)
		}
		if shares, err := deal(weights); err == nil {
			sum := int64(0)
			for _, n := range shares {
				sum += n
			}
			if sum != slots {
				t.Errorf("%q: %v", text, shares)
			}
		}
	})
}
