package serve

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestBadRequests(t *testing.T) {
	s := start(t, tiny(t, "gqa-2"), Config{Body: 10000, Sequences: 8})
	long := strings.Repeat("a", testContext)
	for _, c := range []struct{ body, param, want string }{
		{``, "", "the body is empty"},
		{`{`, "", "ends in the middle"},
		{`[]`, "body", "body must be an object"},
		{`{"prompt":"a"} {}`, "", "more than one JSON value"},
		{`{}`, "prompt", "prompt is missing"},
		{`{"prompt":null}`, "prompt", "prompt is missing"},
		{`{"prompt":"","add_special_tokens":false}`, "prompt", "the prompt is empty"},
		{`{"prompt":[]}`, "prompt", "an empty list"},
		{`{"prompt":[[]]}`, "prompt", "the prompt is empty"},
		{`{"prompt":[null]}`, "prompt", "prompt must be text"},
		{`{"prompt":[1.5]}`, "prompt", "prompt must be text"},
		{`{"prompt":[37]}`, "prompt", "token 37 at position 0 is none of the model's 37"},
		{`{"prompt":[-1]}`, "prompt", "token -1"},
		{`{"prompt":[99999999999]}`, "prompt", "prompt must be text"},
		{`{"prompt":{"a":1}}`, "prompt", "prompt must be text"},
		{`{"prompt":true}`, "prompt", "prompt must be text"},
		{`{"prompt":["a",[1]]}`, "prompt", "prompt must be text"},
		{`{"prompt":"` + long + `"}`, "prompt", "leaves no room"},
		{`{"prompt":"a","max_tokens":1000000000}`, "max_tokens", "max_tokens is 1000000000"},
		{`{"prompt":"a","max_tokens":1e30}`, "max_tokens", "max_tokens must be a whole number"},
		{`{"prompt":"a","max_tokens":-1}`, "max_tokens", "must not be negative"},
		{`{"prompt":"a","max_tokens":0}`, "max_tokens", "only with echo"},
		{`{"prompt":"a","n":0}`, "n", "n must be at least 1"},
		{`{"prompt":"a","n":9}`, "n", "more than the 8 sequences"},
		{`{"prompt":"a","n":9223372036854775807}`, "n", "more than the 8 sequences"},
		{`{"prompt":["a","b","c","a","b","c","a","b","c"]}`, "prompt", "more than the 8 sequences"},
		{`{"prompt":"a","temperature":-1}`, "temperature", "temperature"},
		{`{"prompt":"a","temperature":NaN}`, "", "no JSON"},
		{`{"prompt":"a","temperature":1e999}`, "temperature", "temperature must be a number within range"},
		{`{"prompt":"a","temperature":"hot"}`, "temperature", "temperature must be a number"},
		{`{"prompt":"a","top_p":1.1}`, "top_p", "top-p"},
		{`{"prompt":"a","top_k":-2}`, "top_k", "top-k"},
		{`{"prompt":"a","min_p":2}`, "min_p", "min-p"},
		{`{"prompt":"a","repetition_penalty":0}`, "repetition_penalty", "repetition"},
		{`{"prompt":"a","logprobs":21}`, "logprobs", "logprobs must be from 0 to 20"},
		{`{"prompt":"a","stop":5}`, "stop", "stop must be a string"},
		{`{"prompt":"a","stop":[null]}`, "stop", "stop must be a string"},
		{`{"prompt":"a","stop":["` + strings.Repeat("x", 257) + `"]}`, "stop", "at most 256 bytes"},
		{`{"prompt":"a","best_of":3}`, "best_of", "best_of is not supported"},
		{`{"prompt":"a","suffix":"b"}`, "suffix", "suffix is not supported"},
		{`{"prompt":"a","presence_penalty":1}`, "presence_penalty", "not supported"},
		{`{"prompt":"a","logit_bias":{"1":2}}`, "logit_bias", "logit_bias is not supported"},
		{`{"prompt":"a","x":` + strings.Repeat("[", 9000) + `}`, "", "no JSON"},
		{`{"prompt":"a","x":"` + strings.Repeat("x", 10000) + `"}`, "", "longer than 10000 bytes"},
		{`{"prompt":"a","model":"other"}`, "model", `there is no model "other"`},
	} {
		status, text := s.ask("/v1/completions", c.body)
		var f failed
		err := json.Unmarshal(text, &f)
		param := ""
		set(&param, f.Error.Param)
		if err != nil || status < 400 || status > 499 || !strings.Contains(f.Error.Message, c.want) || param != c.param {
			t.Errorf("%.80s: status %d, %s, want %q of %q", c.body, status, text, c.want, c.param)
		}
	}
	s.complete(object{"prompt": "a", "max_tokens": 3}) // it goes on
}

func TestNotHere(t *testing.T) {
	s := start(t, tiny(t, "mha"), Config{})
	for path, want := range map[string]int{"/nowhere": 404, "/page/../serve.go": 404, "/page/..%2fserve.go": 400,
		"/v1/models/other": 404} {
		r, err := http.Get(s.url + path)
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
		if r.StatusCode != want {
			t.Errorf("%s: status %d, want %d", path, r.StatusCode, want)
		}
	}
	for request, allow := range map[string]string{
		"GET /v1/completions": "POST", "DELETE /v1/chat/completions": "POST", "PUT /tokenize": "POST",
		"POST /v1/models": "GET, HEAD", "DELETE /v1/models/tiny": "GET, HEAD", "POST /": "GET, HEAD",
		"POST /page/page.js": "GET, HEAD",
	} {
		method, path, _ := strings.Cut(request, " ")
		q, _ := http.NewRequest(method, s.url+path, nil)
		r, err := http.DefaultClient.Do(q)
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
		if got := r.Header.Get("Allow"); r.StatusCode != http.StatusMethodNotAllowed || got != allow {
			t.Errorf("%s: status %d, Allow %q, want 405 and %q", request, r.StatusCode, got, allow)
		}
	}
	q, _ := http.NewRequest("POST", s.url+"/v1/completions", strings.NewReader(`{"prompt":"a"}`))
	q.Header.Set("Sec-Fetch-Site", "cross-site")
	r, err := http.DefaultClient.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	if r.Body.Close(); r.StatusCode != 403 {
		t.Errorf("a page from elsewhere: status %d", r.StatusCode)
	}
}

func TestFullQueue(t *testing.T) {
	s := start(t, tiny(t, "mha"), Config{Rows: 1, Queue: 4, Sequences: 4})
	var wg sync.WaitGroup
	var mu sync.Mutex
	count := map[int]int{}
	for range 30 {
		wg.Go(func() {
			status, _ := s.ask("/v1/completions", object{"prompt": "hello", "max_tokens": 80, "ignore_eos": true})
			mu.Lock()
			count[status]++
			mu.Unlock()
		})
	}
	wg.Wait()
	if count[200] == 0 || count[429] == 0 || count[200]+count[429] != 30 {
		t.Errorf("answers by status: %v", count)
	}
	s.idle()
}

// TestWhoLeavesFreesTheCache: a client that goes away in the middle of a stream.
func TestWhoLeavesFreesTheCache(t *testing.T) {
	s := start(t, tiny(t, "mha"), Config{})
	before := s.scheduler.state.Load().Tokens
	ctx, cancel := context.WithCancel(context.Background())
	q, _ := http.NewRequestWithContext(ctx, "POST", s.url+"/v1/completions",
		strings.NewReader(`{"prompt":["a","b","c","d"],"n":2,"max_tokens":95,"stream":true,"ignore_eos":true}`))
	r, err := http.DefaultClient.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	bufio.NewReader(r.Body).ReadString('\n')
	cancel()
	r.Body.Close()
	s.idle()
	if came := s.scheduler.state.Load().Tokens - before; came >= 8*95 {
		t.Errorf("all %d tokens were made for nobody", came)
	}
}

// TestSlowReader: who does not read is cut off, and the others do not wait.
func TestSlowReader(t *testing.T) {
	s := start(t, tiny(t, "mha"), Config{Stall: 300 * time.Millisecond, Queue: 4000, Sequences: 2000})
	c, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.(*net.TCPConn).SetReadBuffer(1024)
	body := `{"prompt":"a","n":1500,"max_tokens":60,"stream":true,"ignore_eos":true,"logprobs":20}`
	fmt.Fprintf(c, "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	for range 20 {
		s.complete(object{"prompt": "hello", "max_tokens": 2})
	}
	s.idle()
	slow, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	fmt.Fprintf(slow, "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{\"prompt\"")
	slow.SetReadDeadline(time.Now().Add(2 * time.Minute))
	if text, err := io.ReadAll(slow); err != nil || !strings.Contains(string(text), "did not come whole") {
		t.Errorf("a body that does not come: %q, %v", text, err)
	}
}

// TestMixedLoad sends ten thousand requests of all sorts: many are broken off, come in part, are refused or are
// answered to nobody who reads. No page and no goroutine is lost, memory is what it was after the first thousand, and
// an answer in such company is the answer alone.
func TestMixedLoad(t *testing.T) {
	s := start(t, tiny(t, "gta-2"), Config{Queue: 40, Sequences: 6, Stall: 200 * time.Millisecond})
	goroutines := runtime.NumGoroutine()
	s.mixed(t, 1000)
	before := s.rest(t, goroutines)
	s.mixed(t, 9000)
	after := s.rest(t, goroutines)
	if after > before+4<<20 {
		t.Errorf("%d bytes of heap after 10,000 requests, %d after 1,000", after, before)
	}
	t.Logf("heap after 1,000 requests %d KiB, after 10,000 %d KiB", before>>10, after>>10)
}

// mixed sends so many requests from 16 clients, the first of which asks for the same text again and again.
func (s *site) mixed(t *testing.T, requests int) {
	want := s.complete(object{"prompt": "canary", "max_tokens": 12, "temperature": 0}).Choices[0].Text
	var wg sync.WaitGroup
	for worker := range 16 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(worker), uint64(requests)))
			client := &http.Client{Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			for range requests / 16 {
				if worker == 0 {
					if status, text := s.ask("/v1/completions",
						object{"prompt": "canary", "max_tokens": 12, "temperature": 0}); status == 200 {
						var a answer
						if json.Unmarshal(text, &a) != nil || a.Choices[0].Text != want {
							t.Errorf("in company %q, alone %q", a.Choices[0].Text, want)
						}
					}
					continue
				}
				body, _ := json.Marshal(object{
					"prompt": randomPrompts(r, 1+r.IntN(3))[0:1], "max_tokens": r.IntN(8), "n": r.IntN(4), "stream": r.IntN(2) == 0,
					"seed": r.IntN(100), "echo": r.IntN(2) == 0, "logprobs": r.IntN(5), "temperature": r.Float64() * 2,
				})
				if r.IntN(10) == 0 {
					body = body[:r.IntN(len(body))]
				}
				ctx, cancel := context.WithTimeout(context.Background(), time.Duration(r.IntN(40))*time.Millisecond)
				q, _ := http.NewRequestWithContext(ctx, "POST", s.url+"/v1/completions", strings.NewReader(string(body)))
				if a, err := client.Do(q); err == nil {
					if a.StatusCode >= 500 {
						t.Errorf("%s: status %d", body, a.StatusCode)
					}
					if r.IntN(50) == 0 { // does not read
						<-ctx.Done()
					} else {
						io.Copy(io.Discard, a.Body)
					}
					a.Body.Close()
				}
				cancel()
			}
		})
	}
	wg.Wait()
}

// rest waits until the server is idle and its goroutines are gone, and returns the bytes of the heap in use.
func (s *site) rest(t *testing.T, goroutines int) uint64 {
	s.idle()
	http.DefaultClient.CloseIdleConnections()
	for range 12_000 { // two minutes, on a busy machine
		if runtime.NumGoroutine() <= goroutines+4 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if n := runtime.NumGoroutine(); n > goroutines+4 {
		t.Errorf("%d goroutines, %d before", n, goroutines)
	}
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func FuzzBody(f *testing.F) {
	for _, seed := range []string{`{"prompt":"a"}`, `{"prompt":[[1,2],[3]],"n":2,"stop":["x"],"logprobs":3}`,
		`{"prompt":[null]}`, `{"stop":{}}`} {
		f.Add(seed)
	}
	s := start(f, tiny(f, "mha"), Config{})
	f.Fuzz(func(t *testing.T, body string) {
		o, err := s.parseCompletion(strings.NewReader(body))
		if err != nil {
			if got := failure(err); got.status < 400 || got.status > 499 {
				t.Errorf("%q: %v", body, err)
			}
			return
		}
		if len(o.prompts)*o.n > s.config.Sequences || len(o.prompts) == 0 {
			t.Errorf("%q: %d prompts, n %d", body, len(o.prompts), o.n)
		}
	})
}
