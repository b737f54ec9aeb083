package export

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"headroom/data"
	"headroom/decode"
	"headroom/decode/host"
	"headroom/internal/graph"
	"headroom/internal/safetensors"
	"headroom/model"
)

// Tolerance is how far a logit of an export may be from that of its checkpoint, both computed in float32 with the
// weights rounded to the export's type.
const Tolerance = 1e-4

// A Verdict is the result of comparing an export with its checkpoint.
type Verdict struct {
	Dir       string  `json:"dir"`
	By        string  `json:"by"` // the library and its version, or our own reader
	Class     Class   `json:"class"`
	DType     string  `json:"dtype"`
	Rows      int     `json:"rows"` // of Length tokens: random, and text where there is a tokenizer
	Length    int     `json:"length"`
	Logits    float64 `json:"largest_logit_difference"`
	Tolerance float64 `json:"tolerance"`
	Rounding  float64 `json:"largest_rounding"` // what rounding the weights to the type changed, against float32
	Greedy    int     `json:"greedy_equal"`     // of the greedy tokens, those that are the same
	GreedyOf  int     `json:"greedy"`
	// texts whose tokens were compared with the checkpoint's; none where there is no tokenizer
	Texts   int      `json:"texts"`
	Library *library `json:"library,omitempty"`
	Failed  []string `json:"failed,omitempty"`
}

// Verify compares an export with its checkpoint m: logits for random tokens and for text, and greedy tokens. Python
// runs the export in the transformers library. Where Python has no such library and insist is false, our own reader
// reads the files back.
func Verify(ctx context.Context, dir string, m *decode.Model, python string, insist bool) (v Verdict, err error) {
	f, t, list, class, err := openModel(dir, 0)
	if err != nil {
		return v, err
	}
	defer f.Close()
	if !alike(t, m.Transformer) {
		return v, fmt.Errorf("export: %s is another model than the checkpoint: %+v with %+v, not %+v with %+v", dir, t.Config,
			t.Attention.Resolve(), m.Config, m.Attention.Resolve())
	}
	v = Verdict{Dir: dir, Class: class, DType: "fp32", Tolerance: Tolerance}
	rounded := m
	if f.half() {
		v.DType, rounded = "bf16", bf16(m, list)
	}
	q, err := newRequest(rounded, 1)
	if err != nil {
		return v, err
	}
	v.Rows, v.Length, v.GreedyOf = len(q.Tokens), len(q.Tokens[0]), len(q.Greedy)
	want, err := logits(rounded, q.Tokens)
	if err != nil {
		return v, err
	}
	exact := want
	if rounded != m {
		if exact, err = logits(m, q.Tokens); err != nil {
			return v, err
		}
	}
	v.Rounding = apart(want, exact)
	if err := v.special(f, &q); err != nil {
		return v, err
	}
	if err := hasLibrary(ctx, python); err == nil {
		if err := f.checkCode(class); err != nil {
			return v, err
		}
		err = v.inLibrary(ctx, python, dir, q, want, m.Transformer)
		return v, err
	} else if insist {
		return v, err
	}
	return v, v.byUs(&decode.Model{Transformer: t, Tokenizer: m.Tokenizer}, f.values(list), q, want)
}

// alike says that two models compute the same of the same weights.
func alike(x, y *model.Transformer) bool {
	m, n := x.Config, y.Config
	m.Init, n.Init = "", "" // how weights were initialised does not matter
	if m != n || len(x.Params()) != len(y.Params()) {
		return false
	}
	for i := range m.Layers {
		if x.LayerAttention(i).General() != y.LayerAttention(i).General() {
			return false
		}
	}
	return true
}

// checkCode says whether the Python of a directory, which the library runs, is what this program writes.
func (f *folder) checkCode(c Class) error {
	for _, name := range code {
		want, _ := modeling.ReadFile(name)
		if got, err := f.read(name); c == Own && (err != nil || !bytes.Equal(got, want)) {
			return fmt.Errorf("export: %s: %s is not what this program writes, and is not run: export again", f.dir, name)
		}
	}
	return nil
}

// byUs reads the files back.
func (v *Verdict) byUs(m *decode.Model, value func(string) ([]float32, error), q request, want []float32) (err error) {
	v.By = "headroom's own reader: no Python with the transformers library was found"
	m.Weights = map[string][]float32{}
	for _, p := range m.Params() {
		if m.Weights[p.Name], err = value(p.Name); err != nil {
			return err
		}
	}
	got, err := logits(m, q.Tokens)
	if err != nil {
		return err
	}
	tokens, err := greedy(m, q.Prompt, len(q.Greedy))
	if err != nil {
		return err
	}
	v.Logits, v.Greedy = apart(got, want), same(tokens, q.Greedy)
	v.judge()
	return nil
}

// judge lists the differences that are not allowed.
func (v *Verdict) judge() {
	v.fail(!(v.Logits <= v.Tolerance), "a logit is %.3g off, at most %.3g may be", v.Logits, v.Tolerance)
	v.fail(v.Greedy != v.GreedyOf, "%d of %d greedy tokens are others", v.GreedyOf-v.Greedy, v.GreedyOf)
}

func (v *Verdict) fail(wrong bool, format string, args ...any) {
	if wrong {
		v.Failed = append(v.Failed, fmt.Sprintf(format, args...))
	}
}

// half says that the weights are in bf16.
func (f *folder) half() bool {
	for name, s := range f.where {
		return s.Tensors[name].DType == safetensors.BF16
	}
	return false
}

// bf16 is a model with its weights rounded as in foreign tensors.
func bf16(m *decode.Model, list []tensor) *decode.Model {
	r := &decode.Model{Transformer: m.Transformer, Tokenizer: m.Tokenizer, Weights: map[string][]float32{}}
	for _, t := range list {
		for _, p := range t.parts {
			w := m.Weights[p.param.Name]
			x := make([]float32, len(w))
			for i, v := range w {
				x[i] = safetensors.FromBF16(safetensors.ToBF16(v-t.less)) + t.less
			}
			r.Weights[p.param.Name] = x
		}
	}
	return r
}

// apart is the largest difference, and NaN where any value is.
func apart(x, y []float32) (most float64) {
	for i := range x {
		most = max(most, math.Abs(float64(x[i])-float64(y[i])))
	}
	return most
}

func same(x, y []int32) (n int) {
	for i := range min(len(x), len(y)) {
		if x[i] == y[i] {
			n++
		}
	}
	return n
}

// A request is what both sides run.
type request struct {
	Tokens     [][]int32 `json:"tokens"` // [B, T]: random rows, and text where there is a tokenizer
	Prompt     []int32   `json:"prompt"`
	Greedy     []int32   `json:"greedy"` // what comes after it here
	Texts      []string  `json:"texts,omitempty"`
	TextTokens [][]int32 `json:"text_tokens,omitempty"` // with what a text begins with
	Ends       []int32   `json:"ends,omitempty"`        // the tokens that end a text
	Begin      int32     `json:"begin"`                 // negative: nothing begins one
}

// newRequest draws tokens and lets the checkpoint go on.
func newRequest(m *decode.Model, seed uint64) (r request, err error) {
	T := min(m.Config.Context, 64)
	random := rand.New(rand.NewPCG(seed, 0))
	for range 2 {
		row := make([]int32, T)
		for i := range row {
			row[i] = random.Int32N(int32(m.Config.Vocab))
		}
		r.Tokens = append(r.Tokens, row)
	}
	r.Prompt = r.Tokens[0][:max(1, min(8, T/2))]
	if m.Tokenizer != "" {
		t, err := data.NewTokenizer(m.Tokenizer)
		if err != nil {
			return r, fmt.Errorf("export: %w", err)
		}
		code, _ := modeling.ReadFile("modeling_headroom.py")
		r.Texts = append([]string{string(code)}, shortTexts...)
		for _, text := range r.Texts {
			r.TextTokens = append(r.TextTokens, t.Append(t.BeginText(nil), []byte(text)))
		}
		r.Ends, r.Begin = t.Ends, t.Begin
		for i := range 2 {
			r.Tokens = append(r.Tokens, r.TextTokens[0][i*T:][:T])
		}
		r.Prompt = r.TextTokens[0][:len(r.Prompt)]
	}
	r.Greedy, err = greedy(m, r.Prompt, min(64, m.Config.Context-len(r.Prompt)))
	return r, err
}

// greedy lets a model go on from a prompt by n tokens.
func greedy(m *decode.Model, prompt []int32, n int) ([]int32, error) {
	e, err := decode.Open(m, host.New(), decode.Options{Pages: 1 + m.Config.Context/decode.PageTokens, Rows: 1})
	if err != nil {
		return nil, err
	}
	defer e.Close()
	s, err := e.Submit(decode.Request{Prompt: prompt, MaxTokens: n, IgnoreEnd: true,
		Sampling: decode.Sampling{Repetition: 1}})
	if err != nil {
		return nil, err
	}
	for e.Busy() {
		if err := e.Step(); err != nil {
			return nil, err
		}
	}
	return s.Output(), nil
}

// logits are a model's for rows of tokens: [B, T, V].
func logits(m *decode.Model, rows [][]int32) ([]float32, error) {
	s, err := graph.NewStore(graph.NewCPU(), m.Params())
	if err != nil {
		return nil, err
	}
	defer s.Close()
	for name, w := range m.Weights {
		if err := s.Set(name, w); err != nil {
			return nil, err
		}
	}
	p, err := graph.Compile(s, len(rows), len(rows[0]), func(b *graph.Builder) []*graph.Node {
		return []*graph.Node{m.Logits(b, b.Tokens("tokens"))}
	})
	if err != nil {
		return nil, err
	}
	defer p.Close()
	if err := p.SetTokens("tokens", slices.Concat(rows...)); err != nil {
		return nil, err
	}
	if err := p.RunAll(); err != nil {
		return nil, err
	}
	return p.Output(0, nil)
}

// String is the verdict for a terminal.
func (v Verdict) String() string {
	text, _ := json.Marshal(v.Failed)
	state := "holds"
	if len(v.Failed) > 0 {
		state = "FAILS: " + string(text)
	}
	s := fmt.Sprintf("%s (%s, %s) %s\nby %s\nlogits: %.3g apart at most over %d rows of %d tokens, %.3g are "+
		"allowed\ngreedy: %d of %d tokens equal\n",
		v.Dir, v.Class, v.DType, state, v.By, v.Logits, v.Rows, v.Length, v.Tolerance, v.Greedy, v.GreedyOf)
	if v.Texts > 0 {
		s += fmt.Sprintf("text: %d texts, what begins and what ends them were held against each other\n", v.Texts)
	} else {
		s += "text: not compared, for the export or the checkpoint has no tokenizer\n"
	}
	if v.DType != "fp32" {
		s += fmt.Sprintf("rounding the weights to %s changed logits by %.3g at most\n", v.DType, v.Rounding)
	}
	return s
}
