package lab

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"headroom/internal/graph"
	"headroom/train"
)

// searching is a device that finds another algorithm each time it searches, as timing may, and takes one that it is
// given before it compiles.
type searching struct {
	*graph.CPU
	searches *int
	chosen   map[string]int
	late     bool // algorithms came after something was compiled
}

func (s *searching) Name() string { return "searching" }

func (s *searching) Compile(in *graph.Instr) (graph.Kernel, error) {
	shape := fmt.Sprintf("%T", in.Attr)
	if _, ok := s.chosen[shape]; !ok {
		*s.searches++
		s.chosen[shape] = *s.searches
	}
	return s.CPU.Compile(in)
}

func (s *searching) Choices() map[string]int { return maps.Clone(s.chosen) }

func (s *searching) Choose(choices map[string]int) {
	for shape, algorithm := range choices {
		if was, ok := s.chosen[shape]; ok && was != algorithm {
			s.late = true
		}
		s.chosen[shape] = algorithm
	}
}

// onSearching has all runs of a test take such a device, and returns those that were opened.
func onSearching(t *testing.T) (opened *[]*searching, searches *int) {
	opened, searches = new([]*searching), new(int)
	was := openDevice
	t.Cleanup(func() { openDevice = was })
	openDevice = func(string, string, int) (graph.Backend, error) {
		s := &searching{CPU: graph.NewCPU(), searches: searches, chosen: map[string]int{}}
		*opened = append(*opened, s)
		return s, nil
	}
	return opened, searches
}

// TestRunsShareAlgorithms: what the first run of a comparison finds, the others take without a search, also where the
// file is damaged meanwhile.
func TestRunsShareAlgorithms(t *testing.T) {
	opened, searches := onSearching(t)
	dir := shards(t)
	c := kept(t, dir, comparison(dir, ""))
	c.Results = ""
	if err := os.MkdirAll(c.Dir, 0o777); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(c.Dir, productsName)
	run := func(task Task) (found int) {
		before := *searches
		if err := c.do(context.Background(), task); err != nil {
			t.Fatal(err)
		}
		return *searches - before
	}
	if n := run(Task{Arm: 0, Seed: 1}); n == 0 {
		t.Fatal("the first run searched nothing")
	}
	first := (*opened)[0].chosen
	if n := run(Task{Arm: 0, Seed: 2}); n != 0 || !maps.Equal((*opened)[1].chosen, first) {
		t.Errorf("the second run made %d searches: %v, not %v", n, (*opened)[1].chosen, first)
	}
	if err := os.WriteFile(path, []byte("{"), 0o666); err != nil {
		t.Fatal(err)
	}
	if n := run(Task{Arm: 1, Seed: 1}); n == 0 {
		t.Error("with a damaged file nothing was searched")
	}
	all, err := readProducts(path)
	if err != nil || len(all["searching"]) == 0 || len(all) != 1 {
		t.Errorf("%v, %v", all, err)
	}
}

// TestResumeTakesItsOwnAlgorithms: a run goes on with the algorithms of its checkpoint in everything that it compiles,
// whatever others have found.
func TestResumeTakesItsOwnAlgorithms(t *testing.T) {
	opened, _ := onSearching(t)
	dir := shards(t)
	r := Run{Dir: filepath.Join(dir, "run"), Config: load(t, tiny(dir), "train.schedule=constant"), Resume: true,
		Products: filepath.Join(dir, productsName)}
	if _, err := r.Do(context.Background()); err != nil {
		t.Fatal(err)
	}
	_, state, err := train.Latest(r.Dir)
	if err != nil {
		t.Fatal(err)
	}
	others := map[string]int{}
	for shape := range state.Choices {
		others[shape] = 1000
	}
	if err := writeFile(r.Products, map[string]map[string]int{"searching": others}); err != nil {
		t.Fatal(err)
	}
	r.Config = load(t, tiny(dir), "train.schedule=constant", "train.steps=8")
	if _, err := r.Do(context.Background()); err != nil {
		t.Fatal(err)
	}
	if s := (*opened)[1]; s.late || !maps.Equal(s.chosen, state.Choices) {
		t.Errorf("it went on with %v, late %v, not %v", s.chosen, s.late, state.Choices)
	}
}

// TestEstimateKnowsOfSearches: an arm whose algorithms must be searched is timed with and without the search.
func TestEstimateKnowsOfSearches(t *testing.T) {
	opened, _ := onSearching(t)
	dir := shards(t)
	c := kept(t, dir, comparison(dir, ""))
	all, err := c.Estimate(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if n := len(*opened); n != 4 && n != 3 { // twice the first arm, and the second again where it has shapes of its own
		t.Errorf("%d devices were opened", n)
	}
	for _, e := range all {
		if sum := 2*(e.Training+e.Beside) + e.Cost.First - e.Cost.Start; e.Runs != 2 || e.Seconds != sum {
			t.Errorf("%+v: not %v s", e, sum)
		}
	}
}
