package serve

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

// chatty is a server with a template of chats.
func chatty(t *testing.T) *site {
	t.Helper()
	template, err := NewTemplate("{{range .Messages}}{{.Role}}:{{.Content}};{{end}}assistant:")
	if err != nil {
		t.Fatal(err)
	}
	return start(t, tiny(t, "gta-2"), Config{Chat: template})
}

// tokens are those of a chat, as /tokenize has them.
func (s *site) tokens(messages string) string {
	s.t.Helper()
	status, text := s.ask("/tokenize", `{"messages":`+messages+`}`)
	var a struct{ Tokens []int32 }
	if err := json.Unmarshal(text, &a); err != nil || status != 200 {
		s.t.Fatalf("%s: status %d, %s", messages, status, text)
	}
	return fmt.Sprint(a.Tokens)
}

// TestContentInParts: clients send a message as one text or as a list of texts, and call a system's message a
// developer's.
func TestContentInParts(t *testing.T) {
	s := chatty(t)
	for _, c := range [][2]string{
		{`[{"role":"user","content":[{"type":"text","text":"hi"}]}]`, `[{"role":"user","content":"hi"}]`},
		{`[{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b<end>"}]}]`,
			`[{"role":"user","content":"a\nb<end>"}]`},
		{`[{"role":"developer","content":"be"},{"role":"user","content":"x"}]`,
			`[{"role":"system","content":"be"},{"role":"user","content":"x"}]`},
	} {
		if got, want := s.tokens(c[0]), s.tokens(c[1]); got != want {
			t.Errorf("%s is %s, %s is %s", c[0], got, c[1], want)
		}
	}
	for messages, want := range map[string]string{
		`[{"role":"user","content":"a"},{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url","image_url":{"url":"x"}}]}]`: `message 1 has a part 1 of type "image_url"`,
		`[{"role":"user","content":[{"type":"text"}]}]`: "message 0 has a part 0 without a text",
		`[{"role":"user","content":[]}]`:                "message 0 has no content",
		`[{"role":"user","content":null}]`:              "message 0 has no content",
		`[{"role":"user"}]`:                             "message 0 has no content",
		`[{"role":"user","content":5}]`:                 "neither a text nor a list",
		`[{"role":"user","content":["a"]}]`:             "neither a text nor a list",
		`[{"role":"tool","content":"a"}]`:               "it must be system, developer, user or assistant",
	} {
		if f := s.refused(t, "/v1/chat/completions", `{"messages":`+messages+`}`, 400); !strings.Contains(f.Message, want) ||
			f.Param != "messages" {
			t.Errorf("%s: %+v, want %q", messages, f, want)
		}
	}
}

// An asked is an error as clients read it.
type asked struct {
	Message, Type, Param string
	Code                 any
}

// refused asks for what must be refused with a status.
func (s *site) refused(t *testing.T, path, body string, status int) asked {
	t.Helper()
	got, text := s.ask(path, body)
	var a struct{ Error asked }
	if err := json.Unmarshal(text, &a); err != nil || got != status {
		t.Errorf("%s: status %d, %s, want %d", body, got, text, status)
	}
	return a.Error
}

// TestValuesThatAskForNothing: what clients send along without wanting anything changes nothing.
func TestValuesThatAskForNothing(t *testing.T) {
	s := chatty(t)
	for _, c := range []struct {
		plain object
		keys  string
	}{
		{object{"max_tokens": 16, "seed": 3}, `{"max_tokens":16.0,"seed":3.0,"n":1.0,"top_k":-1.0}`},
		{object{"max_tokens": 16, "seed": 3}, `{"max_tokens":1.6e1}`},
		{object{"max_tokens": 20, "seed": 3}, `{"stop":""}`},
		{object{"max_tokens": 20, "seed": 3}, `{"stop":[""]}`},
		{object{"max_tokens": 20, "seed": 3}, `{"stop":null}`},
		{object{"max_tokens": 20, "seed": 3, "stop": "e"}, `{"stop":["","e"]}`},
		{object{"max_tokens": 9, "temperature": 0}, `{"temperature":1,"top_p":0}`},
		{object{"max_tokens": 9, "temperature": 0}, `{"temperature":2,"top_p":0,"top_k":5}`},
		{object{"max_tokens": 9, "seed": 5},
			`{"response_format":{"type":"text"},"logit_bias":{},"presence_penalty":0.0,"stop_token_ids":null,"min_tokens":0}`},
		{object{"max_tokens": 9, "seed": 5}, `{"suffix":"","response_format":null,"user":"somebody","x":[1]}`},
	} {
		c.plain["prompt"] = "hello"
		with := object{}
		for k, v := range c.plain {
			with[k] = v
		}
		want := s.complete(c.plain)
		if err := json.Unmarshal([]byte(c.keys), &with); err != nil {
			t.Fatal(err)
		}
		body, _ := json.Marshal(with)
		for key, raw := range rawKeys(t, c.keys) { // as it is written: Go writes 16.0 as 16
			body = []byte(strings.Replace(string(body), fmt.Sprintf("%q:%s", key, compact(with[key])),
				fmt.Sprintf("%q:%s", key, raw), 1))
		}
		status, text := s.ask("/v1/completions", string(body))
		var got answer
		if err := json.Unmarshal(text, &got); err != nil || status != 200 || got.Choices[0].Text != want.Choices[0].Text ||
			got.Usage != want.Usage {
			t.Errorf("%s: status %d, %s, want %q", body, status, text, want.Choices[0].Text)
		}
	}
	if got := s.complete(object{"prompt": json.RawMessage(`[1.0, 2]`),
		"max_tokens": 0, "echo": true}); got.Choices[0].Text != "bc" {
		t.Errorf("tokens 1.0 and 2: %+v", got)
	}
}

func compact(v any) string {
	text, _ := json.Marshal(v)
	return string(text)
}

func rawKeys(t *testing.T, text string) map[string]json.RawMessage {
	t.Helper()
	var raw map[string]json.RawMessage
	if err := json.Unmarshal([]byte(text), &raw); err != nil {
		t.Fatal(err)
	}
	return raw
}

// TestWhatIsNotSupportedIsRefused: no key that would change the answer is passed over in silence.
func TestWhatIsNotSupportedIsRefused(t *testing.T) {
	s := chatty(t)
	for keys, param := range map[string]string{
		`"response_format":{"type":"json_object"}`:                             "response_format",
		`"response_format":{"type":"json_schema","json_schema":{"schema":{}}}`: "response_format",
		`"response_format":"json"`:                                             "response_format",
		`"guided_json":{"type":"object"}`:                                      "guided_json",
		`"structured_outputs":{"regex":"a"}`:                                   "structured_outputs",
		`"min_tokens":3`:                                                       "min_tokens",
		`"stop_token_ids":[3]`:                                                 "stop_token_ids",
		`"frequency_penalty":0.5`:                                              "frequency_penalty",
		`"logit_bias":{"1":2}`:                                                 "logit_bias",
		`"use_beam_search":true`:                                               "use_beam_search",
		`"max_tokens":16.5`:                                                    "max_tokens",
		`"max_tokens":"16"`:                                                    "max_tokens",
		`"seed":1.5`:                                                           "seed",
		`"top_p":-0.1`:                                                         "top_p",
		`"temperature":1000`:                                                   "temperature",
		`"max_tokens":95`:                                                      "max_tokens",
	} {
		for path, text := range map[string]string{"/v1/completions": `"prompt":"hello"`,
			"/v1/chat/completions": `"messages":[{"role":"user","content":"hello"}]`} {
			if f := s.refused(t, path, "{"+text+","+keys+"}", 400); f.Param != param || !strings.Contains(f.Message, param) &&
				param != "top_p" {
				t.Errorf("%s of %s: %+v", keys, path, f)
			}
		}
	}
	for keys, param := range map[string]string{
		`"tools":[{"type":"function"}]`:     "tools",
		`"functions":[{"name":"f"}]`:        "functions",
		`"continue_final_message":true`:     "continue_final_message",
		`"max_completion_tokens":95`:        "max_completion_tokens",
		`"max_completion_tokens":0`:         "max_completion_tokens",
		`"logprobs":true,"top_logprobs":21`: "top_logprobs",
	} {
		if f := s.refused(t, "/v1/chat/completions", `{"messages":[{"role":"user","content":"hello"}],`+keys+"}",
			400); f.Param != param {
			t.Errorf("%s: %+v", keys, f)
		}
	}
}

// TestErrorsAsClientsReadThem: code is a word or null, and param the key that is wrong.
func TestErrorsAsClientsReadThem(t *testing.T) {
	s := chatty(t)
	long := strings.Repeat("a", testContext)
	for _, c := range []struct {
		path, body string
		status     int
		want       asked
	}{
		{"/v1/completions", `{"prompt":"a","n":0}`, 400, asked{"", "invalid_request_error", "n", nil}},
		{"/v1/completions", `{"prompt":"a","model":"x"}`, 404,
			asked{"", "invalid_request_error", "model", "model_not_found"}},
		{"/v1/completions", `{"prompt":"` + long + `"}`, 400,
			asked{"", "invalid_request_error", "prompt", "context_length_exceeded"}},
		{"/v1/completions", `{"prompt":"a","max_tokens":96}`, 400, asked{"", "invalid_request_error", "max_tokens",
			"context_length_exceeded"}},
		{"/v1/completions", `{"prompt":"a","tools":[],"guided_regex":"a"}`, 400,
			asked{"", "invalid_request_error", "guided_regex", "unsupported_parameter"}},
		{"/v1/chat/completions", `{"messages":[{"role":"user","content":"` + long + `"}]}`, 400,
			asked{"", "invalid_request_error", "messages", "context_length_exceeded"}},
		{"/detokenize", `{"tokens":[1,99]}`, 400,
			asked{"token 99 at position 1 is none of the model's, which go from 0 to 36",
				"invalid_request_error", "tokens", nil}},
		{"/detokenize", `{"tokens":[1,-7]}`, 400,
			asked{"token -7 at position 1 is none of the model's, which go from 0 to 36",
				"invalid_request_error", "tokens", nil}},
		{"/detokenize", `{"tokens":[1,null]}`, 400, asked{"position 1 holds null, where it must hold a token from 0 to 36",
			"invalid_request_error", "tokens", nil}},
		{"/nowhere", `{}`, 404, asked{"", "invalid_request_error", "", nil}},
	} {
		got := s.refused(t, c.path, c.body, c.status)
		if c.want.Message == "" {
			c.want.Message = got.Message
		}
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%.90s: %+v, want %+v", c.body, got, c.want)
		}
	}
}

// TestStopStringIsNotCounted: neither text, usage nor tokens have what a stop string is made of, in a stream neither.
func TestStopStringIsNotCounted(t *testing.T) {
	s := start(t, tiny(t, "gqa-2"), Config{})
	body := object{"prompt": "hello", "max_tokens": 30, "seed": 11, "temperature": 1.5, "ignore_eos": true, "logprobs": 1}
	text := s.complete(body).Choices[0].Text
	for _, n := range []int{1, 2, 5} {
		stop := text[10 : 10+n]
		at := strings.Index(text, stop)
		body["stop"] = stop
		for _, stream := range []bool{false, true} {
			body["stream"], body["stream_options"] = stream, object{"include_usage": true}
			_, raw := s.ask("/v1/completions", body)
			var got answer // of a stream, all parts in one
			tokens, said := 0, ""
			for _, line := range strings.Split(strings.ReplaceAll(string(raw), "data: [DONE]", ""), "\n") {
				if line = strings.TrimPrefix(line, "data: "); line == "" {
					continue
				}
				got = answer{}
				if err := json.Unmarshal([]byte(line), &got); err != nil {
					t.Fatal(err)
				}
				for _, c := range got.Choices {
					tokens, said = tokens+len(c.Logprobs.IDs), said+c.Text
					if len(c.Logprobs.IDs) != len(c.Logprobs.Each) {
						t.Errorf("%d tokens with %d scores", len(c.Logprobs.IDs), len(c.Logprobs.Each))
					}
				}
			}
			if said != text[:at] || tokens != at || got.Usage.New != at {
				t.Errorf("stop %q in %q, stream %v: %q of %d tokens, usage %+v", stop, text, stream, said, tokens, got.Usage)
			}
		}
	}
	s.idle()
}

// TestOffsetCountsCharacters cuts texts, broken ones too, into pieces at random. A piece that begins a character begins
// at that one of the text as JSON carries it.
func TestOffsetCountsCharacters(t *testing.T) {
	for _, c := range []struct {
		pieces []string
		want   []int
	}{
		{[]string{"a", "é", "b"}, []int{0, 1, 2}},
		{[]string{"\xc3", "\xa9", "b"}, []int{0, 1, 1}},
		{[]string{"\xe2", "\x82", "\xac", "", "b"}, []int{0, 1, 1, 1, 1}},
		{[]string{"\xff\x80", "a", "b"}, []int{0, 2, 3}},
		{[]string{"\x80", "\x80", "a"}, []int{0, 1, 2}},
		{[]string{"\xe2\x82", "a", "b"}, []int{0, 2, 3}},
		{[]string{"\xf0\x9f", "\x98", "", "é"}, []int{0, 1, 1, 3}},
	} {
		var o offset
		var got []int
		for _, p := range c.pieces {
			got = append(got, o.add([]byte(p)))
		}
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%q: %v, want %v", c.pieces, got, c.want)
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		var text []byte
		for range r.IntN(9) {
			text = append(text, []string{"a", "é", "€", "😀", "\xff", "\x80", "\xe2\x82", "\xf0\x9f\x98"}[r.IntN(8)]...)
		}
		begins := map[int]int{} // the characters' numbers by the bytes where they begin
		for i := range string(text) {
			begins[i] = len(begins)
		}
		var o offset
		for at := 0; at < len(text); {
			n := 1 + r.IntN(min(4, len(text)-at))
			got := o.add(text[at : at+n])
			want, ok := begins[at]
			if before, _ := utf8.DecodeLastRune(text[:at]); ok && !(before == utf8.RuneError && !utf8.RuneStart(text[at])) &&
				got != want {
				t.Fatalf("%q: the piece %q at byte %d begins at character %d, not %d", text, text[at:at+n], at, got, want)
			}
			at += n
		}
	}
}

// TestChoicesHaveSeedsOfTheirOwn: n choices differ, and choice i is that of seed + i alone, in a stream too.
func TestChoicesHaveSeedsOfTheirOwn(t *testing.T) {
	s := start(t, tiny(t, "gqa-2"), Config{})
	body := object{"prompt": []string{"hello", "bye"}, "max_tokens": 20, "temperature": 1, "seed": 40,
		"n": 4, "ignore_eos": true}
	all := s.complete(body)
	if len(all.Choices) != 8 {
		t.Fatalf("%d choices of 2 prompts times 4", len(all.Choices))
	}
	different := map[string]bool{}
	for i, c := range all.Choices {
		different[c.Text] = true
		alone := s.complete(object{"prompt": []string{"hello", "bye"}[i/4], "max_tokens": 20, "temperature": 1,
			"seed": 40 + i%4, "ignore_eos": true})
		if c.Index != i || c.Text != alone.Choices[0].Text {
			t.Errorf("choice %d, index %d: %q, with seed %d alone %q", i, c.Index, c.Text, 40+i%4, alone.Choices[0].Text)
		}
	}
	if len(different) < 7 { // 20 tokens of temperature 1 hardly ever come twice
		t.Errorf("%d of 8 choices differ: %+v", len(different), all.Choices)
	}
	greedy := s.complete(object{"prompt": "hello", "max_tokens": 9, "temperature": 0, "n": 4})
	for _, c := range greedy.Choices {
		if c.Text != greedy.Choices[0].Text {
			t.Errorf("greedy choices differ: %+v", greedy.Choices)
		}
	}
}

// signs is a tokenizer whose tokens are characters of one to four bytes, parts of them and bytes that are part of none.
type signs struct{}

var pieces = []string{"a", "é", "€", "😀", "né", "\xe2\x82", "\xac", "\xc3", "\xa9", "\xf0\x9f", "\xff", "\x80"}

func (signs) Append(ids []int32, text []byte) []int32 { return ids }

func (signs) Decode(ids []int32) (text []byte, err error) {
	for _, id := range ids {
		text = append(text, pieces[int(id)%len(pieces)]...)
	}
	return text, nil
}

// TestOffsetsOutsideASCII: text_offset counts the characters of the text that clients read, echoed or new.
func TestOffsetsOutsideASCII(t *testing.T) {
	s := start(t, tiny(t, "gqa-2"), Config{Tokenizer: signs{}})
	for _, c := range []struct {
		prompt []int32
		text   string
		want   string
	}{
		{[]int32{0, 1, 2, 3, 4, 0}, "aé€😀néa", "[0 1 2 3 4 6]"},
		{[]int32{1, 5, 6, 3, 7, 8, 0}, "é€😀éa", "[0 1 2 2 3 4 4]"},
		{[]int32{10, 11, 0, 9, 0}, "\ufffd\ufffda\ufffd\ufffda", "[0 1 2 3 5]"},
	} {
		got := s.complete(object{"prompt": c.prompt, "max_tokens": 0, "echo": true, "logprobs": 0}).Choices[0]
		if at := fmt.Sprint(got.Logprobs.Offset); got.Text != c.text || at != c.want {
			t.Errorf("%q at %s, want %q at %s", got.Text, at, c.text, c.want)
		}
	}
	for seed := range 20 {
		got := s.complete(object{"prompt": []int32{2}, "max_tokens": 40, "temperature": 2, "seed": seed,
			"logprobs": 0, "ignore_eos": true}).Choices[0]
		text := []rune(got.Text)
		for i, id := range got.Logprobs.IDs {
			piece := pieces[int(id)%len(pieces)]
			if at := got.Logprobs.Offset[i]; utf8.ValidString(piece) && !strings.HasPrefix(string(text[at:]), piece) {
				t.Fatalf("token %d, %q, does not stand at character %d of %q", i, piece, at, got.Text)
			}
		}
	}
}

// TestChatBeginsWithARole: the first event of each choice has the role alone, for clients drop or double what comes
// with it; the others have the answer.
func TestChatBeginsWithARole(t *testing.T) {
	s := chatty(t)
	body := object{"messages": []object{{"role": "user", "content": "hello"}}, "n": 2, "seed": 1, "max_tokens": 12,
		"logprobs": true, "ignore_eos": true}
	_, raw := s.ask("/v1/chat/completions", body)
	var whole answer
	if err := json.Unmarshal(raw, &whole); err != nil {
		t.Fatal(err)
	}
	body["stream"] = true
	_, raw = s.ask("/v1/chat/completions", body)
	events, texts, scores := make([]int, 2), make([]string, 2), make([]int, 2)
	for line := range strings.Lines(strings.ReplaceAll(string(raw), "data: [DONE]", "")) {
		line = strings.TrimPrefix(strings.TrimSpace(line), "data: ")
		if line == "" {
			continue
		}
		var part struct {
			Choices []struct {
				Index    int
				Delta    message
				Logprobs *struct{ Content []any }
				Reason   *string `json:"finish_reason"`
			}
		}
		if err := json.Unmarshal([]byte(line), &part); err != nil || len(part.Choices) != 1 {
			t.Fatalf("%v: %s", err, line)
		}
		c := part.Choices[0]
		opens := events[c.Index] == 0
		if events[c.Index]++; opens && (c.Delta.Role != "assistant" || *c.Delta.Content != "" ||
			c.Logprobs != nil || c.Reason != nil) {
			t.Errorf("choice %d begins with %s", c.Index, line)
		}
		if !opens {
			texts[c.Index] += *c.Delta.Content
			scores[c.Index] += len(c.Logprobs.Content)
		}
	}
	for i, c := range whole.Choices {
		if texts[i] != c.Message.Content || scores[i] != 12 {
			t.Errorf("choice %d: %q with %d scores, whole %q", i, texts[i], scores[i], c.Message.Content)
		}
	}
}
