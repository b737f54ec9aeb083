package serve

import (
	"bytes"
	"encoding/json"
	"errors"
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
	param  string
	reason string
}

func (r *refusal) Error() string { return r.reason }

func bad(param, format string, args ...any) error {
	return &refusal{http.StatusBadRequest, param, fmt.Sprintf(format, args...)}
}

// An order is a request for completions, checked.
type order struct {
	prompts  [][]int32
	begun    int // tokens at the beginning of each that stand for no text of the client's
	n        int // completions of each prompt
	sequence decode.Request
	echo     bool // the prompt goes before the completion
	logprobs bool
	stream   bool
	usage    bool // a last event of a stream tells it
	chat     bool
}

// sampling is what completions and chat have in common. Unknown keys are ignored, as clients of other servers send many.
type sampling struct {
	Model         string   `json:"model"`
	N             *int     `json:"n"`
	MaxTokens     *int     `json:"max_tokens"`
	Temperature   *float64 `json:"temperature"`
	TopP          *float64 `json:"top_p"`
	TopK          *int     `json:"top_k"`
	MinP          *float64 `json:"min_p"`
	Repetition    *float64 `json:"repetition_penalty"`
	Presence      *float64 `json:"presence_penalty"`
	Frequency     *float64 `json:"frequency_penalty"`
	Seed          *int64   `json:"seed"`
	Stop          stops    `json:"stop"`
	Stream        bool     `json:"stream"`
	IgnoreEnd     bool     `json:"ignore_eos"`
	StreamOptions *struct {
		IncludeUsage bool `json:"include_usage"`
	} `json:"stream_options"`
	LogitBias map[string]float64 `json:"logit_bias"`
}

// completionRequest is the body of /v1/completions.
type completionRequest struct {
	sampling
	Prompt   json.RawMessage `json:"prompt"`
	Logprobs *int            `json:"logprobs"`
	Echo     bool            `json:"echo"`
	BestOf   *int            `json:"best_of"`
	Suffix   *string         `json:"suffix"`
	Begin    *bool           `json:"add_special_tokens"` // true where it is left out: texts begin as documents do
}

// stops is a string or a list of them.
type stops []string

func (s *stops) UnmarshalJSON(text []byte) error {
	if len(text) > 0 && text[0] == '[' {
		var many []*string
		if err := json.Unmarshal(text, &many); err != nil {
			return errStop
		}
		for _, one := range many {
			if one == nil {
				return errStop
			}
			*s = append(*s, *one)
		}
		return nil
	}
	var one *string
	if err := json.Unmarshal(text, &one); err != nil {
		return errStop
	}
	if one != nil {
		*s = stops{*one}
	}
	return nil
}

var errStop = bad("stop", "stop must be a string or a list of strings")

// Most of what a request may ask for, beside the server's own limits.
const (
	mostTop       = 20
	mostStops     = 16
	longestStop   = 256
	defaultTokens = 16
)

// decodeJSON reads one JSON value and nothing behind it.
func decodeJSON(body io.Reader, into any) error {
	d := json.NewDecoder(body)
	err := d.Decode(into)
	if err == nil {
		if _, more := d.Token(); more == io.EOF {
			return nil
		} else if more == nil || !errors.As(more, new(*http.MaxBytesError)) {
			return bad("", "the body has more than one JSON value")
		} else {
			err = more
		}
	}
	var r *refusal
	var typ *json.UnmarshalTypeError
	var long *http.MaxBytesError
	switch {
	case errors.As(err, &r):
		return r
	case errors.As(err, &long):
		return &refusal{http.StatusRequestEntityTooLarge, "", fmt.Sprintf("the body is longer than %d bytes", long.Limit)}
	case errors.As(err, &typ):
		return bad(field(typ.Field), "%s must be %s, not a JSON %s", field(typ.Field), kind(typ), typ.Value)
	case err == io.EOF:
		return bad("", "the body is empty: it must be a JSON object")
	case errors.Is(err, io.ErrUnexpectedEOF):
		return bad("", "the body ends in the middle of its JSON")
	}
	return bad("", "the body is no JSON: %s", strings.TrimPrefix(err.Error(), "json: "))
}

func field(path string) string {
	if path == "" {
		return "body"
	}
	return path[strings.LastIndexByte(path, '.')+1:]
}

// kind is what a key must be, in words.
func kind(e *json.UnmarshalTypeError) string {
	switch e.Type.Kind().String() {
	case "int", "int32", "int64":
		return "a whole number within range"
	case "float64":
		return "a number within range"
	case "bool":
		return "true or false"
	case "string":
		return "a string"
	case "slice":
		return "a list"
	}
	return "an object"
}

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
	case q.BestOf != nil && *q.BestOf != o.n:
		return nil, bad("best_of", "best_of is not supported: leave it out, or make it n = %d", o.n)
	case q.Suffix != nil && *q.Suffix != "":
		return nil, bad("suffix", "suffix is not supported: leave it out")
	case q.Logprobs != nil && (*q.Logprobs < 0 || *q.Logprobs > mostTop):
		return nil, bad("logprobs", "logprobs must be from 0 to %d, it is %d", mostTop, *q.Logprobs)
	}
	if q.Logprobs != nil {
		o.logprobs, o.sequence.Score, o.sequence.Top, o.sequence.Echo = true, true, *q.Logprobs, o.echo
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
	o := &order{n: 1, stream: q.Stream, usage: q.StreamOptions != nil && q.StreamOptions.IncludeUsage}
	r := &o.sequence
	r.Temperature, r.Seed = 1, rand.Uint64()
	r.Stop, r.IgnoreEnd = q.Stop, q.IgnoreEnd
	set(&r.MaxTokens, q.MaxTokens)
	set(&o.n, q.N)
	set(&r.Temperature, q.Temperature)
	set(&r.TopP, q.TopP)
	set(&r.TopK, q.TopK)
	set(&r.MinP, q.MinP)
	set(&r.Repetition, q.Repetition)
	if q.Seed != nil {
		r.Seed = uint64(*q.Seed)
	}
	if r.TopK == -1 { // what other servers call all
		r.TopK = 0
	}
	switch {
	case q.Model != "" && q.Model != s.config.Name:
		return nil, &refusal{http.StatusNotFound, "model", fmt.Sprintf("there is no model %.80q here: this is %q", q.Model, s.config.Name)}
	case o.n < 1:
		return nil, bad("n", "n must be at least 1, it is %d", o.n)
	case r.MaxTokens < 0:
		return nil, bad("max_tokens", "max_tokens must not be negative, it is %d", r.MaxTokens)
	case q.TopP != nil && *q.TopP == 0:
		return nil, bad("top_p", "top_p must be above 0 and at most 1, it is 0")
	case q.Repetition != nil && *q.Repetition == 0:
		return nil, bad("repetition_penalty", "repetition_penalty must be above 0, it is 0")
	case q.Presence != nil && *q.Presence != 0, q.Frequency != nil && *q.Frequency != 0:
		return nil, bad("presence_penalty", "presence_penalty and frequency_penalty are not supported: leave them out, or use repetition_penalty")
	case len(q.LogitBias) > 0:
		return nil, bad("logit_bias", "logit_bias is not supported: leave it out")
	case len(q.Stop) > mostStops:
		return nil, bad("stop", "at most %d stop strings, not %d", mostStops, len(q.Stop))
	}
	for _, stop := range q.Stop {
		if len(stop) > longestStop {
			return nil, bad("stop", "a stop string has at most %d bytes, not %d", longestStop, len(stop))
		}
	}
	return o, nil
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

// check holds an order against the limits, and each of its sequences against the engine's.
func (s *Server) check(o *order) error {
	if most := s.config.Sequences; o.n > most || len(o.prompts) > most/o.n {
		return bad("n", "%d prompts times n = %d are more than the %d sequences that a request may ask for", len(o.prompts), o.n, most)
	}
	if room := s.room(o); room > 0 && o.sequence.MaxTokens > room {
		return bad("max_tokens", "max_tokens is %d, and the longest prompt leaves %d of the model's context of %d", o.sequence.MaxTokens, room, s.context)
	}
	if o.sequence.MaxTokens == 0 && !o.echo {
		return bad("max_tokens", "max_tokens may be 0 only with echo")
	}
	for i, p := range o.prompts {
		r := o.sequence
		r.Prompt = p
		if r.MaxTokens == 0 && !r.Score {
			r.MaxTokens = 1 // the echo of a text alone needs no engine
		}
		if err := s.engine.Check(r); err != nil {
			return bad("prompt", "prompt %d: %s", i, strings.TrimPrefix(err.Error(), "decode: "))
		}
	}
	return nil
}

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
	wrong := bad("prompt", "prompt must be text, token ids (whole numbers from 0 to %d), or a list of texts or of lists of ids", s.vocab-1)
	switch first := shape(raw); {
	case first == "" || first == "null":
		return nil, bad("prompt", "prompt is missing: give text or token ids")
	case first == `"`:
		texts = make([]string, 1)
		err = json.Unmarshal(raw, &texts[0])
	case first == `["`:
		err = json.Unmarshal(raw, &texts)
	case first == "[[":
		err = json.Unmarshal(raw, &ids)
	case first == "[]":
		return nil, bad("prompt", "prompt is an empty list")
	case first == "[":
		ids = make([][]int32, 1)
		err = json.Unmarshal(raw, &ids[0])
	default:
		return nil, wrong
	}
	if err != nil || len(ids) > 0 && bytes.Contains(raw, []byte("null")) { // which would be read as token 0
		return nil, wrong
	}
	if len(texts)+len(ids) > s.config.Sequences {
		return nil, bad("prompt", "%d prompts are more than the %d sequences that a request may ask for", len(texts)+len(ids), s.config.Sequences)
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

// shape is how a JSON value begins: its first byte, and of a list the first of what is in it, where that is no number.
func shape(raw []byte) string {
	if len(raw) == 0 || raw[0] == 'n' {
		return "null"[:min(4, 4*len(raw))]
	}
	if raw[0] != '[' {
		return string(raw[:1])
	}
	inner := bytes.TrimLeft(raw[1:], " \t\r\n")
	if len(inner) > 0 && strings.ContainsRune(`"[]`, rune(inner[0])) {
		return "[" + string(inner[:1])
	}
	return "["
}
