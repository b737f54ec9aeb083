package serve

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"headroom/decode"
)

// A Config says how to serve. Zero values stand for the defaults, which are given below.
type Config struct {
	Name      string           // of the model
	Tokenizer Tokenizer        // nil: token ids stand for text
	Ends      []int32          // the tokens that end a text
	Begin     []int32          // what a text begins with
	Specials  map[string]int32 // special tokens by their text
	Chat      *Template        // nil: no chat
	Keys      []string         // clients must send one of them; where there are none, nobody needs one
	Rows      int              // most sequences in a pass; 64
	Queue     int              // most sequences that wait; 1024
	Sequences int              // most sequences of one request: prompts times n; 256
	Requests  int              // most HTTP requests at once; 1024
	Body      int64            // most bytes of a request; 4 MiB
	Timeout   time.Duration    // of a request; 10 minutes
	Stall     time.Duration    // longest that a client may take to send its request, or may stop reading; 30 s
	Drain     time.Duration    // longest that running requests get when the server stops; 30 s
}

func (c Config) resolve() Config {
	if c.Tokenizer == nil {
		c.Tokenizer, c.Ends, c.Begin, c.Specials = Numbers{}, nil, nil, nil
	}
	c.Rows, c.Queue, c.Sequences, c.Requests = cmp.Or(c.Rows, 64), cmp.Or(c.Queue, 1024), cmp.Or(c.Sequences, 256),
		cmp.Or(c.Requests, 1024)
	c.Queue = max(c.Queue, c.Sequences) // otherwise the largest request could never be queued
	c.Body, c.Timeout = cmp.Or(c.Body, 4<<20), cmp.Or(c.Timeout, 10*time.Minute)
	c.Stall, c.Drain = cmp.Or(c.Stall, 30*time.Second), cmp.Or(c.Drain, 30*time.Second)
	return c
}

// A Server serves one model.
type Server struct {
	config         Config
	engine         *decode.Engine // the server itself calls only Check, the scheduler the rest
	scheduler      *scheduler
	metrics        *metrics
	words          words
	context, vocab int
	memory         decode.Memory
	started        time.Time
	inFlight       atomic.Int64
	draining       atomic.Bool
}

// New makes a server of a model over an engine, which nobody else may use from now on.
func New(m *decode.Model, e *decode.Engine, memory decode.Memory, c Config) *Server {
	c = c.resolve()
	s := &Server{
		config: c, engine: e, metrics: newMetrics(), words: newWords(c),
		context: m.Config.Context, vocab: m.Config.Vocab, memory: memory, started: time.Now(),
	}
	s.scheduler = newScheduler(e, c.Rows, c.Queue, s.metrics)
	s.metrics.watch(s.scheduler)
	return s
}

// Serve answers on a listener, which it closes, until ctx is done. Then it accepts no new requests, and those that run
// get Config.Drain to end. With a certificate and a key file it speaks TLS.
func (s *Server) Serve(ctx context.Context, l net.Listener, certificate, key string) error {
	h := &http.Server{
		Handler: s.Handler(), ReadHeaderTimeout: s.config.Stall, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		ErrorLog: slog.NewLogLogger(slog.Default().Handler(), slog.LevelDebug),
	}
	running, stop := context.WithCancel(context.Background())
	defer stop()
	broken := make(chan error, 1)
	go func() { broken <- s.scheduler.run(running) }()
	served := make(chan error, 1)
	go func() {
		if certificate != "" {
			served <- h.ServeTLS(l, certificate, key)
			return
		}
		served <- h.Serve(l)
	}()
	var err error
	select {
	case err = <-served:
		stop()
		return errors.Join(fmt.Errorf("serve: %w", err), <-broken)
	case err = <-broken:
		h.Close()
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	slog.Info("draining", "in_flight", s.inFlight.Load())
	s.draining.Store(true)
	s.scheduler.refuse(errDraining)
	limit, cancel := context.WithTimeout(context.Background(), s.config.Drain)
	defer cancel()
	if err := h.Shutdown(limit); err != nil {
		slog.Warn("requests are cut off", "in_flight", s.inFlight.Load(), "after", s.config.Drain)
		h.Close()
	}
	stop()
	return <-broken
}

// Handler answers all paths of the server.
func (s *Server) Handler() http.Handler {
	mux, methods := http.NewServeMux(), map[string][]string{} // by path
	open := func(pattern string, f http.HandlerFunc) {
		mux.Handle(pattern, s.metrics.counted(pattern, f))
		if method, path, ok := strings.Cut(pattern, " "); ok {
			methods[path] = append(methods[path], method)
		}
	}
	guarded := func(pattern string, f http.HandlerFunc) { open(pattern, s.guard(f)) }
	guarded("POST /v1/completions", s.completions)
	guarded("POST /v1/chat/completions", s.chat)
	guarded("GET /v1/models", s.models)
	guarded("GET /v1/models/{name}", s.oneModel)
	guarded("POST /tokenize", s.tokenize)
	guarded("POST /detokenize", s.detokenize)
	guarded("GET /tokenizer_info", s.tokenizerInfo)
	guarded("GET /status", s.status)
	guarded("GET /metrics", s.metrics.handler().ServeHTTP)
	open("GET /healthz", s.health)
	open("GET /{$}", s.page)
	open("GET /page/{file}", s.page)
	open("/", func(w http.ResponseWriter, r *http.Request) {
		s.refuse(w, &refusal{status: http.StatusNotFound, reason: fmt.Sprintf("there is nothing at %.200q", r.URL.Path)})
	})
	for path, known := range methods {
		open(path, s.otherMethods(known))
	}
	return http.NewCrossOriginProtection().Handler(mux)
}

// otherMethods answers 405 where a path exists for other methods only.
func (s *Server) otherMethods(known []string) http.HandlerFunc {
	if slices.Contains(known, http.MethodGet) {
		known = append(known, http.MethodHead) // the mux accepts HEAD with GET
	}
	allow := strings.Join(known, ", ")
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Allow", allow)
		s.refuse(w, &refusal{status: http.StatusMethodNotAllowed, reason: fmt.Sprintf("%.200q takes %s, not %.40s",
			r.URL.Path, allow, r.Method)})
	}
}

// read reads and parses the body of a request, within its time.
func (s *Server) read(w http.ResponseWriter, r *http.Request, parse func(io.Reader) (*order, error)) (*order, error) {
	control := http.NewResponseController(w)
	if err := control.SetReadDeadline(time.Now().Add(s.config.Stall)); err != nil {
		return nil, err
	}
	// the whole body is read before it is parsed, since the HTTP server notices that a client has left only behind it
	var body bytes.Buffer
	if _, err := body.ReadFrom(http.MaxBytesReader(w, r.Body, s.config.Body)); err != nil {
		var long *http.MaxBytesError
		if errors.As(err, &long) {
			return nil, tooLong(long)
		}
		return nil, bad("", "the body did not come whole within %v", s.config.Stall)
	}
	if err := control.SetReadDeadline(time.Time{}); err != nil {
		return nil, err
	}
	return parse(&body)
}

// refuse sends an error.
func (s *Server) refuse(w http.ResponseWriter, err error) {
	f := failure(err)
	if f.status == http.StatusTooManyRequests || f.status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", strconv.Itoa(s.retryAfter()))
	}
	s.writeJSON(w, f.status, f)
}

// retryAfter estimates in how many seconds the queue will have room.
func (s *Server) retryAfter() int {
	state := s.scheduler.state.Load()
	return min(60, 1+state.Queued/max(1, s.config.Rows))
}

// The body of the answer to a failed request.
type failed struct {
	Error struct {
		Message string  `json:"message"`
		Type    string  `json:"type"`
		Param   *string `json:"param"`
		Code    *string `json:"code"` // for programs that need to know more than the status
	} `json:"error"`
	status int
}

// failure is an error as clients see it.
func failure(err error) (f failed) {
	var r *refusal
	f.Error.Message, f.Error.Type = err.Error(), "server_error"
	code := ""
	switch {
	case errors.As(err, &r):
		f.status, f.Error.Type, code = r.status, "invalid_request_error", r.code
		if r.param != "" {
			f.Error.Param = &r.param
		}
	case errors.Is(err, errBusy):
		f.status, f.Error.Type, code = http.StatusTooManyRequests, "rate_limit_error", "rate_limit_exceeded"
	case errors.Is(err, errDraining):
		f.status = http.StatusServiceUnavailable
	case errors.Is(err, errTime):
		f.status = http.StatusGatewayTimeout
	case errors.Is(err, context.Canceled):
		f.status = 499 // the client has left, so only the counters see this status
	default:
		f.status = http.StatusInternalServerError
	}
	if code != "" {
		f.Error.Code = &code
	}
	return f
}

// newEncoder writes JSON without escapes for HTML: < stays <.
func newEncoder(w io.Writer) *json.Encoder {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e
}

// writeJSON answers with a value in one line.
func (s *Server) writeJSON(w http.ResponseWriter, status int, v any) {
	var text bytes.Buffer
	if err := newEncoder(&text).Encode(v); err != nil {
		slog.Error("serve", "err", err)
		status = http.StatusInternalServerError
		text.Reset()
		text.WriteString(`{"error":{"message":"the answer is no JSON","type":"server_error"}}` + "\n")
	}
	// a test's recorder has no deadlines, and needs none
	http.NewResponseController(w).SetWriteDeadline(time.Now().Add(s.config.Stall))
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(text.Bytes()) // an error means that the client has left
}
