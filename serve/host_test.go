package serve

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"headroom/decode"
)

// An idealDevice takes a given time for each pass, works while others do, as a GPU does, and computes nothing: what is
// left of a server's time is this machine's.
type idealDevice struct {
	pass  time.Duration // of a pass, and
	token time.Duration // of each of its tokens
	draws rand.PCG
	alone bool   // it works only while it is asked to, as a CPU does
	look  func() // at the beginning of a pass

	ends  []time.Time // of the passes whose tokens were not asked for
	drawn [][]int32

	// when the tokens of the last pass were asked for and there; zero where another pass was on its way
	woken  time.Time
	host   time.Duration // from there to the start of the next pass: the device waits for this machine
	passes int
	tables int            // rows whose list of pages is another than in the pass before
	held   map[int]*int32 // by row
}

func (d *idealDevice) Pass(b decode.Batch) error {
	if d.look != nil {
		d.look()
	}
	now := time.Now()
	if !d.woken.IsZero() {
		d.host += now.Sub(d.woken)
		d.woken = time.Time{}
	}
	if n := len(d.ends); n > 0 && d.ends[n-1].After(now) {
		now = d.ends[n-1]
	}
	d.ends = append(d.ends, now.Add(d.pass+time.Duration(len(b.Tokens))*d.token))
	d.passes++
	for i, r := range b.Rows {
		if d.held[i] != &r.Pages[0] {
			d.held[i] = &r.Pages[0]
			d.tables++
		}
	}
	tokens := make([]int32, len(b.Score))
	for i := range tokens {
		tokens[i] = int32(d.draws.Uint64() % (testVocab - 1))
	}
	d.drawn = append(d.drawn, tokens)
	return nil
}

func (d *idealDevice) Tokens() ([]int32, error) {
	time.Sleep(time.Until(d.ends[0]))
	tokens := d.drawn[0]
	if d.ends, d.drawn = d.ends[1:], d.drawn[1:]; len(d.ends) == 0 {
		d.woken = time.Now()
	}
	return tokens, nil
}

func (d *idealDevice) Ahead(decode.Sampling) bool      { return !d.alone }
func (d *idealDevice) Scores(i int) ([]float32, error) { return nil, fmt.Errorf("no scores") }
func (d *idealDevice) CacheBytes() int64               { return 0 }
func (d *idealDevice) Noise(uint64) error              { return nil }
func (d *idealDevice) Close() error                    { return nil }

// TestDeliversBesideTheNextPass: where the device works on its own, the next pass is on its way before the tokens of
// the one before are handed out; where it does not, they would come a pass late.
func TestDeliversBesideTheNextPass(t *testing.T) {
	for _, alone := range []bool{false, true} {
		m := tiny(t, "mha")
		d := &idealDevice{alone: alone, held: map[int]*int32{}}
		e, err := decode.NewEngine(m, d, decode.Options{Pages: 8, Rows: 2, Vocabulary: letters{}})
		if err != nil {
			t.Fatal(err)
		}
		s := newScheduler(e, 2, 9, newMetrics())
		d.look = func() {
			for _, j := range s.active {
				came := len(j.sequence.Output())
				if want := max(0, came-1); alone && j.told != came || !alone && j.told != want {
					t.Errorf("works alone %v: %d of %d tokens were handed out when the next pass started", alone, j.told, came)
				}
			}
		}
		jobs := []*job{}
		for range 3 {
			jobs = append(jobs, &job{ctx: t.Context(), ready: make(chan struct{}, 1), arrived: time.Now(),
				// which no pass is started ahead of
				request: decode.Request{Prompt: []int32{1, 2}, MaxTokens: 6, Sampling: decode.Sampling{Repetition: 1.5}}})
		}
		if err := s.push(jobs); err != nil {
			t.Fatal(err)
		}
		for s.admit(); len(s.active) > 0; s.admit() {
			if err := s.step(); err != nil {
				t.Fatal(err)
			}
		}
		for i, j := range jobs {
			if m := j.collect(); len(m.tokens) != 6 || m.reason != decode.Full || len(m.text) != 6 {
				t.Errorf("job %d got %+v", i, m)
			}
		}
	}
}

// BenchmarkHost is what the host takes of a server's time: so many clients stream answers of 64 to 128 tokens after
// prompts of 16 from a device that computes nothing. CPU time is that of server and clients, which only read.
func BenchmarkHost(b *testing.B) {
	for _, pass := range []time.Duration{5 * time.Millisecond} {
		for _, clients := range []int{16, 64, 128, 256} {
			b.Run(fmt.Sprintf("pass=%v/clients=%d", pass, clients), func(b *testing.B) { benchmarkHost(b, clients, pass) })
		}
	}
}

func benchmarkHost(b *testing.B, clients int, pass time.Duration) {
	d := &idealDevice{pass: pass, held: map[int]*int32{}}
	o := decode.Options{Rows: clients, Chunk: 2048, Scored: 256, Pages: 8 * clients, Vocabulary: letters{}}
	m := tiny(b, "mha")
	m.Config.Context = 512
	e, err := decode.NewEngine(m, d, o)
	if err != nil {
		b.Fatal(err)
	}
	url, stop := serveIdeal(b, m, e, clients)
	defer stop()
	var left, tokens atomic.Int64
	left.Store(int64(b.N))
	before, began := cpuTime(), time.Now()
	var wg sync.WaitGroup
	for c := range clients {
		wg.Go(func() {
			client := &http.Client{Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			r := rand.New(rand.NewPCG(uint64(c), 0))
			for left.Load() > 0 {
				n := 64 + r.IntN(65)
				prompt := make([]int32, 16)
				for i := range prompt {
					prompt[i] = r.Int32N(testVocab)
				}
				body, _ := json.Marshal(object{"prompt": prompt, "max_tokens": n, "temperature": 0,
					"ignore_eos": true, "stream": true})
				a, err := client.Post(url+"/v1/completions", "application/json", bytes.NewReader(body))
				if err != nil {
					b.Error(err)
					return
				}
				lines := bufio.NewScanner(a.Body)
				for lines.Scan() {
					if len(lines.Bytes()) > 20 {
						left.Add(-1)
						tokens.Add(1)
					}
				}
				a.Body.Close()
			}
		})
	}
	wg.Wait()
	took := time.Since(began)
	b.ReportMetric(float64(tokens.Load())/took.Seconds(), "tokens/s")
	b.ReportMetric(float64((cpuTime()-before).Nanoseconds())/float64(tokens.Load()), "cpu-ns/token")
	b.ReportMetric(float64(d.host.Microseconds())/float64(d.passes), "host-µs/pass")
	b.ReportMetric(float64(d.tables)/float64(d.passes), "tables/pass")
	b.ReportMetric(0, "ns/op")
}

// serveIdeal serves an engine until it is stopped.
func serveIdeal(t testing.TB, m *decode.Model, e *decode.Engine, rows int) (url string, stop func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := New(m, e, decode.Memory{}, Config{Name: "ideal", Tokenizer: letters{}, Rows: rows})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, l, "", "") }()
	return "http://" + l.Addr().String(), func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

// cpuTime is what this process has had of the processors.
func cpuTime() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
