//go:build gpu

package cuda

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"headroom/attention"
	"headroom/decode"
	"headroom/decode/decodetest"
	"headroom/decode/host"
	"headroom/internal/device"
	"headroom/internal/graph"
	"headroom/model"
)

// TestCUDARandom draws models, options and requests at random and holds what comes of them against the CPU: simulated
// in float32 and in bf16, on a GPU in float32.
func TestCUDARandom(t *testing.T) {
	test := func(seeds int) func(*testing.T, decode.Backend) {
		return func(t *testing.T, on decode.Backend) {
			for seed := range seeds {
				t.Run(strconv.Itoa(seed), func(t *testing.T) { checkRandom(t, on, uint64(seed)) })
			}
		}
	}
	everywhere(t, graph.F32, test(4))
	t.Run("simulated in bf16", func(t *testing.T) { test(8)(t, simulate(device.BF16)) })
}

// anyModel is a model of any kind, of dims that the fast kernels take or do not.
func anyModel(t *testing.T, r *rand.Rand, of func(*model.Config)) (*decode.Model, string) {
	t.Helper()
	what := decodetest.Kinds[r.IntN(len(decodetest.Kinds))]
	m := decodetest.Tiny(t, what, func(c *model.Config, a *attention.Config) {
		c.Layers, c.Width, c.MLP, c.Vocab = 1+r.IntN(2), 16+8*r.IntN(8), 8+r.IntN(60), 30+r.IntN(300)
		c.Context, c.Tie = 20+r.IntN(200), r.IntN(2) == 0
		a.HeadDim = []int{8, 16, 64, 64, 64, 96, 128}[r.IntN(7)]
		a.RopeDim, a.Heads = 0, 2*(1+r.IntN(4))
		decodetest.Switched(r)(c, a)
		of(c)
		what += fmt.Sprintf(" %+v, %+v", *c, *a)
	})
	return m, what
}

func checkRandom(t *testing.T, on decode.Backend, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 77))
	m, what := anyModel(t, r, func(*model.Config) {})
	o := decode.Options{Pages: decode.PagesFor(m.Config.Context) + r.IntN(8), Rows: 1 + r.IntN(20), Chunk: 1 + r.IntN(80),
		Ends: []int32{int32(r.IntN(9)) - 4}}
	if r.IntN(2) == 0 {
		o.Scored = 1 + r.IntN(50)
	}
	guesses, drafts := 1+r.IntN(8), r.IntN(4)
	draft := m
	if drafts == 0 {
		draft, _ = anyModel(t, r, func(c *model.Config) { c.Vocab = m.Config.Vocab })
	}
	what += fmt.Sprintf(", %+v, %d guesses of %d", o, guesses, drafts)
	var all [2][]*decode.Sequence
	for i, b := range []decode.Backend{host.New(), on} {
		o := o
		switch drafts {
		case 0:
			d, err := decode.NewDraftModel(draft, b, o, guesses, m)
			if err != nil {
				t.Fatal(what, err)
			}
			o.Drafter = d
		case 1:
			o.Drafter = decode.Lookup{Guesses: guesses}
		}
		e, err := decode.Open(m, b, o)
		if err != nil {
			t.Fatal(what, err)
		}
		all[i] = anyRequests(t, m, e, o, rand.New(rand.NewPCG(seed, 78)))
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}
	for i, want := range all[0] {
		got := all[1][i]
		if want.Reason == decode.Cancelled || got.Reason == decode.Cancelled { // a GPU may be a token ahead, or behind
			want.Reason, got.Reason = decode.Cancelled, decode.Cancelled
			n := min(len(got.Tokens), len(want.Tokens))
			got.Tokens, want.Tokens = got.Tokens[:n], want.Tokens[:n]
			n = min(len(got.Scores), len(want.Scores))
			got.Scores, want.Scores = got.Scores[:n], want.Scores[:n]
		}
		if !slices.Equal(got.Output(), want.Output()) || got.Reason != want.Reason || len(got.Scores) != len(want.Scores) {
			t.Fatalf("%s: request %d: %v (%s), on the CPU %v (%s)", what, i, got.Output(), got.Reason,
				want.Output(), want.Reason)
		}
		for j, s := range want.Scores {
			if d := math.Abs(float64(got.Scores[j].LogProb - s.LogProb)); !(d < 1e-3) {
				t.Fatalf("%s: request %d, score %d: %v, on the CPU %v", what, i, j, got.Scores[j].LogProb, s.LogProb)
			}
		}
	}
}

// anyRequests serves requests that come and are cancelled at random.
func anyRequests(t *testing.T, m *decode.Model, e *decode.Engine, o decode.Options, r *rand.Rand) (
	all []*decode.Sequence) {
	t.Helper()
	V, S := m.Config.Vocab, m.Config.Context
	begin := decodetest.Tokens(r, S, V)
	n := 10 + r.IntN(20)
	short := r.IntN(3) == 0
	for len(all) < n || e.Busy() {
		for len(all) < n && (short || r.IntN(3) == 0) {
			most := S - 1
			if short {
				most = min(most, 8)
			}
			q := decode.Request{Prompt: decodetest.Tokens(r, 1+r.IntN(most), V), MaxTokens: 1 + r.IntN(20),
				Score: r.IntN(3) == 0}
			if q.Score && o.Scored > 0 && r.IntN(2) == 0 {
				q.Echo, q.MaxTokens = true, q.MaxTokens*r.IntN(2)
			}
			if r.IntN(2) == 0 { // begins like others
				copy(q.Prompt, begin[:r.IntN(S)])
			}
			if r.IntN(2) == 0 {
				q.Sampling = decode.Sampling{Temperature: 0.2 + r.Float64(), TopK: r.IntN(30), TopP: r.Float64(),
					MinP: r.Float64() / 9, Repetition: float64(r.IntN(3)) / 1.6, Seed: r.Uint64()}
			}
			all = append(all, decodetest.Submit(t, e, q))
		}
		if r.IntN(30) == 0 && len(all) > 0 {
			e.Cancel(all[r.IntN(len(all))])
		}
		if err := e.Step(); err != nil {
			t.Fatal(err)
		}
	}
	if e.FreePages() != e.Usage().Pages {
		t.Fatalf("%d of %d pages came back", e.FreePages(), e.Usage().Pages)
	}
	return all
}

// TestCUDAPagesComeBack lets requests come and go, 10,000 of them on a GPU, with guesses of a draft model and with
// passes that are started ahead.
func TestCUDAPagesComeBack(t *testing.T) {
	everywhere(t, graph.BF16, func(t *testing.T, on decode.Backend) {
		n := 5000
		if isSimulated(on) {
			n = 100
		}
		m := decodetest.Tiny(t, "gta-2", wide, func(c *model.Config, _ *attention.Config) {
			c.Layers, c.Vocab, c.Context = 1, 40, 200
		})
		o := decode.Options{Pages: 9, Rows: 6, Chunk: 200, Ends: []int32{5}, Vocabulary: decodetest.Letters{}}
		draft, err := decode.NewDraftModel(m, on, o, 2, m)
		if err != nil {
			t.Fatal(err)
		}
		for name, drafter := range map[string]decode.Drafter{"guesses": draft, "ahead": nil} {
			o.Drafter = drafter
			e, err := decode.Open(m, on, o)
			if err != nil {
				t.Fatal(err)
			}
			decodetest.ComeAndGo(t, m, e, name, n)
			if err := e.Close(); err != nil {
				t.Error(err)
			}
		}
	})
}

// TestCUDAGreedySpeculationIsGreedy holds guesses on a device against none on the same, in float32, where no batch is
// large enough to round differently.
func TestCUDAGreedySpeculationIsGreedy(t *testing.T) {
	everywhere(t, graph.F32, func(t *testing.T, on decode.Backend) {
		kinds := decodetest.Kinds
		if isSimulated(on) {
			kinds = []string{"gta-2", "gla-2"}
		}
		for _, kind := range kinds {
			m := decodetest.Tiny(t, kind, wide)
			o := decode.Options{Pages: 12, Chunk: 31}
			itself, err := decode.NewDraftModel(m, on, o, 3, m)
			if err != nil {
				t.Fatal(err)
			}
			var want [][]int32
			for _, d := range []decode.Drafter{nil, decode.Lookup{Guesses: 3}, itself} {
				o.Drafter = d
				e, err := decode.Open(m, on, o)
				if err != nil {
					t.Fatal(err)
				}
				var all []*decode.Sequence
				r := rand.New(rand.NewPCG(8, 8))
				for _, n := range []int{1, 70, 140} {
					all = append(all, decodetest.Submit(t, e,
						decode.Request{Prompt: decodetest.Tokens(r, n, m.Config.Vocab), MaxTokens: 30}))
				}
				decodetest.Finish(t, e)
				for i, s := range all {
					if d == nil {
						want = append(want, s.Output())
					} else if !slices.Equal(s.Output(), want[i]) {
						t.Errorf("%s by %T: %v, plainly %v", kind, d, s.Output(), want[i])
					}
				}
				if c := e.Counts; d == decode.Drafter(itself) && c.Accepted < c.Drafted*9/10 {
					t.Errorf("%s guesses itself badly: %+v", kind, c)
				}
				if err := e.Close(); err != nil {
					t.Error(err)
				}
			}
		}
	})
}

// TestCUDABench runs the benchmark itself, which lengthens the model's context.
func TestCUDABench(t *testing.T) {
	everywhere(t, graph.BF16, func(t *testing.T, on decode.Backend) {
		for _, kind := range []string{"gqa-2", "gla-2"} {
			m := decodetest.Tiny(t, kind, wide)
			for _, batch := range []int{1, 20} {
				r, err := decode.Bench(t.Context(), m, on, batch, 300, 2, 1e9)
				if err == nil {
					_, err = decode.BenchPrefill(t.Context(), m, on, batch, 100, 1)
				}
				if err != nil || r.TokenMillis <= 0 || r.LargestBatch < batch || r.ElementBytes != 2 {
					t.Errorf("%s, batch %d: %+v, %v", kind, batch, r, err)
				}
			}
		}
	})
}

// TestCUDACacheBytesAreTheLayouts asks the device what its pool takes.
func TestCUDACacheBytesAreTheLayouts(t *testing.T) {
	for typ, size := range map[graph.DType]int{graph.F32: 4, graph.BF16: 2} {
		everywhere(t, typ, func(t *testing.T, on decode.Backend) {
			for kind, elements := range map[string]int{"mha": 64, "mqa": 16, "mfa": 16, "gqa-2": 32, "gta-2": 20, "mla": 36,
				"gla-2": 36, "gla_q-2": 36} {
				m := decodetest.Tiny(t, kind)
				d := openDevice(t, m, on, decode.Options{Pages: 7, Rows: 2})
				if got, want := d.CacheBytes(), int64(7*decode.PageTokens*m.Config.Layers*elements*size); got != want {
					t.Errorf("%s: a pool of %d bytes, the layout says %d", kind, got, want)
				}
			}
		})
	}
}
