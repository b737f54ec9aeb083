package export

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"headroom/attention"
	"headroom/decode"
	"headroom/internal/safetensors"
	"headroom/model"
)

// modelingCases are tiny models of every kind. They go out in the class that HF chooses, and MHA, MQA and GQA, which
// the library has, in ours as well.
var modelingCases = []struct {
	name, kind string
	class      Class // that is forced; empty: HF's choice
	change     []func(*model.Config, *attention.Config)
}{
	{"llama-gqa", "gqa-2", "", nil}, {"mha", "mha", Own, nil}, {"gqa", "gqa-2", Own, nil},
	{"mqa-tied", "mqa", Own, []func(*model.Config, *attention.Config){tied}},
	{"deepseek-mla", "mla", "", []func(*model.Config, *attention.Config){plainMLA}}, {"mla", "mla", "", nil},
	{"gta", "gta-2", "", nil},
	{"gla", "gla-2", "", nil}, {"gla-plain-tied", "gla-2", "", []func(*model.Config, *attention.Config){plainMLA, tied}},
	{"gla_q", "gla_q-2", "", nil},
	{"gla_q-whole", "gla_q-2", "", []func(*model.Config, *attention.Config){wholeNorm}},
	{"mfa", "mfa", "", nil}, {"mfa-theta", "mfa", "", []func(*model.Config, *attention.Config){spun}},
	{"gqa-theta", "gqa-2", Own, []func(*model.Config, *attention.Config){spun}},
	{"mla-theta", "mla", "", []func(*model.Config, *attention.Config){spun}},
	{"gta-theta", "gta-2", "", []func(*model.Config, *attention.Config){spun}},
	{"gla-theta", "gla-2", "", []func(*model.Config, *attention.Config){spun}},
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
	Cache   int       `json:"cache"`   // elements a token and layer
	Greedy  []int32   `json:"greedy"`
	Padded  []int32   `json:"padded"` // beside a longer row
}

func modelingAsk() (q modelingRequest) {
	for i := range 24 {
		q.Tokens = append(q.Tokens, int32(7+i*i*31)%257)
	}
	for c := 0; c < 260; c += 11 {
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
	fail(class != DeepSeek && r.Cache != want.Cache, "a token's cache has %d elements, not %d", r.Cache, want.Cache)
	fail(!slices.Equal(r.Greedy, want.Greedy), "greedy tokens %v, here %v", r.Greedy, want.Greedy)
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
	r.Class, r.Steps, r.Padded, r.Cache = class, r.Logits, r.Greedy, m.CacheLayout(0).Elements()
	return r
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
		"greedy tokens":       func(r *modelingRecord) { r.Greedy = r.Greedy[1:] },
		"beside a longer row": func(r *modelingRecord) { r.Padded = nil },
		"in one pass":         func(r *modelingRecord) { r.Logits = slices.Clone(r.Logits); r.Logits[5] += 2e-4 },
		"through the cache":   func(r *modelingRecord) { r.Steps = slices.Clone(r.Steps); r.Steps[400] = math.NaN() },
	} {
		r := ours(t, m, class, dir)
		spoil(&r)
		if wrong := r.against(t, m, class, dir); len(wrong) == 0 || !strings.Contains(strings.Join(wrong, "; "), want) {
			t.Errorf("%s: %v", want, wrong)
		}
	}
}
