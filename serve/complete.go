package serve

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"math"
	"net/http"
	"time"

	"headroom/decode"
)

// completions answers /v1/completions.
func (s *Server) completions(w http.ResponseWriter, r *http.Request) {
	o, err := s.read(w, r, s.parseCompletion)
	if err != nil {
		s.refuse(w, err)
		return
	}
	s.complete(w, r, o)
}

// An errand carries out an order: it has a job and a writer for each sequence, in the order of their indices.
type errand struct {
	order   *order
	jobs    []*job
	queued  []*job // the jobs that need the engine
	writers []*writer
	ready   chan struct{}
	answer  completion
	usage   usage
}

// complete carries out an order and sends its answer.
func (s *Server) complete(w http.ResponseWriter, r *http.Request, o *order) {
	ctx, cancel := context.WithTimeoutCause(r.Context(), s.config.Timeout, errTime)
	defer cancel()
	defer context.AfterFunc(ctx, s.scheduler.leave)()
	e := s.errand(ctx, o, clientOf(r))
	if err := s.scheduler.push(e.queued); err != nil {
		s.refuse(w, err)
		return
	}
	defer cancel() // cancels sequences that still run when nobody will read them
	if o.stream {
		s.stream(ctx, w, e)
		return
	}
	choices := make([]choice, len(e.jobs))
	all := make([]mail, len(e.jobs))
	err := e.wait(ctx, func(i int, m mail) error {
		x := &all[i]
		x.text, x.shared, x.reason = x.text+m.text, m.shared, m.reason
		x.tokens, x.scores = append(x.tokens, m.tokens...), append(x.scores, m.scores...)
		if m.reason != decode.Running {
			choices[i] = e.part(i, *x)
		}
		return nil
	})
	if err != nil {
		s.refuse(w, err)
		return
	}
	e.answer.Choices, e.answer.Usage = choices, &e.usage
	s.writeJSON(w, http.StatusOK, e.answer)
}

// The errors with which an order fails while it is carried out.
var (
	errTime   = errors.New("the request took longer than the server allows")
	errFinite = errors.New("the model's probabilities are no numbers")
)

func (s *Server) errand(ctx context.Context, o *order, client string) *errand {
	object, prefix := "text_completion", "cmpl-"
	if o.chat {
		object, prefix = "chat.completion", "chatcmpl-"
	}
	e := &errand{order: o, ready: make(chan struct{}, 1)}
	e.answer = completion{ID: prefix + newID(), Object: object, Created: time.Now().Unix(), Model: s.config.Name}
	for _, prompt := range o.prompts {
		text := ""
		if o.echo {
			text = string(s.words.text(prompt[o.begun:]))
		}
		for n := range o.n {
			q := o.sequence
			q.Prompt = prompt
			q.Seed += uint64(n)
			j := &job{ctx: ctx, client: client, request: q, ready: e.ready, arrived: time.Now()}
			if q.MaxTokens > 0 || q.Score {
				e.queued = append(e.queued, j)
			} else { // the echo of a text
				j.mail.reason = decode.Full
				j.signal()
			}
			e.jobs = append(e.jobs, j)
			e.writers = append(e.writers, &writer{words: s.words, order: o, prompt: prompt, text: text, index: len(e.jobs) - 1})
		}
	}
	return e
}

func newID() string {
	var b [12]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// part renders what a mail adds to an answer, and counts its tokens.
func (e *errand) part(i int, m mail) choice {
	c := e.writers[i].part(m)
	if m.reason != decode.Running {
		prompt := len(e.jobs[i].request.Prompt)
		if i%e.order.n > 0 {
			prompt = 0 // the prompt is counted once
		}
		e.usage.add(prompt, e.writers[i].tokens, m.shared)
	}
	return c
}

// wait gives the mail of all jobs to take as it comes, until the last job has ended.
func (e *errand) wait(ctx context.Context, take func(i int, m mail) error) error {
	open := len(e.jobs)
	ended := make([]bool, open)
	for open > 0 {
		select {
		case <-e.ready:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		for i, j := range e.jobs {
			if ended[i] {
				continue
			}
			m := j.collect()
			switch {
			case m.err != nil:
				return m.err
			case m.reason == decode.Cancelled:
				return context.Cause(ctx)
			case m.reason == decode.Running && len(m.tokens) == 0:
				continue
			}
			for _, score := range m.scores {
				if p := float64(score.LogProb); math.IsNaN(p) || math.IsInf(p, 0) {
					return errFinite
				}
			}
			if err := take(i, m); err != nil {
				return err
			}
			if m.reason != decode.Running {
				ended[i], open = true, open-1
			}
		}
	}
	return nil
}

// stream sends what comes as events. A client that does not read for too long is cut off.
func (s *Server) stream(ctx context.Context, w http.ResponseWriter, e *errand) {
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // for a proxy before us
	control := http.NewResponseController(w)
	if e.order.chat {
		e.answer.Object = "chat.completion.chunk"
	}
	var event bytes.Buffer // one for all events
	encoder := newEncoder(&event)
	write := func() error {
		if err := control.SetWriteDeadline(time.Now().Add(s.config.Stall)); err != nil {
			return err
		}
		if _, err := w.Write(event.Bytes()); err != nil {
			return err
		}
		return control.Flush()
	}
	send := func(v any) error {
		event.Reset()
		event.WriteString("data: ")
		if err := encoder.Encode(v); err != nil { // ends the line
			return err
		}
		event.WriteByte('\n')
		return write()
	}
	err := e.wait(ctx, func(i int, m mail) error {
		if o := e.writers[i]; e.order.chat && !o.begun {
			e.answer.Choices = []choice{o.opening()}
			if err := send(e.answer); err != nil {
				return err
			}
		}
		e.answer.Choices = []choice{e.part(i, m)}
		return send(e.answer)
	})
	switch {
	case err != nil && ctx.Err() != nil && context.Cause(ctx) != errTime:
		return // nobody listens
	case err != nil:
		send(failure(err)) // if it cannot be said, the connection is gone
		return
	}
	if e.order.usage {
		e.answer.Choices, e.answer.Usage = []choice{}, &e.usage
		if send(e.answer) != nil {
			return
		}
	}
	event.Reset()
	event.WriteString("data: [DONE]\n\n")
	write() // if it cannot be said, the connection is gone
}
