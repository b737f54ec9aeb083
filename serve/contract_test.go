package serve

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"headroom/attention"
	"headroom/data"
	"headroom/decode"
	"headroom/eval"
	"headroom/internal/graph"
)

// prompts of unequal lengths, up to the model's whole context, as token ids.
func randomPrompts(r *rand.Rand, n int) [][]int32 {
	all := make([][]int32, n)
	for i := range all {
		all[i] = make([]int32, 1+r.IntN(testContext))
		if i == 0 {
			all[i] = make([]int32, testContext-1)
		}
		for j := range all[i] {
			all[i][j] = r.Int32N(testVocab)
		}
	}
	return all
}

// TestScoresForEvaluation is what lm-evaluation-harness's local-completions sends and reads
// (lm_eval/models/openai_completions.py): it takes token_logprobs[context:-1] and finds greedy tokens by equal floats.
func TestScoresForEvaluation(t *testing.T) {
	for _, d := range attention.Descriptions {
		kind := d.Name(2)
		s := start(t, tiny(t, kind), Config{})
		prompts := randomPrompts(rand.New(rand.NewPCG(3, 4)), 9)
		for i := range prompts {
			prompts[i] = prompts[i][:min(len(prompts[i]), testContext-1)]
		}
		got := s.complete(object{"model": "tiny", "prompt": prompts, "temperature": 0, "max_tokens": 1, "logprobs": 1,
			"seed": 1234, "echo": true})
		if len(got.Choices) != len(prompts) {
			t.Fatalf("%d choices of %d prompts", len(got.Choices), len(prompts))
		}
		for i, c := range got.Choices {
			n := len(prompts[i]) + 1
			l := c.Logprobs
			if c.Index != i || len(l.Each) != n || len(l.Top) != n || len(l.Tokens) != n || len(l.Offset) != n ||
				len(l.IDs) != n {
				t.Fatalf("%s: choice %d (index %d) has %d, %d, %d, %d, %d entries, want %d", kind, i, c.Index, len(l.Each),
					len(l.Top), len(l.Tokens), len(l.Offset), len(l.IDs), n)
			}
			if l.Each[0] != nil || l.Top[0] != nil {
				t.Errorf("%s: the first token has a score", kind)
			}
			for j := 1; j < n; j++ {
				best := float32(math.Inf(-1))
				for _, p := range l.Top[j] {
					best = max(best, p)
				}
				if len(l.Top[j]) == 0 || *l.Each[j] > best {
					t.Fatalf("%s: token %d has %v, the best is %v", kind, j, *l.Each[j], best)
				}
			}
			if last := n - 1; *l.Each[last] != maxOf(l.Top[last]) {
				t.Errorf("%s: a greedy token's probability is not the largest", kind)
			}
		}
	}
}

func maxOf(m map[string]float32) float32 {
	best := float32(math.Inf(-1))
	for _, p := range m {
		best = max(best, p)
	}
	return best
}

// TestEndOfTextIsThere: the generated token is in the scores even where it ends the text.
func TestEndOfTextIsThere(t *testing.T) {
	s := start(t, tiny(t, "gqa-2"), Config{})
	found := false
	for seed := range 40 {
		a := s.complete(object{"prompt": []int32{5}, "max_tokens": 60, "temperature": 1.5, "seed": seed,
			"logprobs": 0, "echo": true})
		c := a.Choices[0]
		n := len(c.Logprobs.IDs)
		if n != 1+a.Usage.New {
			t.Fatalf("%d ids of 1 + %d tokens", n, a.Usage.New)
		}
		if c.Logprobs.IDs[n-1] == testVocab-1 {
			found = true
			if c.Reason != "stop" || strings.Contains(c.Text, "<end>") {
				t.Errorf("ended by end-of-text: reason %q, text %q", c.Reason, c.Text)
			}
		}
	}
	if !found {
		t.Fatal("no seed ended its text")
	}
}

// TestScoresEqualEval: summed log-likelihoods are those of headroom eval, to 1e-4 a token.
func TestScoresEqualEval(t *testing.T) {
	m := tiny(t, "gla-2")
	s := start(t, m, Config{})
	r := rand.New(rand.NewPCG(8, 8))
	for range 3 {
		text := make([]int32, testContext+1)
		for i := range text {
			text[i] = r.Int32N(testVocab)
		}
		a := s.complete(object{"prompt": text, "max_tokens": 0, "logprobs": 0, "echo": true})
		var got float64
		for _, p := range a.Choices[0].Logprobs.Each[1:] {
			got -= float64(*p)
		}
		want := evalNLL(t, m, text)
		if got /= testContext; math.Abs(got-want) > 1e-4 {
			t.Errorf("served %v nats a token, eval %v", got, want)
		}
	}
}

// evalNLL measures as headroom eval does: nats a token.
func evalNLL(t *testing.T, m *decode.Model, text []int32) float64 {
	t.Helper()
	store, err := graph.NewStore(graph.NewCPU(), m.Params())
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	for name, w := range m.Weights {
		if err := store.Set(name, w); err != nil {
			t.Fatal(err)
		}
	}
	var shard bytes.Buffer
	_ = binary.Write(&shard, binary.LittleEndian, [256]uint32{20240520, 1, uint32(len(text))})
	for _, id := range text {
		_ = binary.Write(&shard, binary.LittleEndian, uint16(id))
	}
	path := filepath.Join(t.TempDir(), "x.bin")
	if err := os.WriteFile(path, shard.Bytes(), 0o666); err != nil {
		t.Fatal(err)
	}
	set, err := data.Open(path, data.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer set.Close()
	p, err := eval.NewPerplexity(store, m.Transformer,
		eval.Config{Batch: 1, Context: testContext, Stride: testContext}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	r, err := p.Measure(context.Background(), "set", set)
	if err != nil {
		t.Fatal(err)
	}
	return r.NLL
}

func TestEchoOfTextAlone(t *testing.T) {
	s := start(t, tiny(t, "mha"), Config{})
	a := s.complete(object{"prompt": "hello", "max_tokens": 0, "echo": true})
	if c := a.Choices[0]; c.Text != "hello" || c.Reason != "length" || a.Usage.Total != 6 {
		t.Errorf("%+v", a)
	}
	for _, c := range []struct{ set, want, offsets string }{
		{`{"prompt": "<end>ab"}`, "[36 36 0 1]", "[0 0 5 6]"},
		{`{"prompt": "<end>ab", "add_special_tokens": true}`, "[36 36 0 1]", "[0 0 5 6]"},
		{`{"prompt": "<end>ab", "add_special_tokens": false}`, "[36 0 1]", "[0 5 6]"},
		{`{"prompt": ["ab"]}`, "[36 0 1]", "[0 0 1]"},
		{`{"prompt": [0, 1]}`, "[0 1]", "[0 1]"},
		{`{"prompt": [[0, 1]], "add_special_tokens": true}`, "[0 1]", "[0 1]"},
	} {
		body := object{"max_tokens": 0, "echo": true, "logprobs": 1}
		if err := json.Unmarshal([]byte(c.set), &body); err != nil {
			t.Fatal(err)
		}
		got := s.complete(body).Choices[0]
		if ids, at := fmt.Sprint(got.Logprobs.IDs), fmt.Sprint(got.Logprobs.Offset); ids != c.want || at != c.offsets ||
			strings.TrimPrefix(got.Text, "<end>") != "ab" {
			t.Errorf("%s: ids %s at %s of %q, want %s at %s", c.set, ids, at, got.Text, c.want, c.offsets)
		}
	}
}
