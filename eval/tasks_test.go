package eval

import (
	"context"
	"math"
	"slices"
	"strings"
	"testing"

	"headroom/data"
	"headroom/internal/graph"
	"headroom/model"
)

// talker is a model of bytes with a context of 48: with random weights, or all zeros for seed 0.
func talker(t *testing.T, seed uint64) *Tasks {
	t.Helper()
	c, a := tinyConfigs()
	c.Vocab, c.Context = 257, 48
	m, err := model.New(c, a)
	if err != nil {
		t.Fatal(err)
	}
	store, err := graph.NewStore(graph.NewCPU(), m.Params())
	if err == nil && seed > 0 {
		err = store.Init(seed)
	}
	if err != nil {
		t.Fatal(err)
	}
	tok, err := data.NewTokenizer("bytes")
	if err != nil {
		t.Fatal(err)
	}
	return NewTasks(store, m, tok, 3)
}

// plainly scores a choice by itself, from logits in float64.
func (t *Tasks) plainly(tb testing.TB, c Choice) (sum float64, greedy bool) {
	tb.Helper()
	ids := t.tok.Append(nil, []byte(c.Context+c.Continuation))
	if c.Context == "" {
		ids = append([]int32{t.tok.EndOfText}, ids...)
	}
	ids = ids[max(0, len(ids)-t.model.Config.Context-1):]
	T := len(ids) - 1
	prog, err := graph.Compile(t.store, 1, T, func(b *graph.Builder) []*graph.Node {
		return []*graph.Node{t.model.Logits(b, b.Tokens("tokens"))}
	})
	if err != nil {
		tb.Fatal(err)
	}
	defer prog.Close()
	if err := prog.SetTokens("tokens", ids[:T]); err != nil {
		tb.Fatal(err)
	}
	if err := prog.RunAll(); err != nil {
		tb.Fatal(err)
	}
	logits, err := prog.Output(0, nil)
	if err != nil {
		tb.Fatal(err)
	}
	greedy = true
	spaces := len(c.Context) - len(strings.TrimRight(c.Context, " "))
	for i := T - spaces - len(c.Continuation); i < T; i++ {
		row := logits[i*257 : (i+1)*257]
		total := 0.0
		for _, v := range row {
			total += math.Exp(float64(v))
		}
		sum += float64(row[ids[i+1]]) - math.Log(total)
		greedy = greedy && slices.Max(row) == row[ids[i+1]]
	}
	return sum, greedy
}

// TestScore: choices in batches, behind one another and cut on the left score as each by itself.
func TestScore(t *testing.T) {
	task := talker(t, 3)
	items := []Item{{1, []Choice{{"a cat", " sat"}, {"a cat", " flew away"}}, 0},
		{2, []Choice{{"", "no context"}, {strings.Repeat("long ", 20), "and cut"}}, 0},
		{3, []Choice{{"x", "y"}, {"x", strings.Repeat("z", 47)}, {"tail", " x"}}, 1}}
	for _, greedy := range []bool{false, true} {
		rows, err := task.rows(items)
		if err == nil {
			err = task.score(context.Background(), "test", rows, greedy)
		}
		if err != nil {
			t.Fatal(err)
		}
		i := 0
		for _, item := range items {
			for _, c := range item.Choices {
				want, first := task.plainly(t, c)
				if math.Abs(rows[i].sum-want) > 1e-4 || greedy && rows[i].greedy != first {
					t.Errorf("%q: %v, %v, not %v, %v", c, rows[i].sum, rows[i].greedy, want, first)
				}
				i++
			}
		}
	}
}

// TestGreedy: the token that a model holds likeliest is found, and any other is not.
func TestGreedy(t *testing.T) {
	task := talker(t, 5)
	found := 0
	for b := range 256 {
		item := Item{1, []Choice{{"say", string([]byte{byte(b)})}}, 0}
		figures, err := task.Measure(context.Background(), "lambada", []Item{item})
		if err != nil {
			t.Fatal(err)
		}
		found += int(figures[0].Value)
	}
	if found > 1 { // none where the likeliest is end-of-text
		t.Errorf("%d bytes are the likeliest", found)
	}
}

func TestFigures(t *testing.T) {
	items := []Item{{1, []Choice{{"", "abcd"}, {"", "ab"}}, 0},
		{2, []Choice{{"", "a"}, {"", "b"}, {"", "c"}, {"", "dd"}}, 3}}
	rows := []row{{sum: -4}, {sum: -3}, {sum: -1}, {sum: -2}, {sum: -3}, {sum: -1.5}}
	got := choose("piqa", items, rows)
	// by the sum the second and the first choice: neither is right; per character -1 before -1.5, and -0.75 before -1:
	// both are
	want := []Figure{{"piqa", "acc", 2, 0, 0, 0.375}, {"piqa", "acc_norm", 2, 1, 0, 0.375}}
	if !slices.Equal(got, want) {
		t.Errorf("got %+v", got)
	}
	f := figure("x", "acc", []float64{1, 0, 0, 1}, 0.5)
	if math.Abs(f.Value-0.5) > 1e-15 || math.Abs(f.StdErr-math.Sqrt(0.25/3)) > 1e-15 { // sqrt(p (1-p) / (n-1))
		t.Errorf("got %+v", f)
	}
	if s := f.String(); s != "x: acc 0.5000 ± 0.2887 (standard error over 4 items), random 0.5" {
		t.Error(s)
	}
	if m := f.Measure(); m.Name != "x acc (random 0.5)" || math.Abs(m.Error-1.96*f.StdErr) > 1e-15 {
		t.Errorf("%+v", m)
	}
}

// TestNormedLengths: acc_norm divides by the characters of the choice alone: not by the bytes, and not by white space
// that ends the question, which is scored all the same. For a model of zeros a likelihood is the count of bytes, here
// four and the choice's.
func TestNormedLengths(t *testing.T) {
	task := talker(t, 0)
	for _, c := range []struct {
		name, lines string
		norm        float64
	}{
		{"6 of 2 against 24 of 10",
			`{"question_stem": "q \t ", "choices": {"text": ["ab", "éééééééééé"], "label": ["A", "B"]}, "answerKey": "B"}`, 1},
		{"6 of 2 against 10 of 2", `{"question_stem": "q\n  ", "choices": {"text": ["ab", "世世"], "label": ["A", "B"]}, "answerKey": "A"}
			{"question_stem": "q   ", "choices": {"text": ["ab", "cde"], "label": ["A", "B"]}, "answerKey": "A"}`, 0.5},
	} {
		items, err := parseItems("openbookqa", strings.NewReader(c.lines), 0)
		if err != nil {
			t.Fatal(err)
		}
		figures, err := task.Measure(context.Background(), "openbookqa", items)
		if err != nil || len(figures) != 2 || figures[1].Value != c.norm {
			t.Errorf("%s: %+v, %v", c.name, figures, err)
		}
		rows, err := task.rows(items)
		if err != nil || rows[0].counted != 6 {
			t.Errorf("%s: %d bytes of the first choice count, %v", c.name, rows[0].counted, err)
		}
	}
	for _, c := range []struct {
		task, line string
		counted    int
	}{
		{"winogrande", `{"sentence": "It is _ that won.", "option1": "he  ", "option2": "she", "answer": "1"}`, 12},
		{"lambada", `{"text": "shut the   door"}`, 7},
	} {
		items, err := parseItems(c.task, strings.NewReader(c.line), 0)
		if err != nil {
			t.Fatal(err)
		}
		if rows, err := task.rows(items); err != nil || rows[0].counted != c.counted {
			t.Errorf("%s: %d bytes count, not %d, %v", c.task, rows[0].counted, c.counted, err)
		}
	}
}

// TestUniform: a model of zeros guesses, and its perplexity of words is that of guessing.
func TestUniform(t *testing.T) {
	task := talker(t, 0)
	items, err := parseItems("lambada", strings.NewReader(`{"text": "one two"}`+"\n"+`{"text": "three four"}`), 0)
	if err != nil {
		t.Fatal(err)
	}
	figures, err := task.Measure(context.Background(), "lambada", items)
	if err != nil {
		t.Fatal(err)
	}
	ppl := figures[1]
	if want := math.Pow(257, 4.5); math.Abs(ppl.Random/want-1) > 1e-9 || math.Abs(ppl.Value/want-1) > 1e-4 ||
		ppl.Metric != "perplexity" {
		t.Errorf("got %+v, want %v", ppl, want)
	}
}

func TestBadRows(t *testing.T) {
	task := talker(t, 1)
	for _, c := range []struct {
		choice Choice
		want   string
	}{
		{
			Choice{"a", ""},
			"eval: piqa: line 7: 0 tokens to score; the model's context of 48 must hold them, and there must be one"},
		{Choice{"a", strings.Repeat("b", 49)}, "eval: piqa: line 7: 49 tokens to score; the model's context of 48"},
	} {
		if _, err := task.Measure(context.Background(), "piqa", []Item{{7, []Choice{c.choice, c.choice}, 0}}); err == nil ||
			!strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("got %v, want %s", err, c.want)
		}
	}
	task.model.Config.Vocab = 100
	if _, err := task.Measure(context.Background(), "piqa", []Item{{7, []Choice{{"a", "z"}}, 0}}); err == nil ||
		!strings.Contains(err.Error(), "line 7: token 122 of tokenizer bytes is not among the model's 100") {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := talker(t, 1).Measure(ctx, "piqa", []Item{{7, []Choice{{"a", "z"}, {"a", "y"}}, 0}}); err == nil {
		t.Error("goes on after its end")
	}
}
