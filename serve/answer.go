package serve

import "headroom/decode"

// A completion is the body of an answer, or of an event of a stream.
type completion struct {
	ID      string   `json:"id"`
	Object  string   `json:"object"`
	Created int64    `json:"created"`
	Model   string   `json:"model"`
	Choices []choice `json:"choices"`
	Usage   *usage   `json:"usage,omitempty"`
}

// A choice is one sequence of an answer. Chat has a message, or a delta in a stream, in place of the text.
type choice struct {
	Index    int      `json:"index"`
	Text     *string  `json:"text,omitempty"`
	Message  *message `json:"message,omitempty"`
	Delta    *message `json:"delta,omitempty"`
	Logprobs any      `json:"logprobs"`
	Reason   *string  `json:"finish_reason"`
}

// logprobs has an entry for each token. Those of an echoed prompt's first token are null, since no pass computes its
// probability.
type logprobs struct {
	Tokens        []string             `json:"tokens"`
	TokenLogprobs []*float32           `json:"token_logprobs"`
	TopLogprobs   []map[string]float32 `json:"top_logprobs"`
	TextOffset    []int                `json:"text_offset"`
	TokenIDs      []int32              `json:"token_ids"`
}

type usage struct {
	Prompt  int `json:"prompt_tokens"`
	New     int `json:"completion_tokens"`
	Total   int `json:"total_tokens"`
	Details struct {
		Cached int `json:"cached_tokens"`
	} `json:"prompt_tokens_details"`
}

func (u *usage) add(prompt, tokens, cached int) {
	u.Prompt, u.New = u.Prompt+prompt, u.New+tokens
	u.Total = u.Prompt + u.New
	u.Details.Cached += cached
}

// A writer renders one sequence, all at once or part by part.
type writer struct {
	words  words
	order  *order
	prompt []int32
	text   string // of the prompt
	index  int

	begun  bool
	offset offset
	tokens int
}

// opening is the first event of a chat's choice: it has the role and no text yet, and clients take no log probabilities
// from it.
func (w *writer) opening() choice {
	return choice{Index: w.index, Delta: &message{"assistant", new(string)}}
}

// part renders what has come since the last part as an addition to the choice.
func (w *writer) part(m mail) choice {
	c := choice{Index: w.index}
	text, tokens, echo, first := m.text, m.tokens, false, !w.begun
	if w.order.echo && first {
		text, tokens, echo = w.text+text, append(append([]int32{}, w.prompt...), tokens...), true
	}
	w.begun = true
	w.tokens += len(m.tokens)
	switch o := w.order; {
	case o.chat && o.stream:
		c.Delta = &message{Content: &text}
	case o.chat:
		c.Message = &message{"assistant", &text}
	default:
		c.Text = &text
	}
	switch o := w.order; {
	case o.chat && o.logprobs:
		c.Logprobs = w.chatLogprobs(tokens, m.scores)
	case o.logprobs:
		c.Logprobs = w.logprobs(tokens, m.scores, echo)
	}
	if m.reason != decode.Running {
		reason := finish(m.reason)
		c.Reason = &reason
	}
	return c
}

// logprobs renders tokens with their scores; the first has none at the beginning of an echoed prompt.
func (w *writer) logprobs(tokens []int32, scores []decode.Score, headless bool) *logprobs {
	l := &logprobs{[]string{}, []*float32{}, []map[string]float32{}, []int{}, tokens}
	if tokens == nil {
		l.TokenIDs = []int32{}
	}
	for i, id := range tokens {
		l.Tokens = append(l.Tokens, w.words.shown(id))
		piece := w.words.piece(id)
		if headless && i < w.order.begun { // these tokens stand for no text of the client's
			piece = nil
		}
		l.TextOffset = append(l.TextOffset, w.offset.add(piece))
		if headless && i == 0 {
			l.TokenLogprobs, l.TopLogprobs = append(l.TokenLogprobs, nil), append(l.TopLogprobs, nil)
			continue
		}
		score := scores[0]
		scores = scores[1:]
		l.TokenLogprobs = append(l.TokenLogprobs, &score.LogProb)
		l.TopLogprobs = append(l.TopLogprobs, w.top(score, id))
	}
	return l
}

// top maps the likeliest tokens to their log probabilities, and the token that came too where any are asked for. Tokens
// with the same text stay separate.
func (w *writer) top(score decode.Score, token int32) map[string]float32 {
	if w.order.sequence.Top == 0 {
		return nil
	}
	all := map[string]float32{}
	there := false
	put := func(id int32, p float32) {
		name := w.words.shown(id)
		if _, taken := all[name]; taken {
			name = idName(id)
		}
		all[name] = p
		there = there || id == token
	}
	for _, g := range score.Top {
		put(g.Token, g.LogProb)
	}
	if !there {
		put(token, score.LogProb)
	}
	return all
}

// finish is the reason why a sequence ended, in the words of OpenAI's API.
func finish(r decode.Reason) string {
	if r == decode.Full {
		return "length"
	}
	return "stop"
}
