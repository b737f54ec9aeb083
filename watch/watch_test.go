package watch

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// put writes lines of steps to a run's metrics.jsonl.
func put(t *testing.T, dir string, from, to int, flags int) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "metrics.jsonl"), os.O_WRONLY|os.O_CREATE|flags, 0o666)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for step := from; step <= to; step++ {
		eval := ""
		if step%4 == 0 {
			eval = fmt.Sprintf(`,"eval":[{"set":"fox","perplexity":%d}]`, 100-step)
		}
		fmt.Fprintf(f,
			`{"step":%d,"loss":%g,"lr":0.001,"grad_norm":0.5,"tokens":%d,"tokens_per_second":200,"memory_bytes":1048576%s}`+"\n",
			step, 5-float64(step)/10, 32*step, eval)
	}
}

func file(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, dir string) *Watcher {
	t.Helper()
	w, err := New([]string{dir})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func poll(t *testing.T, w *Watcher) []Status {
	t.Helper()
	if err := w.poll(time.Now()); err != nil {
		t.Fatal(err)
	}
	all, _ := w.Statuses()
	return all
}

func TestFollow(t *testing.T) {
	root := t.TempDir()
	w := open(t, root)
	if all := poll(t, w); len(all) != 0 {
		t.Fatalf("got %+v", all)
	}
	dir := filepath.Join(root, "arm", "seed-1")
	put(t, dir, 1, 8, 0)
	file(t, filepath.Join(dir, "config.yaml"), "model: {context: 16}\ntrain: {tokens: 512, batch: 2}\n")
	s := poll(t, w)[0]
	if s.ID != "arm/seed-1" || s.State != Running || s.Step != 8 || s.Steps != 16 || s.Eval["fox"] != 92 ||
		s.Memory != 1<<20 || math.Abs(s.Left-8*32/200.0) > 1e-9 {
		t.Errorf("got %+v", s)
	}
	put(t, dir, 9, 12, os.O_APPEND)
	if s := poll(t, w)[0]; s.Step != 12 || len(w.runs[0].series.points) != 12 {
		t.Errorf("got %+v", s)
	}
	half, err := os.OpenFile(filepath.Join(dir, "metrics.jsonl"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(half, `{"step":13,"lo`)
	if s := poll(t, w)[0]; s.Step != 12 {
		t.Errorf("a line that is not finished counts: %+v", s)
	}
	fmt.Fprintln(half, `ss":1,"tokens":416}`)
	half.Close()
	if s := poll(t, w)[0]; s.Step != 13 {
		t.Errorf("got %+v", s)
	}
	put(t, dir, 1, 9, os.O_TRUNC) // back at a checkpoint, and on
	if s := poll(t, w)[0]; s.Step != 9 || len(w.runs[0].series.points) != 9 || s.Loss > 5 {
		t.Errorf("got %+v", s)
	}
	put(t, dir, 1, 20, os.O_TRUNC) // back and further than before between two looks
	file(t, filepath.Join(dir, "result.json"), "{}")
	if s := poll(t, w)[0]; s.Step != 20 || s.State != Finished || s.Left != 0 {
		t.Errorf("got %+v", s)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if all := poll(t, w); len(all) != 0 {
		t.Errorf("got %+v", all)
	}
}

func TestStates(t *testing.T) {
	root := t.TempDir()
	for _, name := range []string{"failed", "silent", "bad", "again"} {
		put(t, filepath.Join(root, name), 1, 2, 0)
	}
	past := time.Now().Add(-time.Hour)
	for _, name := range []string{"failed", "silent"} {
		if err := os.Chtimes(filepath.Join(root, name, "metrics.jsonl"), past, past); err != nil {
			t.Fatal(err)
		}
	}
	file(t, filepath.Join(root, "failed", "failed.json"), `{"reason": "the loss is NaN"}`)
	file(t, filepath.Join(root, "bad", "metrics.jsonl"), "what?\n")
	file(t, filepath.Join(root, "again", "failed.json"), `{"reason": "earlier"}`)
	if err := os.Chtimes(filepath.Join(root, "again", "failed.json"), past, past); err != nil {
		t.Fatal(err)
	}
	w := open(t, root)
	all, _ := w.Statuses()
	want := []struct {
		id     string
		state  State
		reason string
	}{{"again", Running, ""}, {"bad", Running, "metrics.jsonl is damaged or of another version"},
		{"failed", Failed, "the loss is NaN"}, {"silent", Silent, ""}}
	for i, r := range want {
		if all[i].ID != r.id || all[i].State != r.state || all[i].Reason != r.reason {
			t.Errorf("got %+v, want %+v", all[i], r)
		}
	}
	var table strings.Builder
	if err := w.Table(&table, 60); err != nil {
		t.Fatal(err)
	}
	if text := table.String(); strings.Count(text, "\n") != 5 || !strings.Contains(text, "silent  silent   2") {
		t.Errorf("got\n%s", text)
	}
	if _, err := New([]string{filepath.Join(root, "none")}); err == nil || !strings.HasPrefix(err.Error(), "watch: stat") {
		t.Errorf("got %v", err)
	}
}

// TestSeries: however many steps, a curve has at most so many points, and their mean is that of the steps.
func TestSeries(t *testing.T) {
	for _, n := range []int{1, most, most + 1, 3*most + 5, 10000} {
		var s series
		for i := range n {
			s.add(Point{float64(i + 1), float64(i + 1), float64(i)})
		}
		sum, steps := 0.0, 0.0
		for i, p := range s.points {
			each := float64(s.each)
			if i == len(s.points)-1 {
				each = float64(s.last)
			}
			sum, steps = sum+each*p[2], steps+each
		}
		last := s.points[len(s.points)-1]
		if len(s.points) > most || steps != float64(n) || math.Abs(sum/float64(n)-float64(n-1)/2) > 1e-6*float64(n) ||
			last[0] != float64(n) {
			t.Errorf("%d steps: %d points of %d, %v steps, mean %v, the last %v", n, len(s.points), s.each, steps,
				sum/float64(n), last)
		}
	}
}

// TestServe reads the stream as a browser does: runs whole, then what is new of them.
func TestServe(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "one")
	put(t, dir, 1, 3, 0)
	w := open(t, root)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- w.Serve(ctx, l) }()
	go w.Follow(ctx, 10*time.Millisecond)
	url := "http://" + l.Addr().String()
	response, err := http.Get(url + "/")
	if err != nil {
		t.Fatal(err)
	}
	if response.StatusCode != 200 || !strings.HasPrefix(response.Header.Get("Content-Type"), "text/html") {
		t.Errorf("the page is %v", response.Status)
	}
	response.Body.Close()
	request, err := http.NewRequest("GET", url+"/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Host = "elsewhere.example"
	if response, err := http.DefaultClient.Do(request); err != nil || response.StatusCode != http.StatusForbidden {
		t.Errorf("another site's name: %v, %v", response, err)
	}
	stream, err := http.Get(url + "/events")
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stream.Body)
	next := func(event string, v any) {
		t.Helper()
		for lines.Scan() && !strings.HasPrefix(lines.Text(), "event: ") {
		}
		if lines.Text() != "event: "+event || !lines.Scan() {
			t.Fatalf("got %q, not %s", lines.Text(), event)
		}
		if err := json.Unmarshal([]byte(strings.TrimPrefix(lines.Text(), "data: ")), v); err != nil {
			t.Fatal(err)
		}
	}
	var names []string
	var u update
	next("runs", &names)
	next("run", &u)
	if len(names) != 1 || names[0] != "one" || u.ID != "one" || u.From != 0 || len(u.Points) != 3 ||
		u.Points[2][2] != 4.7 {
		t.Errorf("got %v, %+v", names, u)
	}
	put(t, dir, 4, 4, os.O_APPEND)
	next("run", &u)
	if u.From != 2 || len(u.Points) != 2 || u.Step != 4 || len(u.Evals) != 1 {
		t.Errorf("got %+v", u)
	}
	put(t, filepath.Join(root, "two"), 1, 1, 0)
	if next("runs", &names); len(names) != 2 {
		t.Errorf("got %v", names)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	stream.Body.Close()
}
