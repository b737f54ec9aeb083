package load

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// A Target is a server.
type Target struct {
	URL   string // without /v1
	Model string
	Key   string
	Vocab int // random prompts are drawn from so many ids

	context int // of the model; 0 where the server does not say it
}

// Ask fills in the model and the size of the vocabulary where the server says them: /v1/models, and /tokenizer_info,
// which not all servers have.
func (t *Target) Ask(ctx context.Context) error {
	t.URL = strings.TrimSuffix(strings.TrimSuffix(t.URL, "/"), "/v1")
	var models struct {
		Data []struct {
			ID      string
			Context int `json:"max_model_len"`
		}
	}
	if err := t.get(ctx, "/v1/models", &models); err != nil && t.Model == "" {
		return err
	}
	if t.Model == "" {
		if len(models.Data) == 0 {
			return fmt.Errorf("load: %s serves no model", t.URL)
		}
		t.Model = models.Data[0].ID
	}
	t.context = 0
	for _, m := range models.Data {
		if m.ID == t.Model {
			t.context = m.Context
		}
	}
	if t.Vocab == 0 {
		var info struct {
			Vocab int `json:"vocab_size"`
		}
		if err := t.get(ctx, "/tokenizer_info", &info); err != nil || info.Vocab < 2 {
			return fmt.Errorf("load: %s does not say the size of its vocabulary: give --vocab", t.URL)
		}
		t.Vocab = info.Vocab
	}
	return nil
}

func (t *Target) get(ctx context.Context, path string, into any) error {
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, t.URL+path, nil)
	if err != nil {
		return fmt.Errorf("load: %w", err)
	}
	t.authorise(q)
	r, err := http.DefaultClient.Do(q)
	if err != nil {
		return fmt.Errorf("load: %w", err)
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusOK {
		return fmt.Errorf("load: %s%s answers %s", t.URL, path, r.Status)
	}
	if err := json.NewDecoder(io.LimitReader(r.Body, 1<<20)).Decode(into); err != nil {
		return fmt.Errorf("load: %s%s: %w", t.URL, path, err)
	}
	return nil
}

func (t *Target) authorise(q *http.Request) {
	if t.Key != "" {
		q.Header.Set("Authorization", "Bearer "+t.Key)
	}
}

// An outcome is the result of one request.
type outcome struct {
	due, first, last time.Time
	// times between the events that brought text, which come at first, first + gaps[0] and so on
	gaps           []time.Duration
	prompt, tokens int
	err            error
}

// errRefused is the answer 429: the server's queue is full.
var errRefused = errors.New("refused")

// complete sends one request and reads its stream.
func (t *Target) complete(ctx context.Context, client *http.Client, prompt []int32,
	tokens int, due time.Time) (o outcome) {
	o = outcome{due: due, prompt: len(prompt)}
	body, _ := json.Marshal(map[string]any{ // numbers and strings always can be written
		"model": t.Model, "prompt": prompt, "max_tokens": tokens, "temperature": 0, "ignore_eos": true, "stream": true,
		"stream_options": map[string]bool{"include_usage": true},
	})
	q, err := http.NewRequestWithContext(ctx, http.MethodPost, t.URL+"/v1/completions", bytes.NewReader(body))
	if err != nil {
		o.err = err
		return o
	}
	q.Header.Set("Content-Type", "application/json")
	t.authorise(q)
	r, err := client.Do(q)
	if err != nil {
		o.err = err
		return o
	}
	defer r.Body.Close()
	switch {
	case r.StatusCode == http.StatusTooManyRequests:
		o.err = errRefused
	case r.StatusCode != http.StatusOK:
		text, _ := io.ReadAll(io.LimitReader(r.Body, 300))
		o.err = fmt.Errorf("%s: %s", r.Status, bytes.TrimSpace(text))
	default:
		o.err = o.read(r.Body)
	}
	return o
}

// read takes the events of a stream as they come.
func (o *outcome) read(body io.Reader) error {
	lines := bufio.NewReaderSize(body, 64<<10)
	events := 0
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return fmt.Errorf("the stream ends without [DONE]: %w", err)
		}
		text, ok := strings.CutPrefix(strings.TrimSpace(line), "data: ")
		if !ok {
			continue
		}
		if text == "[DONE]" {
			if o.tokens == 0 {
				o.tokens = events // the server sends no usage: one token is counted for each event
			}
			if events == 0 {
				return errors.New("the stream brought no text")
			}
			return nil
		}
		var e struct {
			Choices []struct{ Text string }
			Usage   *struct {
				New int `json:"completion_tokens"`
			}
			Error *struct{ Message string }
		}
		if err := json.Unmarshal([]byte(text), &e); err != nil {
			return fmt.Errorf("an event is no JSON: %w", err)
		}
		now := time.Now()
		if e.Error != nil {
			return errors.New(e.Error.Message)
		}
		if e.Usage != nil {
			o.tokens = e.Usage.New
		}
		if len(e.Choices) == 0 {
			continue
		}
		if events++; events == 1 {
			o.first = now
		} else {
			o.gaps = append(o.gaps, now.Sub(o.last))
		}
		o.last = now
	}
}
