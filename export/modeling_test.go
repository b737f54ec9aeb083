package export

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"headroom/attention"
	"headroom/decode"
	"headroom/internal/safetensors"
	"headroom/model"
)

// A change is a change of a tiny model.
type change = func(*model.Config, *attention.Config)

// changes makes several one.
func changes(all ...change) []change { return all }

// everything is every switch that all kinds have, at once: windows with a base of their own beside scaled full layers.
func everything(c *model.Config, a *attention.Config) {
	scaled(c, a)
	c.Norm, c.Activation, c.EmbedScale = model.BothNorms, model.GELUTanh, true
	a.Gate, a.GateWidth = attention.ElementGate, 3
	a.Window, a.Pattern, a.WindowRopeTheta = 5, "window,full", 300
}

func with(f func(a *attention.Config)) change {
	return func(_ *model.Config, a *attention.Config) { f(a) }
}

var (
	gateOfHeads    = with(func(a *attention.Config) { a.Gate = attention.HeadGate })
	gateOfElements = with(func(a *attention.Config) { a.Gate = attention.ElementGate })
	narrowGate     = with(func(a *attention.Config) { a.Gate, a.GateWidth = attention.HeadGate, 3 })
	allNorms       = with(func(a *attention.Config) { a.QKNorm = attention.AllNorm })
	partly         = with(func(a *attention.Config) { a.RopeDim = 4 })
	otherScale     = with(func(a *attention.Config) { a.ScaleDim = 5.5 })
	tiedValues     = with(func(a *attention.Config) { a.TieKV = true })
	noBias         = with(func(a *attention.Config) { a.Bias = "none" })
	windowed       = with(func(a *attention.Config) { a.Window = 5 })
	patterned      = with(func(a *attention.Config) { a.Window, a.Pattern = 4, "full,window" })
	ranks          = with(func(a *attention.Config) { a.QueryRank, a.KVRank = 3, 4 })
)

func postNorms(c *model.Config, _ *attention.Config) { c.Norm = model.PostNorm }
func bothNorms(c *model.Config, _ *attention.Config) { c.Norm = model.BothNorms }
func gelu(c *model.Config, _ *attention.Config)      { c.Activation = model.GELUTanh }
func embedScale(c *model.Config, _ *attention.Config) {
	c.EmbedScale = true
}

// modelingCases are tiny models of every kind and every switch. They go out in the class that HF chooses, and MHA, MQA
// and GQA, which the library has, in ours as well.
var modelingCases = []struct {
	name, kind string
	class      Class // that is forced; empty: HF's choice
	change     []change
}{
	{"llama-gqa", "gqa-2", "", nil}, {"mha", "mha", Own, nil}, {"gqa", "gqa-2", Own, nil},
	{"mqa-tied", "mqa", Own, changes(tied)},
	{"deepseek-mla", "mla", "", changes(plainMLA)}, {"mla", "mla", "", nil},
	{"gta", "gta-2", "", nil},
	{"gla", "gla-2", "", nil}, {"gla-plain-tied", "gla-2", "", changes(plainMLA, tied)},
	{"gla_q", "gla_q-2", "", nil}, {"gla_q-whole", "gla_q-2", "", changes(wholeNorm)},
	{"mfa", "mfa", "", nil}, {"mfa-theta", "mfa", "", changes(spun)},
	{"gqa-theta", "gqa-2", Own, changes(spun)}, {"mla-theta", "mla", "", changes(spun)},
	{"gta-theta", "gta-2", "", changes(spun)}, {"gla-theta", "gla-2", "", changes(spun)},

	{"llama-scaled", "gqa-2", "", changes(scaled)}, {"mistral", "gqa-2", "", changes(windowed)},
	{"qwen3", "gqa-2", "", changes(headNorms)}, {"qwen3-window", "gqa-2", "", changes(headNorms, patterned)}, {"olmo2", "mha", "", changes(olmo2)},
	{"gemma3", "gqa-2", "", changes(tied, gemma3)},

	{"mfa_kr", "mfa_kr", "", nil}, {"mfa_kr-window", "mfa_kr", "", changes(patterned)},
	{"tpa", "tpa", "", nil}, {"tpa-ranks", "tpa", "", changes(ranks, windowed)},
	{"gqla", "gqla-2", "", nil}, {"gqla-plain", "gqla-2", "", changes(noBias, spun)},
	{"mlra-2", "mlra-2", "", nil}, {"mlra-4", "mlra-4", "", changes(spun)},

	{"gqa-gate-head", "gqa-2", "", changes(gateOfHeads)}, {"gqa-gate-element", "gqa-2", "", changes(gateOfElements)},
	{"gqa-gate-width", "gqa-2", "", changes(narrowGate)}, {"gqa-norms", "gqa-2", "", changes(allNorms)},
	{"gqa-norms-part", "gqa-2", "", changes(headNorms, partly)}, {"mfa-norms-head", "mfa", "", changes(headNorms)},
	{"mfa-norms-all", "mfa", "", changes(allNorms)}, {"gqa-scale", "gqa-2", Own, changes(otherScale)},
	{"gqa-post", "gqa-2", "", changes(postNorms)}, {"mla-both", "mla", "", changes(bothNorms)},
	{"gta-gelu", "gta-2", "", changes(gelu)}, {"gla-embed", "gla-2", "", changes(embedScale)},
	{"mla-scaled", "mla", "", changes(scaled)}, {"gqa-tie", "gqa-2", "", changes(tiedValues)},
	{"gqa-tie-norms", "gqa-2", "", changes(tiedValues, headNorms, partly, patterned)},
	{"gta-window", "gta-2", "", changes(windowed)}, {"gla-window", "gla-2", "", changes(patterned)},

	{"gqa-all", "gqa-2", "", changes(everything, allNorms, otherScale)}, {"mfa-all", "mfa", "", changes(everything, headNorms)},
	{"mfa_kr-all", "mfa_kr", "", changes(everything)}, {"tpa-all", "tpa", "", changes(everything)},
	{"gta-all", "gta-2", "", changes(everything)}, {"gla-all", "gla-2", "", changes(everything)},
	{"gla_q-all", "gla_q-2", "", changes(everything)}, {"mlra-2-all", "mlra-2", "", changes(everything)},
	{"mlra-4-all", "mlra-4", "", changes(everything)}, {"gqla-all", "gqla-2", "", changes(everything)},
	{"mla-all", "mla", "", changes(everything)},
}

// modelingRequest is what record.py is asked to run.
type modelingRequest struct {
	Tokens  []int32 `json:"tokens"`
	Columns []int   `json:"columns"` // of the vocabulary, that are recorded
	Past    int     `json:"past"`    // tokens of the prompt
	New     int     `json:"new"`     // greedy tokens behind it
}

// modelingRecord is what record.py writes of an export.
type modelingRecord struct {
	Library string    `json:"library"`
	Class   Class     `json:"class"`
	Weights string    `json:"weights"` // sha256
	Code    string    `json:"code"`    // of modeling_headroom.py, where it ran
	Logits  []float64 `json:"logits"`  // [T, columns], in one pass
	Steps   []float64 `json:"steps"`   // through the cache
	Cache   int       `json:"cache"`   // elements of a token that is kept, in the first layer
	Kept    []int     `json:"kept"`    // tokens in each layer, after Tokens
	Greedy  []int32   `json:"greedy"`
	Anew    []int32   `json:"anew"`   // without a cache
	Padded  []int32   `json:"padded"` // beside a longer row
	Again   float64   `json:"again"`  // how far logits are off after saving and loading
}

func modelingAsk() (q modelingRequest) {
	for i := range 24 {
		q.Tokens = append(q.Tokens, int32(7+i*i*31)%257)
	}
	for c := 0; c < 260; c += 29 {
		q.Columns = append(q.Columns, c)
	}
	q.Past, q.New = 9, 32
	return q
}

// modelingExport writes a case's export to dir, and returns its model.
func modelingExport(t testing.TB, i int, dir string) (*decode.Model, Class) {
	t.Helper()
	c := modelingCases[i]
	checkpoint, m := tiny(t, c.kind, c.change...)
	class, _ := ClassOf(m.Transformer)
	if c.class != "" {
		class = c.class
	}
	weights, err := m.OpenWeights(checkpoint)
	if err != nil {
		t.Fatal(err)
	}
	defer weights.Close()
	err = os.MkdirAll(dir, 0o777)
	if err == nil {
		_, err = writeShards(dir, source{weights}, class.tensors(m.Transformer), safetensors.F32, 1<<30)
	}
	if err == nil {
		err = writeTexts(dir, m.Transformer, class, Options{DType: "fp32"})
	}
	if err != nil {
		t.Fatal(err)
	}
	return m, class
}

// TestWriteModeling writes the exports that record.py runs where HEADROOM_MODELING_OUT says.
func TestWriteModeling(t *testing.T) {
	out := os.Getenv("HEADROOM_MODELING_OUT")
	if out == "" {
		t.Skip("HEADROOM_MODELING_OUT names no directory to write exports to, for testdata/modeling/record.py")
	}
	for i, c := range modelingCases {
		dir := filepath.Join(out, c.name)
		modelingExport(t, i, dir)
		if err := writeJSON(filepath.Join(dir, "request.json"), modelingAsk()); err != nil {
			t.Fatal(err)
		}
	}
	checkpoint, _ := tiny(t, "gta-2")
	writeVerifying(t, checkpoint, "bytes", filepath.Join(out, "..", "verify", "bytes"))
	writeVerifying(t, checkpoint, trainedTokenizer(t, "cl100k", true), filepath.Join(out, "..", "verify", "trained"))
	hf, back := filepath.Join(t.TempDir(), "hf"), filepath.Join(t.TempDir(), "back")
	if _, err := HF(checkpoint, Options{Dir: hf, DType: "fp32", ShardBytes: 1 << 30, Tokenizer: "bytes"}); err != nil {
		t.Fatal(err)
	}
	chatty(t, hf)
	edit(t, filepath.Join(hf, "tokenizer_config.json"), object{"eos_token": "<|turn|>", "bos_token": "<|begin|>"})
	edit(t, filepath.Join(hf, "generation_config.json"), object{"eos_token_id": []int{258, 256}})
	r, err := Read(hf, back, 0)
	if err != nil {
		t.Fatal(err)
	}
	writeVerifying(t, back, r.Tokenizer, filepath.Join(out, "..", "verify", "chat"))
}

// writeVerifying writes an export with its tokenizer and what verify_hf.py reads of it, as verify would.
func writeVerifying(t *testing.T, checkpoint, tokenizer, dir string) {
	t.Helper()
	m, err := decode.Load(checkpoint)
	if err == nil {
		m.Tokenizer = tokenizer
		_, err = HF(checkpoint, Options{Dir: filepath.Join(dir, "export"), DType: "fp32", ShardBytes: 1 << 30,
			Tokenizer: tokenizer})
	}
	if err != nil {
		t.Fatal(err)
	}
	q, err := newRequest(m, 1)
	if err != nil {
		t.Fatal(err)
	}
	want, err := logits(m, q.Tokens)
	if err == nil {
		v := Verdict{Rows: len(q.Tokens), Length: len(q.Tokens[0])}
		_, err = v.writeWork(dir, q, want, m.Config.Vocab)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestModelingRecorded holds our computation against what torch computed with modeling_headroom.py and the library's
// own classes, of the very same weights and code.
func TestModelingRecorded(t *testing.T) {
	for i, c := range modelingCases {
		t.Run(c.name, func(t *testing.T) {
			text, err := os.ReadFile(filepath.Join("testdata", "modeling", c.name+".json"))
			if errors.Is(err, fs.ErrNotExist) {
				t.Fatal("torch has not run this export: record it with testdata/modeling/record.py")
			}
			var r modelingRecord
			if err == nil {
				err = json.Unmarshal(text, &r)
			}
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			m, class := modelingExport(t, i, dir)
			if wrong := r.against(t, m, class, dir); len(wrong) > 0 {
				t.Errorf("by %s: %s", r.Library, strings.Join(wrong, "; "))
			}
		})
	}
}

// against names what a record has otherwise than we compute it.
func (r modelingRecord) against(t *testing.T, m *decode.Model, class Class, dir string) (wrong []string) {
	t.Helper()
	fail := func(failed bool, format string, args ...any) {
		if failed {
			wrong = append(wrong, fmt.Sprintf(format, args...))
		}
	}
	want := ours(t, m, class, dir)
	fail(r.Class != class, "it loaded as %s, not %s", r.Class, class)
	fail(r.Weights != want.Weights, "it was recorded with other weights: record again")
	fail(r.Code != want.Code, "it was recorded with another modeling_headroom.py: record again")
	fail(!slices.Equal(r.Kept, want.Kept), "the layers keep %d tokens, not %d", r.Kept, want.Kept)
	fail(r.Again != 0, "saved and loaded again, a logit is %g off", r.Again)
	fail(class != DeepSeek && r.Cache != want.Cache, "a token's cache has %d elements, not %d", r.Cache, want.Cache)
	fail(!slices.Equal(r.Greedy, want.Greedy), "greedy tokens %v, here %v", r.Greedy, want.Greedy)
	fail(!slices.Equal(r.Anew, want.Greedy), "greedy tokens without a cache %v, here %v", r.Anew, want.Greedy)
	fail(!slices.Equal(r.Padded, want.Greedy), "greedy tokens beside a longer row %v, here %v", r.Padded, want.Greedy)
	for name, got := range map[string][]float64{"in one pass": r.Logits, "through the cache": r.Steps} {
		if fail(len(got) != len(want.Logits), "%d logits %s, not %d", len(got), name, len(want.Logits)); len(got) != len(
			want.Logits) {
			continue
		}
		for i := range got {
			if d := math.Abs(got[i] - want.Logits[i]); !(d <= Tolerance) {
				fail(true, "logit %d %s is %g, here %g", i, name, got[i], want.Logits[i])
				break
			}
		}
	}
	slices.Sort(wrong)
	return wrong
}

// ours is the record that we would write.
func ours(t *testing.T, m *decode.Model, class Class, dir string) (r modelingRecord) {
	t.Helper()
	q := modelingAsk()
	x, err := logits(m, [][]int32{q.Tokens})
	if err != nil {
		t.Fatal(err)
	}
	for i := range q.Tokens {
		for _, c := range q.Columns {
			r.Logits = append(r.Logits, float64(x[i*m.Config.Vocab+c]))
		}
	}
	if r.Greedy, err = greedy(m, q.Tokens[:q.Past], q.New); err != nil {
		t.Fatal(err)
	}
	digest := func(name string) string {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(text)
		return hex.EncodeToString(sum[:])
	}
	r.Weights = digest("model.safetensors")
	if class == Own {
		r.Code = digest("modeling_headroom.py")
	}
	r.Class, r.Steps, r.Anew, r.Padded, r.Cache = class, r.Logits, r.Greedy, r.Greedy, m.CacheLayout(0).Elements()
	for i := range m.Config.Layers {
		kept := len(q.Tokens)
		if w := m.LayerAttention(i).Window; w > 0 {
			kept = min(kept, w-1) // the library drops what the next token will not see
		}
		r.Kept = append(r.Kept, kept)
	}
	return r
}

// TestOlderExportsAreRead reads config.json as the version before the switches wrote it (revision d538b04): the same
// model, and what is written today, which torch has run.
func TestOlderExportsAreRead(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("testdata", "modeling", "older", "configs.json"))
	older := map[string]json.RawMessage{}
	if err == nil {
		err = json.Unmarshal(text, &older)
	}
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range modelingCases {
		config, ok := older[c.name]
		if !ok {
			continue
		}
		delete(older, c.name)
		dir := t.TempDir()
		m, class := modelingExport(t, i, dir)
		var f foreign
		if err := json.Unmarshal(config, &f); err != nil {
			t.Fatal(err)
		}
		got, mc, ac, err := f.model()
		if err != nil || got != class {
			t.Fatalf("%s: %s, %v", c.name, got, err)
		}
		if tr, err := model.New(mc, ac); err != nil || !alike(tr, m.Transformer) {
			t.Errorf("%s is read as %+v %+v (%v)", c.name, mc, ac, err)
		}
		now, err := os.ReadFile(filepath.Join(dir, "config.json"))
		var was, is any
		if err = errors.Join(err, json.Unmarshal(config, &was), json.Unmarshal(now, &is)); err != nil ||
			!reflect.DeepEqual(was, is) {
			t.Errorf("%s is written as %s (%v), was %s", c.name, now, err, config)
		}
	}
	if len(older) > 0 {
		t.Errorf("there are no cases of %v", slices.Sorted(maps.Keys(older)))
	}
}

// TestModelingFinds: a record of what we compute ourselves holds, and each thing in it that is changed is found.
func TestModelingFinds(t *testing.T) {
	dir := t.TempDir()
	m, class := modelingExport(t, 6, dir)
	if wrong := ours(t, m, class, dir).against(t, m, class, dir); len(wrong) > 0 {
		t.Errorf("our own record: %v", wrong)
	}
	for want, spoil := range map[string]func(r *modelingRecord){
		"loaded as":           func(r *modelingRecord) { r.Class = Llama },
		"other weights":       func(r *modelingRecord) { r.Weights = "x" },
		"another modeling":    func(r *modelingRecord) { r.Code = "x" },
		"cache has":           func(r *modelingRecord) { r.Cache++ },
		"layers keep":         func(r *modelingRecord) { r.Kept = r.Kept[1:] },
		"loaded again":        func(r *modelingRecord) { r.Again = 1e-6 },
		"without a cache":     func(r *modelingRecord) { r.Anew = nil },
		"greedy tokens":       func(r *modelingRecord) { r.Greedy = r.Greedy[1:] },
		"beside a longer row": func(r *modelingRecord) { r.Padded = nil },
		"in one pass":         func(r *modelingRecord) { r.Logits = slices.Clone(r.Logits); r.Logits[5] += 2e-4 },
		"through the cache":   func(r *modelingRecord) { r.Steps = slices.Clone(r.Steps); r.Steps[200] = math.NaN() },
	} {
		r := ours(t, m, class, dir)
		spoil(&r)
		if wrong := r.against(t, m, class, dir); len(wrong) == 0 || !strings.Contains(strings.Join(wrong, "; "), want) {
			t.Errorf("%s: %v", want, wrong)
		}
	}
}
