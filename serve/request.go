package serve

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"

	"headroom/decode"
)

// A refusal is an answer that says what is wrong with a request.
type refusal struct {
	status int
	param  string // the key that is wrong
	reason string
	code   string // for programs, in the dialect's words; may be empty
}

func (r *refusal) Error() string { return r.reason }

func bad(param, format string, args ...any) error {
	return &refusal{status: http.StatusBadRequest, param: param, reason: fmt.Sprintf(format, args...)}
}

// An order is a request for completions, checked.
type order struct {
	prompts  [][]int32
	begun    int // tokens that the server put before each prompt, which stand for no text of the client's
	n        int // completions of each prompt
	sequence decode.Request
	echo     bool // the prompt goes before the completion
	logprobs bool
	stream   bool
	usage    bool // a last event of a stream tells it
	chat     bool

	promptKey, limitKey string // how the request calls its prompts and its most new tokens
}

// sampling is what completions and chat have in common. Keys that change nothing are ignored, as clients of other
// servers send many.
type sampling struct {
	Model         string   `json:"model"`
	N             *whole   `json:"n"`
	MaxTokens     *whole   `json:"max_tokens"`
	Temperature   *float64 `json:"temperature"`
	TopP          *float64 `json:"top_p"`
	TopK          *whole   `json:"top_k"`
	MinP          *float64 `json:"min_p"`
	Repetition    *float64 `json:"repetition_penalty"`
	Seed          *whole   `json:"seed"`
	Stop          stops    `json:"stop"`
	Stream        bool     `json:"stream"`
	IgnoreEnd     bool     `json:"ignore_eos"`
	StreamOptions *struct {
		IncludeUsage bool `json:"include_usage"`
	} `json:"stream_options"`

	Format format `json:"response_format"`

	// Keys that would change the answer and are not supported.
	Presence       unsupported `json:"presence_penalty"`
	Frequency      unsupported `json:"frequency_penalty"`
	Bias           unsupported `json:"logit_bias"`
	MinTokens      unsupported `json:"min_tokens"`
	StopIDs        unsupported `json:"stop_token_ids"`
	StopInText     unsupported `json:"include_stop_str_in_output"`
	BadWords       unsupported `json:"bad_words"`
	BeamSearch     unsupported `json:"use_beam_search"`
	Structured     unsupported `json:"structured_outputs"`
	GuidedJSON     unsupported `json:"guided_json"`
	GuidedRegex    unsupported `json:"guided_regex"`
	GuidedChoice   unsupported `json:"guided_choice"`
	GuidedGrammar  unsupported `json:"guided_grammar"`
	Grammar        unsupported `json:"grammar"`
	Schema         unsupported `json:"json_schema"`
	PromptLogprobs unsupported `json:"prompt_logprobs"`
	Truncate       unsupported `json:"truncate_prompt_tokens"`
}

// completionRequest is the body of /v1/completions.
type completionRequest struct {
	sampling
	Prompt   json.RawMessage `json:"prompt"`
	Logprobs *whole          `json:"logprobs"`
	Echo     bool            `json:"echo"`
	BestOf   *whole          `json:"best_of"`
	Suffix   unsupported     `json:"suffix"`
	Begin    *bool           `json:"add_special_tokens"` // true where it is left out: texts begin as documents do
}

// The largest values that a request may ask for, beside the server's own limits.
const (
	mostTop       = 20
	mostStops     = 16
	longestStop   = 256
	defaultTokens = 16
)

// parseCompletion reads and checks the body of /v1/completions.
func (s *Server) parseCompletion(body io.Reader) (*order, error) {
	var q completionRequest
	if err := decodeJSON(body, &q); err != nil {
		return nil, err
	}
	o, err := s.common(&q.sampling)
	if err != nil {
		return nil, err
	}
	o.echo = q.Echo
	switch {
	case q.BestOf != nil && int(*q.BestOf) != o.n:
		return nil, bad("best_of", "best_of is not supported: leave it out, or make it n = %d", o.n)
	case q.Logprobs != nil && (*q.Logprobs < 0 || *q.Logprobs > mostTop):
		return nil, bad("logprobs", "logprobs must be from 0 to %d, it is %d", mostTop, *q.Logprobs)
	}
	if q.Logprobs != nil {
		o.logprobs, o.sequence.Score, o.sequence.Top, o.sequence.Echo = true, true, int(*q.Logprobs), o.echo
	}
	begin := begins(q.Begin, true)
	if o.prompts, err = s.prompts(q.Prompt, begin); err != nil {
		return nil, err
	}
	if begin && strings.HasSuffix(shape(bytes.TrimSpace(q.Prompt)), `"`) { // a text, or texts
		o.begun = len(s.words.begin)
	}
	if q.MaxTokens == nil {
		o.sequence.MaxTokens = max(1, min(defaultTokens, s.room(o)))
	}
	return o, s.check(o)
}

// common checks what completions and chat share.
func (s *Server) common(q *sampling) (*order, error) {
	o := &order{
		n: 1, stream: q.Stream, usage: q.StreamOptions != nil && q.StreamOptions.IncludeUsage,
		promptKey: "prompt", limitKey: "max_tokens",
	}
	r := &o.sequence
	r.Temperature, r.Seed = 1, rand.Uint64()
	r.Stop, r.IgnoreEnd = q.Stop, q.IgnoreEnd
	setWhole(&r.MaxTokens, q.MaxTokens)
	setWhole(&o.n, q.N)
	if q.Seed != nil {
		r.Seed = uint64(*q.Seed)
	}
	switch {
	case q.Model != "" && q.Model != s.config.Name:
		return nil, s.noModel(q.Model)
	case o.n < 1:
		return nil, bad("n", "n must be at least 1, it is %d", o.n)
	case r.MaxTokens < 0:
		return nil, bad("max_tokens", "max_tokens must not be negative, it is %d", r.MaxTokens)
	case len(q.Stop) > mostStops:
		return nil, bad("stop", "at most %d stop strings, not %d", mostStops, len(q.Stop))
	}
	for _, stop := range q.Stop {
		if len(stop) > longestStop {
			return nil, bad("stop", "a stop string has at most %d bytes, not %d", longestStop, len(stop))
		}
	}
	return o, q.drawing(&r.Sampling)
}

// drawing reads the parameters of sampling.
func (q *sampling) drawing(r *decode.Sampling) error {
	set(&r.Temperature, q.Temperature)
	set(&r.TopP, q.TopP)
	setWhole(&r.TopK, q.TopK)
	set(&r.MinP, q.MinP)
	set(&r.Repetition, q.Repetition)
	if r.TopK == -1 { // other servers write -1 for all tokens
		r.TopK = 0
	}
	if q.Repetition != nil && *q.Repetition == 0 {
		return bad("repetition_penalty", "repetition_penalty must be above 0, it is 0")
	}
	for _, one := range []struct {
		key   string
		value decode.Sampling
	}{
		{"temperature", decode.Sampling{Temperature: r.Temperature}},
		{"top_p", decode.Sampling{TopP: r.TopP}},
		{"top_k", decode.Sampling{TopK: r.TopK}},
		{"min_p", decode.Sampling{MinP: r.MinP}},
		{"repetition_penalty", decode.Sampling{Repetition: r.Repetition}},
	} {
		if err := one.value.Validate(); err != nil {
			return bad(one.key, "%s", strings.TrimPrefix(err.Error(), "decode: "))
		}
	}
	if q.TopP != nil && r.TopP == 0 { // OpenAI's 0 leaves only the likeliest token, while the engine's 0 leaves all
		r.TopK, r.TopP = 1, 0
	}
	return nil
}

// noModel is the error for a request that names another model.
func (s *Server) noModel(name string) error {
	return &refusal{http.StatusNotFound, "model", fmt.Sprintf("there is no model %.80q here: this is %q",
		name, s.config.Name), "model_not_found"}
}

// begins says whether a text gets the tokens before it: as the request asks, or as its kind does.
func begins(asked *bool, usual bool) bool {
	if asked != nil {
		return *asked
	}
	return usual
}

func set[T any](to *T, from *T) {
	if from != nil {
		*to = *from
	}
}

func setWhole(to *int, from *whole) {
	if from != nil {
		*to = int(*from)
	}
}

// check holds an order against the limits, and each of its sequences against the engine's.
func (s *Server) check(o *order) error {
	if most := s.config.Sequences; o.n > most || len(o.prompts) > most/o.n {
		return bad("n", "%d prompts times n = %d are more than the %d sequences that a request may ask for",
			len(o.prompts), o.n, most)
	}
	if room := s.room(o); room > 0 && o.sequence.MaxTokens > room {
		reason := fmt.Sprintf("%s is %d, and the longest prompt leaves %d of the model's context of %d", o.limitKey,
			o.sequence.MaxTokens, room, s.context)
		return &refusal{http.StatusBadRequest, o.limitKey, reason, tooLongCode}
	}
	if o.sequence.MaxTokens == 0 && !o.echo {
		return bad(o.limitKey, "%s may be 0 only with echo", o.limitKey)
	}
	for i, p := range o.prompts {
		r := o.sequence
		r.Prompt = p
		if r.MaxTokens == 0 && !r.Score {
			r.MaxTokens = 1 // an echo alone needs no new token, but the engine asks for one
		}
		if err := s.engine.Check(r); err != nil {
			code, most := "", s.context-1
			if r.MaxTokens == 0 {
				most = s.context + 1
			}
			if len(p) > most {
				code = tooLongCode
			}
			return &refusal{http.StatusBadRequest, o.promptKey,
				fmt.Sprintf("%s %d: %s", o.promptKey, i, strings.TrimPrefix(err.Error(), "decode: ")), code}
		}
	}
	return nil
}

// tooLongCode is the API's code for a request that does not fit into the context.
const tooLongCode = "context_length_exceeded"

// room is how many tokens may come behind the longest prompt.
func (s *Server) room(o *order) int {
	room := s.context
	for _, p := range o.prompts {
		room = min(room, s.context-len(p))
	}
	return room
}

// prompts reads a text, token ids, or a list of one of them.
func (s *Server) prompts(raw json.RawMessage, begin bool) (ids [][]int32, err error) {
	var texts []string
	raw = bytes.TrimSpace(raw)
	wrong := bad("prompt",
		"prompt must be text, token ids (whole numbers from 0 to %d), or a list of texts or of lists of ids", s.vocab-1)
	switch first := shape(raw); {
	case first == "" || first == "null":
		return nil, bad("prompt", "prompt is missing: give text or token ids")
	case first == `"`:
		texts = make([]string, 1)
		err = json.Unmarshal(raw, &texts[0])
	case first == `["`:
		err = json.Unmarshal(raw, &texts)
	case first == "[[":
		var lists []json.RawMessage
		err = json.Unmarshal(raw, &lists)
		ids = make([][]int32, len(lists))
		for i := 0; i < len(lists) && err == nil; i++ {
			ids[i], err = tokenIDs(lists[i])
		}
	case first == "[]":
		return nil, bad("prompt", "prompt is an empty list")
	case first == "[":
		ids = make([][]int32, 1)
		ids[0], err = tokenIDs(raw)
	default:
		return nil, wrong
	}
	if err != nil {
		return nil, wrong
	}
	if len(texts)+len(ids) > s.config.Sequences {
		return nil, bad("prompt", "%d prompts are more than the %d sequences that a request may ask for",
			len(texts)+len(ids), s.config.Sequences)
	}
	for i, text := range texts {
		one, err := s.words.encode(text, begin)
		if err != nil {
			return nil, bad("prompt", "prompt %d %s", i, err)
		}
		ids = append(ids, one)
	}
	return ids, nil
}
