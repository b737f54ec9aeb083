package serve

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"headroom/attention"
	"headroom/decode"
	"headroom/decode/decodetest"
	"headroom/decode/host"
	"headroom/model"
)

const (
	testContext = 96
	testVocab   = 37
	testPages   = 24
)

// letters is a tokenizer with a letter for each token; the last ends a text.
type letters struct{}

const alphabet = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJ"

func (letters) Append(ids []int32, text []byte) []int32 {
	for _, b := range text {
		if i := strings.IndexByte(alphabet, b); i >= 0 {
			ids = append(ids, int32(i))
		}
	}
	return ids
}

func (letters) Decode(ids []int32) (text []byte, err error) {
	for _, id := range ids {
		switch {
		case id < 0 || id >= testVocab:
			return nil, fmt.Errorf("no token %d", id)
		case id == testVocab-1:
			text = append(text, "<end>"...)
		default:
			text = append(text, alphabet[id])
		}
	}
	return text, nil
}

func tiny(t testing.TB, kind string) *decode.Model {
	t.Helper()
	return decodetest.Tiny(t, kind, func(c *model.Config, a *attention.Config) {
		c.Vocab, c.Context, a.RopeDim = testVocab, testContext, 4
	})
}

// A site is a server under test.
type site struct {
	*Server
	t    testing.TB
	url  string
	stop func() error // drains, and says how Serve ended
}

func start(t testing.TB, m *decode.Model, c Config) *site {
	t.Helper()
	c.Name, c.Ends, c.Begin = "tiny", []int32{testVocab - 1}, []int32{testVocab - 1}
	if c.Tokenizer == nil {
		c.Tokenizer = letters{}
	}
	if c.Specials == nil {
		c.Specials = map[string]int32{"<end>": testVocab - 1}
	}
	o := decode.Options{Rows: 8, Chunk: 40, Scored: 30, Pages: testPages, Ends: c.Ends, Vocabulary: c.Tokenizer}
	if c.Rows != 0 {
		o.Rows = c.Rows
	}
	c.Rows = o.Rows
	e, err := decode.NewEngine(m, host.NewDevice(m, o.Pages), o)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &site{Server: New(m, e, decode.Memory{TokenBytes: 64, Pages: testPages}, c), t: t,
		url: "http://" + l.Addr().String()}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, l, "", "") }()
	s.stop = sync.OnceValue(func() error { cancel(); return <-ended })
	t.Cleanup(func() {
		if err := s.stop(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// ask posts a body, a string or a value, and returns status and answer.
func (s *site) ask(path string, body any) (int, []byte) {
	s.t.Helper()
	text, ok := body.(string)
	if !ok {
		b, err := json.Marshal(body)
		if err != nil {
			s.t.Fatal(err)
		}
		text = string(b)
	}
	r, err := http.Post(s.url+path, "application/json", strings.NewReader(text))
	if err != nil {
		s.t.Fatal(err)
	}
	defer r.Body.Close()
	answer, err := io.ReadAll(r.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	if again := r.Header.Get("Retry-After"); (r.StatusCode == 429) != (again != "") && r.StatusCode != 503 {
		s.t.Errorf("status %d with Retry-After %q", r.StatusCode, again)
	}
	return r.StatusCode, answer
}

// An answer is what clients read.
type answer struct {
	Object  string
	Model   string
	Choices []struct {
		Index    int
		Text     string
		Message  struct{ Role, Content string }
		Reason   string `json:"finish_reason"`
		Logprobs *struct {
			Tokens []string             `json:"tokens"`
			Each   []*float32           `json:"token_logprobs"`
			Top    []map[string]float32 `json:"top_logprobs"`
			Offset []int                `json:"text_offset"`
			IDs    []int32              `json:"token_ids"`
		}
	}
	Usage usage
}

type object = map[string]any

func (s *site) complete(body object) answer {
	s.t.Helper()
	status, text := s.ask("/v1/completions", body)
	var a answer
	if err := json.Unmarshal(text, &a); err != nil || status != 200 {
		s.t.Fatalf("%v: status %d, %s", body, status, text)
	}
	return a
}

// idle waits until the engine has nothing, and checks that every page came back.
func (s *site) idle() {
	s.t.Helper()
	for range 12_000 { // two minutes, on a busy machine
		if u := s.scheduler.state.Load(); u.Running+u.Waiting+u.Queued+u.Used == 0 && s.inFlight.Load() == 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	s.t.Fatalf("not idle: %+v", s.scheduler.state.Load())
}

func TestStreamIsTheAnswerInParts(t *testing.T) {
	s := start(t, tiny(t, "gta-2"), Config{})
	for _, body := range []object{
		{"prompt": "hello", "max_tokens": 20, "temperature": 0},
		{"prompt": []string{"abc", "xyz", "q"}, "max_tokens": 9, "seed": 3, "n": 2, "logprobs": 2, "echo": true},
		{"prompt": "hello", "max_tokens": 30, "seed": 5, "temperature": 2, "stop": []string{"a", "e"}},
	} {
		whole := s.complete(body)
		body["stream"] = true
		body["stream_options"] = object{"include_usage": true}
		status, text := s.ask("/v1/completions", body)
		if status != 200 {
			t.Fatalf("status %d: %s", status, text)
		}
		parts := make([]strings.Builder, len(whole.Choices))
		scores := make([]int, len(whole.Choices))
		lines := strings.Split(strings.TrimSpace(string(text)), "\n\n")
		if last := lines[len(lines)-1]; last != "data: [DONE]" {
			t.Fatalf("the stream ends with %q", last)
		}
		var used usage
		for _, line := range lines[:len(lines)-1] {
			var part answer
			if err := json.Unmarshal([]byte(strings.TrimPrefix(line, "data: ")), &part); err != nil {
				t.Fatal(err)
			}
			used = part.Usage
			for _, c := range part.Choices {
				parts[c.Index].WriteString(c.Text)
				if c.Logprobs != nil {
					scores[c.Index] += len(c.Logprobs.Each)
				}
				if w := whole.Choices[c.Index]; c.Reason != "" && c.Reason != w.Reason {
					t.Errorf("choice %d ends with %q, whole with %q", c.Index, c.Reason, w.Reason)
				}
			}
		}
		for i, c := range whole.Choices {
			if c.Index != i || parts[i].String() != c.Text || c.Logprobs != nil && scores[i] != len(c.Logprobs.Each) {
				t.Errorf("choice %d: %q in parts with %d scores, whole %+v", i, parts[i].String(), scores[i], c)
			}
		}
		if used.Total != whole.Usage.Total || used.New == 0 {
			t.Errorf("usage %+v, whole %+v", used, whole.Usage)
		}
	}
}

func TestRequestsKnowNothingOfEachOther(t *testing.T) {
	s := start(t, tiny(t, "gla-2"), Config{})
	bodies := []object{
		{"prompt": "aaaaaaaa", "max_tokens": 30, "temperature": 0},
		{"prompt": "the same beginning is here", "max_tokens": 17, "seed": 1},
		{"prompt": "the same beginning is there", "max_tokens": 25, "seed": 2, "top_p": 0.9, "min_p": 0.01, "top_k": 20},
		{"prompt": "z", "max_tokens": 50, "seed": 9, "repetition_penalty": 1.3},
		{"prompt": [][]int32{{1, 2, 3}, {4}}, "max_tokens": 12, "seed": 7, "n": 2},
	}
	var alone []answer
	for _, b := range bodies {
		alone = append(alone, s.complete(b))
	}
	var wg sync.WaitGroup
	for round := range 12 {
		wg.Go(func() {
			i := round % len(bodies)
			got := s.complete(bodies[i])
			for k, c := range got.Choices {
				if c.Text != alone[i].Choices[k].Text {
					t.Errorf("request %d, choice %d: %q in company, %q alone", i, k, c.Text, alone[i].Choices[k].Text)
				}
			}
		})
	}
	wg.Wait()
	s.idle()
}

func TestPromptsThatBeginAlikeShareTheirCache(t *testing.T) {
	s := start(t, tiny(t, "gqa-2"), Config{})
	prompt := strings.Repeat("share", 14) // 70 tokens: one whole page of 64
	first := s.complete(object{"prompt": prompt, "max_tokens": 5, "temperature": 0})
	second := s.complete(object{"prompt": prompt, "max_tokens": 5, "temperature": 0})
	if first.Usage.Details.Cached != 0 || second.Usage.Details.Cached != decode.PageTokens ||
		first.Choices[0].Text != second.Choices[0].Text {
		t.Errorf("cached %d then %d tokens, %q then %q", first.Usage.Details.Cached, second.Usage.Details.Cached,
			first.Choices[0].Text, second.Choices[0].Text)
	}
}

func TestChat(t *testing.T) {
	m := tiny(t, "mha")
	template, err := NewTemplate("{{range .Messages}}{{.Role}}:{{.Content}};{{end}}assistant:")
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, m, Config{Chat: template})
	body := object{"messages": []object{{"role": "user", "content": "hi<e<end>nd>"}}, "max_completion_tokens": 8,
		"temperature": 0, "logprobs": true, "top_logprobs": 2}
	status, text := s.ask("/v1/chat/completions", body)
	var got answer
	json.Unmarshal(text, &got)
	want := s.complete(object{"prompt": "user:hieendnd;assistant:", "add_special_tokens": false,
		"max_tokens": 8, "temperature": 0})
	if status != 200 || got.Object != "chat.completion" || got.Choices[0].Message.Content != want.Choices[0].Text ||
		got.Usage.Prompt != want.Usage.Prompt {
		t.Errorf("status %d, %s; a completion says %q", status, text, want.Choices[0].Text)
	}
	for _, bad := range []string{`{"messages":[]}`, `{"messages":[{"role":"tool","content":"x"}]}`,
		`{"messages":[{"role":"user"}]}`} {
		if status, text := s.ask("/v1/chat/completions", bad); status != 400 {
			t.Errorf("%s: status %d, %s", bad, status, text)
		}
	}
	if status, _ := start(t, m, Config{}).ask("/v1/chat/completions", body); status != 404 {
		t.Errorf("without a template: status %d", status)
	}
	for _, wrong := range []string{"{{", "{{.Nobody}}", "no messages"} {
		if _, err := NewTemplate(wrong); err == nil {
			t.Errorf("template %q was taken", wrong)
		}
	}
}

func TestTokensAndBack(t *testing.T) {
	s := start(t, tiny(t, "mqa"), Config{})
	_, text := s.ask("/tokenize", object{"prompt": "abc<end>d", "add_special_tokens": true})
	if got := string(bytes.TrimSpace(text)); got != `{"count":6,"max_model_len":96,"tokens":[36,0,1,2,36,3]}` {
		t.Error(got)
	}
	if _, text = s.ask("/detokenize", object{"tokens": []int{0, 1, 36}}); string(
		bytes.TrimSpace(text)) != `{"prompt":"ab<end>"}` {
		t.Error(string(text))
	}
	for body, want := range map[string]string{
		`{"tokens":[1,37]}`:   "token 37 at position 1 is none of the model's, which go from 0 to 36",
		`{"tokens":[-5]}`:     "token -5 at position 0",
		`{"tokens":[0,null]}`: "position 1 holds null", `{}`: "tokens are missing",
	} {
		if status, text := s.ask("/detokenize", body); status != 400 || !strings.Contains(string(text), want) {
			t.Errorf("%s: status %d, %s, want %q", body, status, text, want)
		}
	}
	for path, want := range map[string]string{
		"/v1/models": `"id":"tiny"`, "/v1/models/tiny": `"max_model_len":96`, "/tokenizer_info": `"eos_token_id":36`,
		"/healthz": `"ok"`, "/metrics": "headroom_cache_pages 24", "/status": `"page_tokens":64`, "/": "<title>",
	} {
		r, err := http.Get(s.url + path)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(r.Body)
		r.Body.Close()
		if r.StatusCode != 200 || !strings.Contains(string(body), want) {
			t.Errorf("%s: status %d, %.300s", path, r.StatusCode, body)
		}
	}
}

func TestKeys(t *testing.T) {
	s := start(t, tiny(t, "mha"), Config{Keys: []string{"one", "two"}})
	for key, want := range map[string]int{"": 401, "Bearer three": 401, "Bearer on": 401, "Bearer two": 200} {
		q, _ := http.NewRequest("GET", s.url+"/v1/models", nil)
		q.Header.Set("Authorization", key)
		r, err := http.DefaultClient.Do(q)
		if err != nil {
			t.Fatal(err)
		}
		if r.Body.Close(); r.StatusCode != want {
			t.Errorf("key %q: status %d", key, r.StatusCode)
		}
	}
	open := start(t, tiny(t, "mha"), Config{})
	q, _ := http.NewRequest("GET", open.url+"/v1/models", nil)
	q.Host = "rebound.example"
	r, err := http.DefaultClient.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	if r.Body.Close(); r.StatusCode != 403 {
		t.Errorf("a page whose name was pointed here: status %d", r.StatusCode)
	}
}

func TestDrain(t *testing.T) {
	s := start(t, tiny(t, "mha"), Config{Drain: 20 * time.Second})
	got := make(chan answer)
	go func() { got <- s.complete(object{"prompt": "hello", "max_tokens": 90, "ignore_eos": true}) }()
	for s.scheduler.state.Load().Passes == 0 { // a busy machine may see the request only when it has ended
		time.Sleep(time.Millisecond)
	}
	if err := s.stop(); err != nil {
		t.Error(err)
	}
	if a := <-got; a.Usage.New != 90 {
		t.Errorf("a request in work got %d of 90 tokens", a.Usage.New)
	}
	if _, err := http.Get(s.url + "/healthz"); err == nil {
		t.Error("a drained server answers")
	}
}

func TestTimeLimit(t *testing.T) {
	s := start(t, tiny(t, "mha"), Config{Timeout: time.Nanosecond})
	if status, text := s.ask("/v1/completions",
		object{"prompt": "hello", "max_tokens": 90, "ignore_eos": true}); status != 504 {
		t.Errorf("status %d, %s", status, text)
	}
	s.idle()
}

func TestFairQueue(t *testing.T) {
	var q queue
	for i := range 6 {
		q.push(&job{client: "greedy", request: decode.Request{Prompt: make([]int32, 10)}, arrived: time.Unix(int64(i), 0)})
	}
	first := q.pop()
	q.push(&job{client: "modest", request: decode.Request{Prompt: make([]int32, 1)}, arrived: time.Unix(9, 0)})
	q.charge(first, 5)
	var order []string
	for range 3 {
		order = append(order, q.pop().client)
	}
	if strings.Join(order, " ") != "modest greedy greedy" && strings.Join(order, " ") != "greedy modest greedy" ||
		q.waiting != 3 {
		t.Errorf("served %v, %d wait", order, q.waiting)
	}
	q.drop(func(*job) bool { return true })
	if q.waiting != 0 {
		t.Error("dropped jobs wait")
	}
}

func TestProbabilitiesThatAreNoNumbers(t *testing.T) {
	m := tiny(t, "mha")
	for i := range m.Weights {
		m.Weights[i][0] = float32(math.NaN())
	}
	s := start(t, m, Config{})
	status, text := s.ask("/v1/completions", object{"prompt": "hello", "max_tokens": 3, "logprobs": 1})
	if status != 500 || !bytes.Contains(text, []byte(errFinite.Error())) {
		t.Errorf("status %d, %s", status, text)
	}
	s.idle()
}
