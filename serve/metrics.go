package serve

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"headroom/decode"
)

// metrics are what /metrics shows, in a registry of their own.
type metrics struct {
	registry              *prometheus.Registry
	requests              *prometheus.CounterVec // by path and status
	ended                 *prometheus.CounterVec // sequences, by reason
	first, gap, whole     prometheus.Histogram   // seconds
	wait, pass            prometheus.Histogram
	promptTokens, newOnes prometheus.Histogram
}

func newMetrics() *metrics {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		h := prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: "headroom", Name: name,
			Help: help, Buckets: buckets})
		registry.MustRegister(h)
		return h
	}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "headroom", Name: name, Help: help}, labels)
		registry.MustRegister(c)
		return c
	}
	seconds := prometheus.ExponentialBuckets(0.0005, 2, 20)
	return &metrics{
		registry:     registry,
		requests:     counter("http_requests_total", "HTTP requests by path and status.", "path", "status"),
		ended:        counter("sequences_total", "Sequences that ended, by reason.", "reason"),
		first:        histogram("time_to_first_token_seconds", "From the arrival of a sequence to its first token.", seconds),
		gap:          histogram("inter_token_seconds", "From token to token of a sequence.", seconds),
		whole:        histogram("sequence_seconds", "From the arrival of a sequence to its end.", seconds),
		wait:         histogram("queue_seconds", "From the arrival of a sequence to its place in the engine.", seconds),
		pass:         histogram("pass_seconds", "Passes of the model.", seconds),
		promptTokens: histogram("prompt_tokens", "Tokens of the prompts.", prometheus.ExponentialBuckets(1, 4, 10)),
		newOnes:      histogram("new_tokens", "Tokens that came, by sequence.", prometheus.ExponentialBuckets(1, 4, 10)),
	}
}

// watch adds gauges of the load of a scheduler's engine.
func (m *metrics) watch(s *scheduler) {
	gauge := func(name, help string, value func(*state) int) {
		m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "headroom", Name: name, Help: help},
			func() float64 { return float64(value(s.state.Load())) }))
	}
	counter := func(name, help string, value func(*state) int) {
		m.registry.MustRegister(prometheus.NewCounterFunc(
			prometheus.CounterOpts{Namespace: "headroom", Name: name, Help: help},
			func() float64 { return float64(value(s.state.Load())) }))
	}
	gauge("running", "Sequences in the engine's passes.", func(s *state) int { return s.Running })
	gauge("queued", "Sequences that wait.", func(s *state) int { return s.Queued + s.Waiting })
	gauge("cache_pages", "Pages of the cache.", func(s *state) int { return s.Pages })
	gauge("cache_pages_used", "Pages that sequences have.", func(s *state) int { return s.Used })
	gauge("cache_pages_kept", "Pages that nobody has, kept for prompts that begin with the same tokens.",
		func(s *state) int { return s.Kept })
	counter("passes_total", "Passes of the model.", func(s *state) int { return s.Passes })
	counter("prompt_tokens_total", "Tokens of prompts that were taken in.", func(s *state) int { return s.Prompt })
	counter("shared_tokens_total", "Tokens of prompts whose cache was there already.",
		func(s *state) int { return s.Shared })
	counter("tokens_total", "Tokens that came.", func(s *state) int { return s.Tokens })
}

// came counts the tokens that were delivered to a job, and their times.
func (m *metrics) came(j *job, tokens int, reason decode.Reason, now time.Time) {
	switch {
	case tokens == 0:
	case j.last.IsZero():
		m.first.Observe(now.Sub(j.arrived).Seconds())
	default:
		for range tokens {
			m.gap.Observe(now.Sub(j.last).Seconds() / float64(tokens))
		}
	}
	if reason == decode.Running {
		return
	}
	m.ended.WithLabelValues(string(reason)).Inc()
	m.whole.Observe(now.Sub(j.arrived).Seconds())
	m.promptTokens.Observe(float64(len(j.request.Prompt)))
	m.newOnes.Observe(float64(len(j.sequence.Output())))
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// counted counts the requests of a path by their status.
func (m *metrics) counted(path string, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := &statusWriter{ResponseWriter: w, status: http.StatusOK}
		defer func() { m.requests.WithLabelValues(path, strconv.Itoa(c.status)).Inc() }()
		h.ServeHTTP(c, r)
	})
}

// A statusWriter remembers the status.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
