package eval

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"headroom/data"
	"headroom/internal/graph"
	"headroom/model"
)

// A Figure is one measurement of a zero-shot task.
type Figure struct {
	Task   string  `json:"task"`
	Metric string  `json:"metric"` // acc: by summed log-likelihood; acc_norm: by that per character; or perplexity
	Items  int     `json:"items"`
	Value  float64 `json:"value"`
	StdErr float64 `json:"stderr"` // of the mean over items; that of a perplexity by the delta method
	Random float64 `json:"random"` // what guessing gives: choices, or tokens, that are all as likely
}

// A Tasks measures one model on zero-shot tasks.
type Tasks struct {
	Progress io.Writer // nil for nowhere

	store *graph.Store
	model *model.Transformer
	tok   *data.Tokenizer
	batch int
}

// NewTasks measures a model whose parameters are in store, batch rows at once.
func NewTasks(store *graph.Store, m *model.Transformer, tok *data.Tokenizer, batch int) *Tasks {
	return &Tasks{store: store, model: m, tok: tok, batch: batch}
}

// Measure scores items of a task, as ReadItems gives them.
func (t *Tasks) Measure(ctx context.Context, task string, items []Item) ([]Figure, error) {
	rows, err := t.rows(items)
	if err != nil {
		return nil, fmt.Errorf("eval: %s: %w", task, err)
	}
	if err := t.score(ctx, task, rows, len(items[0].Choices) == 1); err != nil {
		return nil, fmt.Errorf("eval: %s: %w", task, err)
	}
	if len(items[0].Choices) > 1 {
		return choose(task, items, rows), nil
	}
	figures := t.lastWord(task, rows)
	for _, f := range figures {
		if math.IsInf(f.Value, 0) {
			return nil, fmt.Errorf("eval: %s: %s is infinite: the model holds the words for all but impossible", task, f.Metric)
		}
	}
	return figures, nil
}

// A row is one text to score: its tokens, of which the last so many count.
type row struct {
	tokens  []int32
	counted int
	sum     float64 // log-likelihood of what counts
	greedy  bool    // each token that counts is the likeliest; known where it is asked for
}

// rows are the choices of all items. What is longer than the model's context loses its beginning.
func (t *Tasks) rows(items []Item) (rows []row, err error) {
	longest := t.model.Config.Context + 1 // the last token is a target only
	for _, item := range items {
		for _, c := range item.Choices {
			whole := t.tok.Append(nil, []byte(c.Context+c.Continuation))
			// a token may join the space and the word behind it
			head := len(t.tok.Append(nil, []byte(strings.TrimRightFunc(c.Context, space))))
			if head == 0 {
				// nothing to go on from: a text begins
				open, _ := t.tok.Document()
				whole, head = append([]int32{open}, whole...), 1
			}
			r := row{tokens: whole, counted: len(whole) - head}
			if r.counted < 1 || r.counted >= longest {
				return nil,
					fmt.Errorf("line %d: %d tokens to score; the model's context of %d must hold them, and there must be one",
						item.Line, r.counted, longest-1)
			}
			r.tokens = r.tokens[max(0, len(r.tokens)-longest):]
			for _, id := range r.tokens {
				if int(id) >= t.model.Config.Vocab {
					return nil, fmt.Errorf("line %d: token %d of tokenizer %s is not among the model's %d", item.Line, id, t.tok.Name,
						t.model.Config.Vocab)
				}
			}
			rows = append(rows, r)
		}
	}
	return rows, nil
}

// score fills in the likelihoods. For greedy it looks at the logits, one row at a time: they are large.
func (t *Tasks) score(ctx context.Context, task string, rows []row, greedy bool) (err error) {
	T, B := 0, min(t.batch, len(rows))
	for _, r := range rows {
		T = max(T, len(r.tokens)-1)
	}
	if T = min((T+63)/64*64, t.model.Config.Context); greedy {
		B = 1
	}
	prog, err := graph.Compile(t.store, B, T, func(b *graph.Builder) []*graph.Node {
		outputs := []*graph.Node{t.model.NLL(b, b.Tokens("tokens"), b.Tokens("targets"))} // [B, T]
		if greedy {
			outputs = append(outputs, t.model.Logits(b, b.Tokens("tokens"))) // [B, T, V]
		}
		return outputs
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, prog.Close()) }()
	bar := newProgress(t.Progress, task, int64(len(rows)), "choices")
	defer bar.done()
	batch := data.NewBatch(B, T)
	var nll, logits []float32
	for at := 0; at < len(rows); at += B {
		if err := ctx.Err(); err != nil {
			return err
		}
		some := rows[at:min(at+B, len(rows))]
		fill(batch, some)
		err := errors.Join(prog.SetTokens("tokens", batch.Inputs), prog.SetTokens("targets", batch.Targets))
		if err == nil {
			err = prog.RunAll()
		}
		if err == nil {
			nll, err = prog.Output(0, nll)
		}
		if err == nil && greedy {
			logits, err = prog.Output(1, logits)
		}
		if err != nil {
			return err
		}
		for i := range some {
			some[i].take(nll[i*T:(i+1)*T], logits, len(logits)/T)
			if err := finite(-some[i].sum / float64(some[i].counted)); err != nil {
				return err
			}
		}
		bar.at(int64(at + len(some)))
	}
	return nil
}

// fill lays rows from the left; what does not count, and what is empty, has no target.
func fill(batch *data.Batch, rows []row) {
	for i := range batch.Targets {
		batch.Inputs[i], batch.Targets[i] = 0, -1
	}
	for i, r := range rows {
		n := len(r.tokens) - 1
		copy(batch.Inputs[i*batch.T:], r.tokens[:n])
		copy(batch.Targets[i*batch.T+n-r.counted:], r.tokens[n+1-r.counted:])
	}
}

// take reads a row's likelihoods [T] and, where there are some, its logits [T, V].
func (r *row) take(nll, logits []float32, V int) {
	n := len(r.tokens) - 1
	r.sum, r.greedy = 0, true
	for i := n - r.counted; i < n; i++ {
		r.sum -= float64(nll[i])
		if V > 0 {
			here := logits[i*V : (i+1)*V]
			r.greedy = r.greedy && here[r.tokens[i+1]] == slices.Max(here)
		}
	}
}

// choose takes the likeliest choice of each item, by the sum and, where choices differ in length, by the sum per
// character.
func choose(task string, items []Item, rows []row) []Figure {
	var summed, normed []float64
	random, lengths := 0.0, false
	for _, item := range items {
		n := len(item.Choices)
		bySum, byLength := 0, 0
		for i := range n {
			if rows[i].sum > rows[bySum].sum {
				bySum = i
			}
			if rows[i].sum/item.Choices[i].length() > rows[byLength].sum/item.Choices[byLength].length() {
				byLength = i
			}
			lengths = lengths || item.Choices[i].length() != item.Choices[0].length()
		}
		summed, normed = append(summed, is(bySum == item.Gold)), append(normed, is(byLength == item.Gold))
		random += 1 / float64(n) / float64(len(items))
		rows = rows[n:]
	}
	figures := []Figure{figure(task, "acc", summed, random)}
	if lengths {
		figures = append(figures, figure(task, "acc_norm", normed, random))
	}
	return figures
}

// lastWord is how often greedy decoding finds the word, and the perplexity of words.
func (t *Tasks) lastWord(task string, rows []row) []Figure {
	var found, nll []float64
	random, flat := 0.0, 0.0
	n, V := float64(len(rows)), math.Log(float64(t.tok.Vocab))
	for _, r := range rows {
		found, nll = append(found, is(r.greedy)), append(nll, -r.sum)
		random += math.Exp(-float64(r.counted)*V) / n
		flat += float64(r.counted) * V / n
	}
	ppl := figure(task, "perplexity", nll, math.Exp(flat))
	ppl.Value = math.Exp(ppl.Value)
	ppl.StdErr *= ppl.Value
	return []Figure{figure(task, "acc", found, random), ppl}
}

// figure is the mean of a value of each item.
func figure(task, metric string, x []float64, random float64) Figure {
	f := Figure{Task: task, Metric: metric, Items: len(x), Random: random}
	n := float64(len(x))
	for _, v := range x {
		f.Value += v / n
	}
	for _, v := range x {
		f.StdErr += (v - f.Value) * (v - f.Value)
	}
	f.StdErr = math.Sqrt(f.StdErr / max(1, n-1) / n)
	return f
}

func is(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// String is the figure for a terminal.
func (f Figure) String() string {
	return fmt.Sprintf("%s: %s %.*f ± %.*f (standard error over %d items), random %.3g", f.Task, f.Metric,
		decimals(f.Value)+1, f.Value, decimals(f.Value)+1, f.StdErr, f.Items, f.Random)
}

// Measure is the figure as a column of a comparison, which is named with its baseline.
func (f Figure) Measure() Measure {
	return Measure{Name: fmt.Sprintf("%s %s (random %.3g)", f.Task, f.Metric, f.Random), Value: f.Value,
		Error: 1.96 * f.StdErr}
}
