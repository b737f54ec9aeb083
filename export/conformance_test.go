package export

import (
	"context"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"headroom/attention"
	"headroom/decode"
	"headroom/decode/host"
	"headroom/internal/graph"
	"headroom/model"
)

// TestConformance holds every kind of attention to what the rest of the program takes for granted. A kind that is not
// complete fails here by its name; that its numbers are the paper's is for its golden file to say.
func TestConformance(t *testing.T) {
	for _, d := range attention.Descriptions {
		t.Run(string(d.Kind), func(t *testing.T) {
			checkpoint, m := tiny(t, d.Name(2), unusual)
			s := &specimen{Model: m, store: storeOf(t, m)}
			t.Run("described", func(t *testing.T) { s.isDescribed(t, d) })
			t.Run("gradients", s.gradientsAreSlopes)
			t.Run("causality", s.seesThePastAlone)
			t.Run("decode", s.decodesAsForward)
			t.Run("counts", s.isCounted)
			t.Run("export", func(t *testing.T) {
				if d.Exported() {
					s.goesThereAndBack(t, checkpoint)
				} else {
					refuses(t, HF, checkpoint, string(d.Kind)+" attention")
				}
			})
		})
	}
}

// TestConformanceInWindows holds every kind, with a window in the second of its two layers, to the same.
func TestConformanceInWindows(t *testing.T) {
	for _, d := range attention.Descriptions {
		t.Run(string(d.Kind), func(t *testing.T) {
			checkpoint, m := tiny(t, d.Name(2), unusual, func(_ *model.Config, a *attention.Config) {
				a.Window, a.Pattern, a.WindowRopeTheta = 4, "full,window", 300
			})
			s := &specimen{Model: m, store: storeOf(t, m)}
			t.Run("gradients", s.gradientsAreSlopes)
			t.Run("causality", s.seesThePastAlone)
			t.Run("decode", s.decodesAsForward)
			t.Run("counts", s.isCounted)
			t.Run("export", func(t *testing.T) { s.goesOutAsOwn(t, checkpoint, "attention.window is 4") })
		})
		t.Run(string(d.Kind)+" in every layer", func(t *testing.T) {
			_, m := tiny(t, d.Name(2), unusual, func(_ *model.Config, a *attention.Config) { a.Window = 3 })
			s := &specimen{Model: m, store: storeOf(t, m)}
			t.Run("causality", s.seesThePastAlone)
			t.Run("decode", s.decodesAsForward)
		})
	}
}

// unusual has dims that no default gives.
func unusual(c *model.Config, a *attention.Config) {
	c.Width, c.MLP, c.Context = 16, 24, 40
	if a.Resolve().LatentDim > 0 {
		a.LatentDim = 12
	}
	if a.Resolve().QueryLatentDim > 0 {
		a.QueryLatentDim = 20
	}
}

// A specimen is a small model of a kind.
type specimen struct {
	*decode.Model
	store *graph.Store
}

// specimenTokens is one row, with tokens that come again.
var specimenTokens = []int32{3, 1, 4, 1, 5, 9, 2, 6, 10, 3, 1}

func storeOf(t *testing.T, m *decode.Model) *graph.Store {
	t.Helper()
	s, err := graph.NewStore(graph.NewCPU(), m.Params())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	for name, w := range m.Weights {
		if err := s.Set(name, w); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// isDescribed holds the entry against itself, and the parameters against the roles that it gives them.
func (s *specimen) isDescribed(t *testing.T, d attention.Description) {
	if d.Title == "" {
		t.Error("it has no title")
	}
	if d.Of != "" {
		general, err := d.Of.Describe()
		if err != nil || general.Of != "" || general.Cache != d.Cache || general.Family != d.Family ||
			!slices.Equal(general.Parts, d.Parts) {
			t.Errorf("it is said to be %s, which is described as %+v (%v)", d.Of, general, err)
		}
		if back := s.Attention.General().Special(); back.Kind != d.Kind {
			t.Errorf("as %s it is taken for %s", d.Of, back.Kind)
		}
	}
	seen := map[string]bool{}
	for _, p := range s.Params() {
		_, name, isAttention := strings.Cut(p.Name, ".attn.")
		if !isAttention {
			continue
		}
		seen[name] = true
		switch role, of := d.Kind.Role(name); role {
		case attention.Norm:
			if p.Init != (graph.Init{Mean: 1}) || p.Decay {
				t.Errorf("%s begins as %+v and decays: %v; a norm begins at 1 and does not", name, p.Init, p.Decay)
			}
		case attention.Gain:
			if p.Init != (graph.Init{}) || p.Decay {
				t.Errorf("%s begins as %+v and decays: %v; a gain begins at 0 and does not", name, p.Init, p.Decay)
			}
		case attention.Matrix, attention.Parted:
			if !(p.Init.Std > 0) || !p.Decay || role == attention.Matrix && len(p.Shape) != 2 {
				t.Errorf("%s %v begins as %+v and decays: %v; a matrix is random and does", name, p.Shape, p.Init, p.Decay)
			}
		case attention.Bias, attention.PartedBias:
			if p.Init != (graph.Init{}) || p.Decay || !seen[of] {
				t.Errorf("%s begins as %+v, decays: %v, and %s came before it: %v; a bias begins at 0 behind its matrix", name,
					p.Init, p.Decay, of, seen[of])
			}
		default:
			t.Errorf("%s has no role: its name begins neither with W nor norm nor gain nor b", name)
		}
	}
	for _, name := range d.Parts {
		if !seen[name] {
			t.Errorf("there is no weight %s, which is said to act on parts", name)
		}
	}
}

// gradientsAreSlopes holds every parameter's gradient against central differences of the loss, along the gradient
// itself and along a random direction. The loss is summed in float64 from the logits.
func (s *specimen) gradientsAreSlopes(t *testing.T) {
	n := len(specimenTokens) - 1
	tokens, next := specimenTokens[:n], specimenTokens[1:]
	tr, err := graph.NewTrainer(s.store, 1, n, 1, func(b *graph.Builder) *graph.Node {
		return s.Loss(b, b.Tokens("tokens"), b.Tokens("targets"), 0)
	})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	if err := tr.Gradients([]graph.Batch{{"tokens": tokens, "targets": next}}); err != nil {
		t.Fatal(err)
	}
	logits, random := s.scorer(t, n), rand.New(rand.NewPCG(7, 0))
	for _, p := range s.Params() {
		g, err := s.store.Grad(p.Name)
		if err != nil {
			t.Fatal(err)
		}
		norm := 0.0
		for _, x := range g {
			norm = math.Hypot(norm, float64(x))
		}
		if !(norm > 5e-5) {
			t.Errorf("the gradient of %s is %v: too small to compare", p.Name, norm)
			continue
		}
		step := 2e-3 * min(20, max(1, 1e-3/norm)) // what is flat takes more, by which sums in float32 are less in error
		own, other := make([]float64, len(g)), make([]float64, len(g))
		for i := range g {
			own[i] = float64(g[i]) / norm
			other[i] = random.NormFloat64() / math.Sqrt(float64(len(g)))
		}
		for _, direction := range [][]float64{own, other} {
			loss := func() float64 { return meanLoss(logits(tokens), next, s.Config.Vocab) }
			want, got := s.slope(t, p.Name, direction, step, loss), 0.0
			for i, d := range direction {
				got += float64(g[i]) * d
			}
			if !(math.Abs(got-want) < 5e-3*norm+2e-4*2e-3/step) {
				t.Errorf("the slope of %s is %v, differences say %v", p.Name, got, want)
			}
		}
	}
}

// slope is a central difference of f as a parameter moves along a direction, extrapolated from two steps to none.
func (s *specimen) slope(t *testing.T, name string, direction []float64, h float64, f func() float64) (slope float64) {
	t.Helper()
	for _, x := range []struct{ step, weight float64 }{{h, 4. / 3}, {-h, -4. / 3}, {2 * h, -1. / 6}, {-2 * h, 1. / 6}} {
		w := slices.Clone(s.Weights[name])
		for i := range w {
			w[i] += float32(x.step * direction[i])
		}
		if err := s.store.Set(name, w); err != nil {
			t.Fatal(err)
		}
		slope += x.weight * f() / (2 * h)
	}
	if err := s.store.Set(name, s.Weights[name]); err != nil {
		t.Fatal(err)
	}
	return slope
}

// meanLoss is the mean negative log-likelihood.
func meanLoss(logits []float32, targets []int32, vocab int) (sum float64) {
	for i, target := range targets {
		sum -= logProb(logits[i*vocab:(i+1)*vocab], target)
	}
	return sum / float64(len(targets))
}

func logProb(row []float32, token int32) float64 {
	z := 0.0
	for _, x := range row {
		z += math.Exp(float64(x))
	}
	return float64(row[token]) - math.Log(z)
}

// scorer compiles the logits of one row of T tokens.
func (s *specimen) scorer(t *testing.T, T int) func(tokens []int32) []float32 {
	t.Helper()
	p, err := graph.Compile(s.store, 1, T, func(b *graph.Builder) []*graph.Node {
		return []*graph.Node{s.Logits(b, b.Tokens("tokens"))}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return func(tokens []int32) []float32 {
		t.Helper()
		err := p.SetTokens("tokens", tokens)
		if err == nil {
			err = p.RunAll()
		}
		if err != nil {
			t.Fatal(err)
		}
		x, err := p.Output(0, nil)
		if err != nil {
			t.Fatal(err)
		}
		return slices.Clone(x)
	}
}

// seesThePastAlone changes one token: the rows before it keep every bit, and those that windows hide it from; its own
// row and all others do not.
func (s *specimen) seesThePastAlone(t *testing.T) {
	logits, V, reach := s.scorer(t, len(specimenTokens)), s.Config.Vocab, 0
	for i := range s.Config.Layers {
		reach += attention.Kept(len(specimenTokens), s.LayerAttention(i).Window) - 1
	}
	was := logits(specimenTokens)
	for at := range specimenTokens {
		tokens := slices.Clone(specimenTokens)
		tokens[at] += 100
		now := logits(tokens)
		for i := range tokens {
			if same := slices.Equal(now[i*V:(i+1)*V], was[i*V:(i+1)*V]); same != (i < at || i > at+reach) {
				t.Errorf("row %d after a change of token %d: equal %v", i, at, same)
			}
		}
	}
}

// decodesAsForward takes a prompt in by pieces and goes on from it greedily: every token has the probability that it
// has in one pass over all of them, and is the likeliest.
func (s *specimen) decodesAsForward(t *testing.T) {
	e, err := decode.Open(s.Model, host.New(), decode.Options{Pages: 2, Rows: 1, Chunk: 4, Scored: 4})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	q, err := e.Submit(decode.Request{Prompt: specimenTokens, MaxTokens: 12, IgnoreEnd: true, Score: true, Echo: true,
		Sampling: decode.Sampling{Repetition: 1}})
	if err != nil {
		t.Fatal(err)
	}
	for e.Busy() {
		if err := e.Step(); err != nil {
			t.Fatal(err)
		}
	}
	if len(q.Tokens) != len(specimenTokens)+12 || len(q.Scores) != len(q.Tokens)-1 {
		t.Fatalf("%d tokens with %d scores", len(q.Tokens), len(q.Scores))
	}
	logits, V := s.scorer(t, len(q.Tokens))(q.Tokens), s.Config.Vocab
	for i, token := range q.Tokens[1:] {
		row := logits[i*V : (i+1)*V]
		if got, want := float64(q.Scores[i].LogProb), logProb(row, token); !(math.Abs(got-want) < 1e-4) {
			t.Errorf("token %d has a log-probability of %v by decoding, %v in one pass", i+1, got, want)
		}
		if likeliest := slices.Max(row); i+1 >= len(specimenTokens) && !(row[token] > likeliest-1e-4) {
			t.Errorf("token %d has a logit of %v, the likeliest %v", i+1, row[token], likeliest)
		}
	}
	s.decodesInFP8(t, q.Tokens, logits)
}

// decodesInFP8 scores tokens through an 8-bit cache by pieces: their probabilities are near those of the forward pass,
// and not the same.
func (s *specimen) decodesInFP8(t *testing.T, tokens []int32, logits []float32) {
	e, err := decode.Open(s.Model, host.Sharded(1, attention.FP8), decode.Options{Pages: 2, Rows: 1, Chunk: 5, Scored: 5})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	q, err := e.Submit(decode.Request{Prompt: tokens, Score: true, Echo: true})
	if err != nil {
		t.Fatal(err)
	}
	for e.Busy() {
		if err := e.Step(); err != nil {
			t.Fatal(err)
		}
	}
	V, mean := s.Config.Vocab, 0.0
	for i, token := range tokens[1:] {
		mean += math.Abs(float64(q.Scores[i].LogProb)-logProb(logits[i*V:(i+1)*V], token)) / float64(len(tokens)-1)
	}
	if !(mean < 0.2) || mean < 1e-6 {
		t.Errorf("log-probabilities in fp8 differ by %v on average from those of the forward pass", mean)
	}
}

// isCounted holds the counts against the graph of the model, its checkpoint and what decoding really allocates.
func (s *specimen) isCounted(t *testing.T) {
	count, parameters := s.Count(), 0
	for _, w := range s.Weights {
		parameters += len(w)
	}
	if count.Parameters != int64(parameters) {
		t.Errorf("%d parameters are counted, the weights have %d", count.Parameters, parameters)
	}
	const T = 16
	flops := 0.0
	p, err := graph.Compile(s.store, 1, T, func(b *graph.Builder) []*graph.Node {
		out := s.Logits(b, b.Tokens("tokens"))
		for _, n := range out.Graph().AllNodes() {
			op, ok := n.Op().(*graph.Op)
			if !ok {
				continue
			}
			switch a := op.Attr.(type) {
			case graph.Linear:
				flops += 2 * float64(a.Rows*a.Groups*a.In*a.Out)
			case graph.Logits:
				flops += 2 * float64(a.B*a.T*a.V*a.C)
			case graph.Expand:
				flops += 2 * float64(a.Rows*a.H*a.R*a.D)
			case graph.Attend:
				flops += 2 * float64(a.B*a.H*(a.P+a.R+a.Dv)) * float64(attention.Keys(T, a.Window))
			}
		}
		return []*graph.Node{out}
	})
	if err != nil {
		t.Fatal(err)
	}
	p.Close()
	if got := s.ForwardFLOPs(T); got != flops/T {
		t.Errorf("%v operations a token are counted forward, the graph has %v", got, flops/T)
	}
	const pages = 3
	tokens := int64(pages * decode.PageTokens)
	for _, c := range attention.CacheTypes {
		d, err := host.Sharded(1, c).Open(s.Model, decode.Limits{Pages: pages})
		if err != nil {
			t.Fatal(err)
		}
		if got, want := d.CacheBytes(), tokens*int64(s.Transformer.CacheBytes(1, c)); got != want {
			t.Errorf("the cache in %s takes %d bytes, its layout says %d", c, got, want)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	}
	elements, whole, kept := s.CacheLayout(0).Elements(), s.Config.Layers*s.Config.Context, 0
	for i := range s.Config.Layers {
		kept += attention.Kept(s.Config.Context, s.LayerAttention(i).Window)
	}
	if got := s.Transformer.CacheBytes(1, attention.FP32); got != 4*s.Config.Layers*elements {
		t.Errorf("a token takes %d bytes of cache, the layout has %d elements in each layer", got, elements)
	}
	if got, want := s.RequestBytes(s.Config.Context, 1, attention.FP32), int64(4*elements*kept); got != want ||
		count.CacheElements != (elements*kept+whole-1)/whole {
		t.Errorf("a request keeps %d bytes in the context, of which windows leave %d; %d elements a token and layer", got,
			want, count.CacheElements)
	}
}

// refuses says that an export which would not be exact is an error that says why, and leaves nothing.
func refuses(t *testing.T, write func(string, Options) (Report, error), checkpoint, why string) {
	t.Helper()
	out := filepath.Join(t.TempDir(), "export")
	_, err := write(checkpoint, Options{Dir: out, DType: "fp32", ShardBytes: 1 << 30})
	if err == nil || !strings.Contains(err.Error(), why) || strings.Contains(err.Error(), "\n") {
		t.Errorf("exported with %v, want %q", err, why)
	}
	if _, err := os.Stat(out); !os.IsNotExist(err) {
		t.Errorf("a refused export left %s: %v", out, err)
	}
}

// goesOutAsOwn exports a model as the project's own class, there and back, and refuses it as a GGUF file by a key.
func (s *specimen) goesOutAsOwn(t *testing.T, checkpoint, key string) {
	t.Helper()
	if c, reason := ClassOf(s.Transformer); c != Own || reason == "" {
		t.Errorf("it goes out as %s, since %q", c, reason)
	}
	s.goesThereAndBack(t, checkpoint)
	refuses(t, GGUF, checkpoint, key)
}

// goesThereAndBack exports, verifies and imports, and finds the very same weights.
func (s *specimen) goesThereAndBack(t *testing.T, checkpoint string) {
	out, back := filepath.Join(t.TempDir(), "hf"), filepath.Join(t.TempDir(), "back")
	if _, err := HF(checkpoint, Options{Dir: out, DType: "fp32", ShardBytes: 1 << 30, Tokenizer: "bytes"}); err != nil {
		t.Fatal(err)
	}
	v, err := Verify(context.Background(), out, s.Model, "there-is-no-such-python", false)
	if err != nil || len(v.Failed) > 0 || v.Logits != 0 || v.Greedy != v.GreedyOf || v.GreedyOf < 30 {
		t.Errorf("%+v, %v", v, err)
	}
	if _, err := Read(out, back, 0); err != nil {
		t.Fatal(err)
	}
	sameWeights(t, s.Attention.Name(), s.Model, back)
}
