package serve

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// The requests that lm-evaluation-harness makes of a server (its lm_eval/models/openai_completions.py, api_models.py
// and lm_eval/utils.py as of 2026), byte for byte, and what it reads of the answers.

// harness sends a request as the harness does, with the header of no key, and reads the answer into v.
func (s *site) harness(method, path, body string, v any) {
	s.t.Helper()
	q, err := http.NewRequest(method, s.url+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	q.Header.Set("Authorization", "Bearer ")
	q.Header.Set("Content-Type", "application/json")
	r, err := http.DefaultClient.Do(q)
	if err != nil {
		s.t.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != 200 {
		s.t.Fatalf("%s: status %d, %s", body, r.StatusCode, text)
	}
	if err := json.Unmarshal(text, v); err != nil {
		s.t.Fatalf("%s: %v: %s", body, err, text)
	}
}

// python is a list of tokens as Python writes it.
func python(tokens ...[]int32) string {
	text, _ := json.Marshal(tokens)
	return strings.ReplaceAll(string(text), ",", ", ")
}

// A likelihood is what the harness keeps of a scored continuation.
type likelihood struct {
	sum    float64
	greedy bool
}

// likelihoods scores continuations as the harness does: of each choice the entries behind the context and before the
// token that was generated, and greedy by equal floats.
func (s *site) likelihoods(prompts [][]int32, contexts []int) (all []likelihood) {
	s.t.Helper()
	body := `{"model": "tiny", "prompt": ` + python(prompts...) +
		`, "temperature": 0, "max_tokens": 1, "logprobs": 1, "seed": 1234, "echo": true}`
	var got struct {
		Choices []struct {
			Index    int
			Logprobs struct {
				Each []*float64           `json:"token_logprobs"`
				Top  []map[string]float64 `json:"top_logprobs"`
			}
		}
	}
	s.harness("POST", "/v1/completions", body, &got)
	for i, c := range got.Choices {
		if c.Index != i || len(c.Logprobs.Each) != len(prompts[i])+1 || len(c.Logprobs.Top) != len(prompts[i])+1 {
			s.t.Fatalf("choice %d has index %d and %d and %d entries, for %d tokens", i, c.Index, len(c.Logprobs.Each),
				len(c.Logprobs.Top), len(prompts[i]))
		}
		l := likelihood{greedy: true}
		for j := contexts[i]; j < len(prompts[i]); j++ {
			best := math.Inf(-1)
			for _, p := range c.Logprobs.Top[j] {
				best = max(best, p)
			}
			l.sum += *c.Logprobs.Each[j]
			l.greedy = l.greedy && *c.Logprobs.Each[j] == best
		}
		all = append(all, l)
	}
	return all
}

// TestHarnessFindsTheTokenizer: with tokenizer_backend=auto the harness takes the server's tokenizer where it finds all
// of this.
func TestHarnessFindsTheTokenizer(t *testing.T) {
	s := start(t, tiny(t, "gta-2"), Config{})
	var info struct {
		EOS      string  `json:"eos_token"`
		BOS      string  `json:"bos_token"`
		Template *string `json:"chat_template"`
	}
	s.harness("GET", "/tokenizer_info", "", &info)
	if info.Template != nil {
		t.Error("there is a chat_template, which the harness takes for one in Jinja")
	}
	encode := func(text string) []int32 {
		var got struct{ Tokens []int32 }
		s.harness("POST", "/tokenize", fmt.Sprintf(`{"prompt": %q, "add_special_tokens": false}`, text), &got)
		return got.Tokens
	}
	if got := encode("test"); !slices.Equal(got, []int32{19, 4, 18, 19}) {
		t.Errorf("test is %v", got)
	}
	if eos, bos := encode(info.EOS), encode(info.BOS); !slices.Equal(eos, []int32{testVocab - 1}) ||
		!slices.Equal(bos, eos) {
		t.Errorf("the end token is %v and the begin token %v", eos, bos)
	}
	var back struct{ Prompt string }
	if s.harness("POST", "/detokenize", `{"tokens": [19, 4, 18, 19]}`, &back); back.Prompt != "test" {
		t.Errorf("%q comes back", back.Prompt)
	}
}

// TestHarnessScores: a continuation that the model itself would write is greedy and has the log probability with which
// it comes; with one token changed it is neither. A batch of unequal lengths scores like each alone.
func TestHarnessScores(t *testing.T) {
	for _, kind := range []string{"gqa-2", "gla-2"} {
		s := start(t, tiny(t, kind), Config{})
		var prompts [][]int32
		var contexts []int
		var want []float64
		for i, context := range [][]int32{{36, 1, 2, 3}, {36}, {5, 6, 7, 8, 9, 10, 11, 12}} {
			c := s.complete(object{"prompt": context, "max_tokens": 5 + i, "temperature": 0,
				"logprobs": 1, "ignore_eos": true}).Choices[0]
			sum := 0.0
			for _, p := range c.Logprobs.Each {
				sum += float64(*p)
			}
			prompts, contexts, want = append(prompts, slices.Concat(context, c.Logprobs.IDs)), append(contexts, len(context)),
				append(want, sum)
		}
		changed := slices.Clone(prompts[0])
		changed[len(changed)-2] = (changed[len(changed)-2] + 1) % testVocab
		prompts, contexts = append(prompts, changed), append(contexts, contexts[0])
		for i, l := range s.likelihoods(prompts, contexts) {
			alone := s.likelihoods(prompts[i:i+1], contexts[i:i+1])[0]
			switch {
			case i < 3 && (!l.greedy || math.Abs(l.sum-want[i]) > 1e-3):
				t.Errorf("%s: continuation %d: %+v, it came with %v", kind, i, l, want[i])
			case i == 3 && (l.greedy || l.sum >= want[0]):
				t.Errorf("%s: a changed continuation: %+v, the greedy one %v", kind, l, want[0])
			case l.greedy != alone.greedy || math.Abs(l.sum-alone.sum) > 1e-4:
				t.Errorf("%s: continuation %d: %+v in a batch, %+v alone", kind, i, l, alone)
			}
		}
	}
}

// TestHarnessGenerates: the text comes without the prompt and the stop string, by index; a chat's messages have a key
// type.
func TestHarnessGenerates(t *testing.T) {
	s := chatty(t)
	plain := s.complete(object{"prompt": []int32{3, 4}, "max_tokens": 30, "temperature": 0}).Choices[0].Text
	stop := plain[4:6]
	want := plain[:strings.Index(plain, stop)]
	var got answer
	s.harness("POST", "/v1/completions",
		`{"prompt": [[3, 4], [3, 4]], "model": "tiny", "max_tokens": 30, "temperature": 0.0, "stop": [`+
			fmt.Sprintf("%q", stop)+`, "<end>"], "seed": 1234, "min_p": 0.0}`, &got)
	for i, c := range got.Choices {
		if c.Index != i || c.Text != want {
			t.Errorf("choice %d, index %d: %q, want %q", i, c.Index, c.Text, want)
		}
	}
	if len(got.Choices) != 2 {
		t.Errorf("%d choices of 2 prompts", len(got.Choices))
	}
	s.harness("POST", "/v1/chat/completions",
		`{"messages": [{"role": "user", "content": "hello", "type": "text"}], "model": "tiny", `+
			`"max_tokens": 8, "temperature": 0, "stop": [], "seed": 1234}`, &got)
	if status, text := s.ask("/v1/chat/completions", object{"messages": []object{{"role": "user", "content": "hello"}},
		"max_tokens": 8, "temperature": 0}); status != 200 ||
		got.Choices[0].Message.Content == "" ||
		!strings.Contains(string(text), fmt.Sprintf("%q", got.Choices[0].Message.Content)) {
		t.Errorf("%+v, without what the harness adds %s", got.Choices, text)
	}
}
