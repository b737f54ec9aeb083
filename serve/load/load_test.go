package load

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// slow is a server that takes so long for the first token and between two; every refuse-th request is refused, every
// fail-th breaks off. counts says whether it tells its usage.
type slow struct {
	first, gap   time.Duration
	refuse, fail int64
	counts       bool
	warm         int64 // requests whose end is noted
	warmed       atomic.Pointer[time.Time]
	asked        atomic.Int64
	now, most    atomic.Int64 // at once
}

func (s *slow) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/v1/models":
		fmt.Fprint(w, `{"data":[{"id":"m"}]}`)
		return
	case "/tokenizer_info":
		fmt.Fprint(w, `{"vocab_size":50}`)
		return
	}
	now := s.now.Add(1)
	defer s.now.Add(-1)
	for most := s.most.Load(); now > most && !s.most.CompareAndSwap(most, now); most = s.most.Load() {
	}
	n := s.asked.Add(1)
	var q struct {
		Prompt []int32
		Max    int `json:"max_tokens"`
		Stream bool
	}
	if json.NewDecoder(r.Body).Decode(&q) != nil || !q.Stream || len(q.Prompt) == 0 {
		http.Error(w, "bad", http.StatusBadRequest)
		return
	}
	if s.refuse > 0 && n%s.refuse == 0 {
		http.Error(w, "later", http.StatusTooManyRequests)
		return
	}
	select {
	case <-time.After(s.first):
	case <-r.Context().Done():
		return
	}
	for i := range q.Max {
		if i > 0 {
			time.Sleep(s.gap)
		}
		fmt.Fprintf(w, "data: {\"choices\":[{\"text\":\"x\"}]}\n\n")
		w.(http.Flusher).Flush()
		if s.fail > 0 && n%s.fail == 0 {
			return
		}
	}
	if s.counts {
		fmt.Fprintf(w, "data: {\"choices\":[],\"usage\":{\"completion_tokens\":%d}}\n\n", q.Max)
	}
	if n <= s.warm {
		now := time.Now()
		s.warmed.Store(&now)
	}
	fmt.Fprint(w, "data: [DONE]\n\n")
}

func run(t *testing.T, s *slow, p Plan) Result {
	t.Helper()
	server := httptest.NewServer(s)
	defer server.Close()
	target := Target{URL: server.URL + "/v1/"}
	if err := target.Ask(context.Background()); err != nil {
		t.Fatal(err)
	}
	if p.Prompt == nil {
		p.Prompt, p.Output = Lengths{{5, 9, 1}}, Lengths{{4, 4, 1}}
	}
	r, err := target.Run(context.Background(), p)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestClosedLoop(t *testing.T) {
	s := &slow{first: 30 * time.Millisecond, gap: 10 * time.Millisecond, counts: true}
	r := run(t, s, Plan{Concurrency: 4, Requests: 20, Warm: 4, FirstLimit: time.Second, GapLimit: 5 * time.Millisecond})
	if r.Requests != 20 || r.Failed+r.Refused != 0 || r.Tokens != 80 || s.most.Load() != 4 || r.Model != "m" {
		t.Errorf("%+v, %d at once", r, s.most.Load())
	}
	if r.First.Median < 30 || r.Gap.Median < 10 || r.Mean.Median < 10 || r.Whole.Median < 60 ||
		r.First.P99 > r.First.Max || r.Share != 0 {
		t.Errorf("latencies %+v %+v %+v %+v, share %v", r.First, r.Gap, r.Mean, r.Whole, r.Share)
	}
	if r = run(t, &slow{}, Plan{Concurrency: 2, Requests: 10}); r.Tokens != 40 || r.Share != 1 {
		t.Errorf("without usage: %+v", r)
	}
}

// TestWarmRequestsDoNotCount: the rate is that of the measured requests alone.
func TestWarmRequestsDoNotCount(t *testing.T) {
	s := &slow{first: 50 * time.Millisecond, gap: 50 * time.Millisecond, warm: 8}
	r := run(t, s, Plan{Concurrency: 8, Requests: 32, Warm: 8})
	// four turns of four tokens, all after the last warm one
	least, most := 4*4*0.05, time.Since(*s.warmed.Load()).Seconds()
	if r.Tokens != 128 || r.Seconds < least || r.Seconds > most || math.Abs(r.TokensPerSecond*r.Seconds-128) > 1e-6 {
		t.Errorf("%d tokens, %v a second, in %v s, not from %v to %v s", r.Tokens, r.TokensPerSecond, r.Seconds, least, most)
	}
}

// TestOpenLoopCountsTheWait: a server that is slower than its load answers late, and that shows.
func TestOpenLoopCountsTheWait(t *testing.T) {
	s := &slow{first: 20 * time.Millisecond}
	r := run(t, s, Plan{Rate: 200, Requests: 60, Seed: 3})
	if r.Requests != 60 || r.Rate != 200 || s.most.Load() < 2 || r.Seconds < 0.1 || r.Whole.Median < 20 {
		t.Errorf("%+v, %d at once", r, s.most.Load())
	}
}

func TestRefusalsAndFailures(t *testing.T) {
	r := run(t, &slow{refuse: 3, fail: 4}, Plan{Concurrency: 1, Requests: 24})
	if r.Refused != 8 || r.Failed != 4 || len(r.Errors) == 0 || !strings.Contains(r.Errors[0], "without [DONE]") {
		t.Errorf("%+v", r)
	}
	if table := Table([]Result{r}); !strings.Contains(table, "1 at once") || !strings.Contains(table, " 12 ") {
		t.Error(table)
	}
}

func TestCancel(t *testing.T) {
	server := httptest.NewServer(&slow{first: time.Minute})
	defer server.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	target := Target{URL: server.URL, Model: "m", Vocab: 9}
	for _, p := range []Plan{{Concurrency: 2, Requests: 5}, {Rate: 50, Requests: 50}} {
		p.Prompt, p.Output = Lengths{{1, 1, 1}}, Lengths{{1, 1, 1}}
		if _, err := target.Run(ctx, p); err == nil || !strings.Contains(err.Error(), "nothing was measured") {
			t.Error(err)
		}
	}
}

func TestBadPlans(t *testing.T) {
	one := Lengths{{1, 1, 1}}
	for _, p := range []Plan{{}, {Concurrency: 1, Rate: 1, Requests: 1, Prompt: one, Output: one},
		{Concurrency: 1, Prompt: one, Output: one}, {Concurrency: 1, Requests: 1}, {Rate: -1}} {
		if p.Check() == nil {
			t.Errorf("%+v was taken", p)
		}
	}
	if err := (&Target{URL: "http://127.0.0.1:1"}).Ask(context.Background()); err == nil {
		t.Error("a server that is not there was asked")
	}
}

func TestLengths(t *testing.T) {
	l, err := ParseLengths("10-20:0.75,300:0.25")
	if err != nil || l.Longest() != 300 {
		t.Fatal(l, err)
	}
	r := rand.New(rand.NewPCG(1, 1))
	long := 0
	for range 10000 {
		switch n := l.draw(r); {
		case n == 300:
			long++
		case n < 10 || n > 20:
			t.Fatal(n)
		}
	}
	if long < 2300 || long > 2700 {
		t.Errorf("%d of 10000 are long, a quarter should be", long)
	}
	for _, bad := range []string{"", "0", "-1", "5-2", "a", "1-2-3", "5:0", "5:-1", "5:NaN", "5:x", "5,",
		"99999999999", "1e3"} {
		if _, err := ParseLengths(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func FuzzParseLengths(f *testing.F) {
	f.Add("128-1024:0.9,16384:0.1")
	f.Fuzz(func(t *testing.T, text string) {
		if l, err := ParseLengths(text); err == nil {
			if n := l.draw(rand.New(rand.NewPCG(1, 1))); n < 1 || n > l.Longest() {
				t.Errorf("%q: %d", text, n)
			}
		}
	})
}

func TestPlot(t *testing.T) {
	dir := t.TempDir()
	results := []Result{{Name: "a", TokensPerSecond: 10, Mean: Latency{Median: 5, P99: 9}},
		{Name: "a", TokensPerSecond: 40, Mean: Latency{Median: 6, P99: 12}}, {Model: "b", TokensPerSecond: 30}}
	for _, name := range []string{"x.svg", "x.png"} {
		if err := Plot(filepath.Join(dir, name), results); err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Size() < 1000 {
			t.Error(name, err)
		}
	}
	if err := Plot(filepath.Join(dir, "x.pdf"), results); err == nil {
		t.Error("a PDF was drawn")
	}
}
