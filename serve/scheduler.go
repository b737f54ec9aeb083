package serve

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"headroom/decode"
)

// A job is one sequence on its way from a handler through the engine and back.
type job struct {
	ctx     context.Context
	client  string
	request decode.Request
	ready   chan<- struct{} // a handler may have several jobs that share it; never blocks

	arrived, last time.Time // the last time that something came
	sequence      *decode.Sequence
	told          int // tokens of the sequence's output that were delivered
	toldScores    int

	mu   sync.Mutex
	mail mail
}

// mail is the text, tokens and scores that have come for a job since its handler last took them.
type mail struct {
	text   string
	tokens []int32
	scores []decode.Score
	shared int // tokens of the prompt whose cache another request had left
	reason decode.Reason
	err    error
}

// collect empties the mailbox.
func (j *job) collect() mail {
	j.mu.Lock()
	defer j.mu.Unlock()
	m := j.mail
	j.mail = mail{}
	return m
}

// fail ends a job with an error.
func (j *job) fail(err error) {
	j.mu.Lock()
	j.mail.err = err
	j.mu.Unlock()
	j.signal()
}

func (j *job) signal() {
	select {
	case j.ready <- struct{}{}:
	default:
	}
}

// The errors with which a job is refused or fails.
var (
	errBusy     = errors.New("the queue is full")
	errDraining = errors.New("the server is shutting down")
	errBroken   = errors.New("the device failed")
)

// A scheduler owns an engine. Its loop runs in one goroutine; push and leave may be called from any goroutine.
type scheduler struct {
	engine  *decode.Engine
	rows    int // most sequences in the engine
	most    int // most sequences that wait
	metrics *metrics
	wake    chan struct{}
	left    atomic.Bool // a client has left since the queue was last looked through
	state   atomic.Pointer[state]

	mu      sync.Mutex
	queue   queue
	refusal error

	active []*job    // used by the loop alone
	landed time.Time // when the last pass ended
}

// A state is the part of the engine's state that /status and /metrics show.
type state struct {
	decode.Usage
	decode.Counts
	Queued int `json:"queued"`
}

func newScheduler(e *decode.Engine, rows, most int, m *metrics) *scheduler {
	s := &scheduler{engine: e, rows: rows, most: most, metrics: m, wake: make(chan struct{}, 1)}
	s.publish()
	return s
}

// push queues all jobs of a request, or none of them.
func (s *scheduler) push(jobs []*job) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.refusal != nil:
		return s.refusal
	case s.queue.waiting+len(jobs) > s.most:
		return errBusy
	}
	for _, j := range jobs {
		s.queue.push(j)
	}
	s.nudge()
	return nil
}

// leave tells the loop that the context of some jobs is done.
func (s *scheduler) leave() {
	s.left.Store(true)
	s.nudge()
}

func (s *scheduler) nudge() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// refuse makes push return an error from now on.
func (s *scheduler) refuse(why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refusal == nil {
		s.refusal = why
	}
}

// run steps the engine while there is work, until ctx is done. Only a device that fails ends it with an error.
func (s *scheduler) run(ctx context.Context) error {
	for ctx.Err() == nil {
		s.admit()
		s.publish()
		if len(s.active) == 0 {
			select {
			case <-s.wake:
			case <-ctx.Done():
			}
			continue
		}
		if err := s.step(); err != nil {
			return err
		}
	}
	s.end(errDraining)
	return nil
}

// step runs a pass and delivers its tokens: beside the next pass where the device computes by itself, and at once where
// passes are computed on this processor.
func (s *scheduler) step() error {
	start := time.Now()
	err := s.engine.Start()
	overlaps := s.engine.Overlaps()
	if overlaps && err == nil {
		s.deliver()
	}
	if err == nil {
		err = s.engine.Land()
	}
	if err != nil {
		s.end(errBroken)
		return err
	}
	s.metrics.pass.Observe(time.Since(start).Seconds())
	if s.landed = time.Now(); !overlaps {
		s.deliver()
	}
	return nil
}

// deliver posts new tokens to all jobs, and removes the jobs that have ended.
func (s *scheduler) deliver() {
	still := s.active[:0]
	for _, j := range s.active {
		if j.ctx.Err() != nil {
			s.engine.Cancel(j.sequence)
		}
		if s.post(j); j.sequence.Reason == decode.Running {
			still = append(still, j)
		}
	}
	clear(s.active[len(still):])
	s.active = still
}

// admit gives the engine as many jobs as it has rows, each from the client that was served least. One job may wait
// inside the engine for pages, so that smaller jobs do not take them before a large one for ever.
func (s *scheduler) admit() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.left.Swap(false) {
		s.queue.drop(func(j *job) bool { return j.ctx.Err() != nil })
	}
	for {
		u := s.engine.Usage()
		if u.Waiting > 0 || u.Running >= s.rows {
			return
		}
		j := s.queue.pop()
		if j == nil {
			return
		}
		var err error
		if j.sequence, err = s.engine.Submit(j.request); err != nil {
			s.queue.done(j)
			j.fail(err)
			continue
		}
		s.engine.Admit()
		s.active = append(s.active, j)
		s.metrics.wait.Observe(time.Since(j.arrived).Seconds())
	}
}

// post puts new text of a job into its mailbox, with the tokens that it comes from: only text that no later token can
// change. A stop string and its tokens are left out.
func (s *scheduler) post(j *job) {
	q, now := j.sequence, s.landed
	text, output := q.Take(), q.Output()
	tokens := output[j.told:q.Taken()]
	if len(tokens) == 0 && q.Reason == decode.Running {
		return
	}
	scored := len(q.Scores)
	if q.Score {
		scored -= len(output) - q.Taken()
	}
	j.mu.Lock()
	m := &j.mail
	m.text += text
	m.tokens = append(m.tokens, tokens...)
	m.scores = append(m.scores, q.Scores[j.toldScores:scored]...)
	m.shared, m.reason = q.Shared, q.Reason
	j.mu.Unlock()
	s.metrics.came(j, len(tokens), q.Reason, now)
	j.told, j.toldScores, j.last = j.told+len(tokens), scored, now
	j.signal()
	s.mu.Lock()
	s.queue.charge(j, len(tokens))
	if q.Reason != decode.Running {
		s.queue.done(j)
	}
	s.mu.Unlock()
}

// end fails all jobs that wait or run.
func (s *scheduler) end(why error) {
	s.refuse(why)
	for _, j := range s.active {
		s.engine.Cancel(j.sequence)
		j.fail(why)
	}
	s.active = nil
	s.mu.Lock()
	s.queue.drop(func(j *job) bool { j.fail(why); return true })
	s.mu.Unlock()
	s.publish()
}

func (s *scheduler) publish() {
	s.mu.Lock()
	waiting := s.queue.waiting
	s.mu.Unlock()
	s.state.Store(&state{s.engine.Usage(), s.engine.Counts, waiting})
}
