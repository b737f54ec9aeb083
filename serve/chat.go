package serve

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"text/template"
	"unicode/utf8"

	"headroom/decode"
)

// A message of a chat.
type message struct {
	Role    string  `json:"role,omitempty"`
	Content *string `json:"content"`
}

// A Template turns a chat into a prompt: a text/template over .Messages, each with .Role and .Content. The template
// inserts the texts of messages and never executes them.
type Template struct {
	t *template.Template
}

// NewTemplate reads a template, and tries it on a chat of two messages.
func NewTemplate(text string) (*Template, error) {
	t, err := template.New("chat").Option("missingkey=error").Parse(text)
	if err != nil {
		return nil, fmt.Errorf("serve: the chat template: %w", err)
	}
	c := &Template{t}
	hello := "hello"
	prompt, err := c.prompt([]message{{"user", &hello}, {"assistant", &hello}, {"user", &hello}})
	if err == nil && strings.Count(prompt, hello) < 2 {
		err = fmt.Errorf("serve: the chat template leaves messages out: of three hellos it makes %.80q", prompt)
	}
	return c, err
}

func (t *Template) prompt(messages []message) (string, error) {
	type line struct{ Role, Content string }
	var lines []line
	for _, m := range messages {
		lines = append(lines, line{m.Role, *m.Content})
	}
	var b bytes.Buffer
	if err := t.t.Execute(&b, map[string]any{"Messages": lines}); err != nil {
		return "", fmt.Errorf("serve: the chat template: %w", err)
	}
	return b.String(), nil
}

// chatRequest is the body of /v1/chat/completions.
type chatRequest struct {
	sampling
	Messages    []requestMessage `json:"messages"`
	NewTokens   *whole           `json:"max_completion_tokens"`
	Logprobs    bool             `json:"logprobs"`
	TopLogprobs *whole           `json:"top_logprobs"`
	// false where it is left out: the template writes every special token
	Begin *bool `json:"add_special_tokens"`

	Tools     unsupported `json:"tools"`
	Functions unsupported `json:"functions"`
	Audio     unsupported `json:"audio"`
	Echo      unsupported `json:"echo"`
	Continue  unsupported `json:"continue_final_message"`
	Template  unsupported `json:"chat_template"`
	Documents unsupported `json:"documents"`
}

// A requestMessage is a message of a chat as the client wrote it.
type requestMessage struct {
	Role    string          `json:"role"`
	Content json.RawMessage `json:"content"` // a text, or a list of parts
}

// chat answers /v1/chat/completions.
func (s *Server) chat(w http.ResponseWriter, r *http.Request) {
	o, err := s.read(w, r, s.parseChat)
	if err != nil {
		s.refuse(w, err)
		return
	}
	s.complete(w, r, o)
}

func (s *Server) parseChat(body io.Reader) (*order, error) {
	if s.config.Chat == nil {
		return nil, errNoChat
	}
	var q chatRequest
	if err := decodeJSON(body, &q); err != nil {
		return nil, err
	}
	o, err := s.common(&q.sampling)
	if err != nil {
		return nil, err
	}
	o.chat, o.promptKey = true, "messages"
	if q.NewTokens != nil {
		o.limitKey = "max_completion_tokens"
	}
	switch {
	case q.TopLogprobs != nil && !q.Logprobs:
		return nil, bad("top_logprobs", "top_logprobs come only with logprobs")
	case q.TopLogprobs != nil && (*q.TopLogprobs < 0 || *q.TopLogprobs > mostTop):
		return nil, bad("top_logprobs", "top_logprobs must be from 0 to %d, it is %d", mostTop, *q.TopLogprobs)
	}
	o.logprobs, o.sequence.Score = q.Logprobs, q.Logprobs
	setWhole(&o.sequence.Top, q.TopLogprobs)
	ids, err := s.chatTokens(q.Messages, q.Begin)
	if err != nil {
		return nil, err
	}
	o.prompts = [][]int32{ids}
	if setWhole(&o.sequence.MaxTokens, q.NewTokens); q.NewTokens == nil && q.MaxTokens == nil {
		o.sequence.MaxTokens = max(1, s.room(o))
	}
	return o, s.check(o)
}

// chatTokens are the tokens of a chat. The text of a message never becomes a special token: otherwise a user could end
// a message and write one of another role.
func (s *Server) chatTokens(messages []requestMessage, begin *bool) ([]int32, error) {
	switch {
	case s.config.Chat == nil:
		return nil, errNoChat
	case len(messages) == 0:
		return nil, bad("messages", "messages must be a list of at least one {role, content}")
	}
	quoted := make([]message, len(messages))
	for i, m := range messages {
		switch m.Role {
		case "developer": // OpenAI's newer name for system, which templates do not know
			m.Role = "system"
		case "system", "user", "assistant":
		default:
			return nil, bad("messages", "message %d has role %.40q, it must be system, developer, user or assistant", i, m.Role)
		}
		content, err := contentText(m.Content)
		if err != nil {
			return nil, bad("messages", "message %d %s", i, err)
		}
		content = s.words.quoted(content)
		quoted[i] = message{m.Role, &content}
	}
	text, err := s.config.Chat.prompt(quoted)
	if err != nil {
		return nil, err
	}
	ids, err := s.words.encode(text, begins(begin, false))
	if err != nil {
		return nil, bad("messages", "the chat %s", err)
	}
	return ids, nil
}

var errNoChat = &refusal{
	status: http.StatusNotFound,
	reason: "this model has no chat template: use /v1/completions, or start the server with --chat-template",
}

// chatLogprobs are log probabilities as chat has them.
type chatLogprobs struct {
	Content []chatLogprob `json:"content"`
}

type chatLogprob struct {
	Token   string        `json:"token"`
	Logprob float32       `json:"logprob"`
	Bytes   []int         `json:"bytes"`
	Top     []chatLogprob `json:"top_logprobs,omitempty"`
}

func (w *writer) chatLogprobs(tokens []int32, scores []decode.Score) chatLogprobs {
	l := chatLogprobs{[]chatLogprob{}}
	for i, id := range tokens {
		one := w.chatLogprob(id, scores[i].LogProb)
		for _, g := range scores[i].Top {
			one.Top = append(one.Top, w.chatLogprob(g.Token, g.LogProb))
		}
		l.Content = append(l.Content, one)
	}
	return l
}

func (w *writer) chatLogprob(id int32, p float32) chatLogprob {
	c := chatLogprob{Token: w.words.shown(id), Logprob: p, Bytes: []int{}}
	for _, b := range w.words.piece(id) {
		c.Bytes = append(c.Bytes, int(b))
	}
	if !utf8.Valid(w.words.piece(id)) {
		c.Token = string([]rune(string(w.words.piece(id))))
	}
	return c
}
