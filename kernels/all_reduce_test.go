//go:build gpu

package kernels

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"headroom/internal/device"
)

// A ring is ranks that sum among themselves, each with a stream: on two GPUs, or all on one.
type ring struct {
	testing.TB
	dev   []*device.Device
	s     []*device.Stream
	peers []*Peers
	most  int // bytes of a sum
}

func newRing(t testing.TB, cards, ranks int) *ring {
	t.Helper()
	one := newRig(t).dev
	if device.Count() < cards {
		t.Skipf("fewer than %d GPUs", cards)
	}
	r := &ring{TB: t, most: MostAllReduce}
	if ranks > 2*cards { // so that what waits early for its turn leaves room for what is waited for
		r.most = 192 << 10
	}
	devs := []*device.Device{one}
	for i := 1; i < cards; i++ {
		d, err := Open(i)
		r.ok(err)
		t.Cleanup(func() { d.Close() })
		devs = append(devs, d)
	}
	for _, a := range devs {
		for _, b := range devs {
			if can, err := a.Reach(b); err != nil || !can {
				t.Skipf("the GPUs cannot read each other's memory: %v", err)
			}
		}
	}
	var inboxes []device.Buffer
	for i := range ranks {
		d := devs[i%cards]
		s, err := d.NewStream()
		r.ok(err)
		turns, err := d.Alloc(device.I32, PeerBlocks)
		r.ok(err)
		inbox, err := d.Alloc(device.U8, InboxBytes(ranks))
		r.ok(err)
		failed, err := device.NewPinned[int32](d, 1)
		r.ok(err)
		failed.Data[0] = 0
		s.Fill(turns, 0)
		s.Fill(inbox, 0)
		r.ok(s.Sync())
		t.Cleanup(func() {
			s.Close()
			failed.Close()
			d.Free(turns)
			d.Free(inbox)
		})
		r.dev, r.s, inboxes = append(r.dev, d), append(r.s, s), append(inboxes, inbox)
		r.peers = append(r.peers, &Peers{Rank: i, Turns: turns, Failed: failed, Patience: 3 * time.Second})
	}
	for i, p := range r.peers {
		r.load(i, inboxes[i])
		p.Inboxes = inboxes
	}
	return r
}

// load launches each kernel once with a rank that is alone: loading one at its first launch may wait for those that
// wait for others.
func (r *ring) load(rank int, inbox device.Buffer) {
	s, p := r.s[rank], *r.peers[rank]
	p.Inboxes, p.Rank = []device.Buffer{inbox}, 0
	for _, typ := range sumTypes {
		b := r.buffer(rank, typ, 65)
		for shift := range 2 {
			x := b.Slice(shift, 64+shift)
			s.Fill(x, 0)
			(&AllReduce{Peers: &p, X: x, Y: x}).Launch(s)
		}
	}
	tokens, logits := r.buffer(rank, device.I32, 1), r.buffer(rank, device.F32, 64)
	(&Noise{X: logits, Seed: 1, Scale: 1}).Launch(s)
	(&AllLargest{Peers: &p, Rows: 1, N: 64, Ld: 64, Logits: logits, Tokens: tokens}).Launch(s)
	r.ok(s.Sync())
	s.Fill(p.Turns, 0)
	s.Fill(inbox, 0)
	r.ok(s.Sync())
}

func (r *ring) ok(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

// each runs what every rank does, beside each other.
func (r *ring) each(do func(rank int)) {
	var wait sync.WaitGroup
	for i := range r.s {
		wait.Go(func() { do(i) })
	}
	wait.Wait()
}

func (r *ring) sync() {
	r.Helper()
	for i, s := range r.s {
		r.ok(s.Sync())
		r.ok(r.peers[i].Err())
	}
}

func (r *ring) buffer(rank int, t device.Type, n int) device.Buffer {
	r.Helper()
	b, err := r.dev[rank].Alloc(t, n)
	r.ok(err)
	r.Cleanup(func() { r.dev[rank].Free(b) })
	return b
}

// rings are what the tests run on, up to so many ranks on one GPU.
func rings(t *testing.T, most int, test func(t *testing.T, r *ring)) {
	for _, c := range [][2]int{{1, 2}, {1, 4}, {2, 2}} {
		if c[1] > most*c[0] {
			continue
		}
		t.Run(fmt.Sprintf("%d ranks on %d GPUs", c[1], c[0]), func(t *testing.T) { test(t, newRing(t, c[0], c[1])) })
	}
}

// bitsOf are the words of n elements.
func bitsOf(t device.Type, x []float32) []uint32 {
	words := make([]uint32, 0, len(x))
	for _, v := range x {
		switch t {
		case device.F32:
			words = append(words, math.Float32bits(v))
		case device.BF16:
			words = append(words, uint32(device.ToBF16(v)))
		default:
			words = append(words, uint32(int32(v)))
		}
	}
	return words
}

func put(s *device.Stream, b device.Buffer, words []uint32) {
	if b.Type != device.BF16 {
		device.Upload(s, b, words)
		return
	}
	half := make([]uint16, len(words))
	for i, w := range words {
		half[i] = uint16(w)
	}
	device.Upload(s, b, half)
}

func got(s *device.Stream, b device.Buffer) []uint32 {
	words := make([]uint32, b.N)
	if b.Type != device.BF16 {
		device.Download(s, words, b)
		return words
	}
	half := make([]uint16, b.N)
	device.Download(s, half, b)
	for i, h := range half {
		words[i] = uint32(h)
	}
	return words
}

// A sum is one call of all ranks: what they add and what it must be, to the bit.
type sum struct {
	t         device.Type
	x, add, y []device.Buffer // of each rank
	want      []uint32
}

// newSum draws the values of a call. With shift, all buffers begin off 16 bytes.
func (r *ring) newSum(rng *rand.Rand, t device.Type, n, shift int, adds, inPlace bool) *sum {
	c := &sum{t: t}
	total := make([]float32, n)
	value := func() float32 {
		if t == device.I32 {
			return float32(rng.IntN(2000) - 1000)
		}
		x := float32(rng.NormFloat64())
		if t == device.BF16 {
			x = device.FromBF16(device.ToBF16(x))
		}
		return x
	}
	fill := func(rank int, x []float32) device.Buffer {
		b := r.buffer(rank, t, n+shift).Slice(shift, n+shift)
		put(r.s[rank], b, bitsOf(t, x))
		return b
	}
	for rank := range r.s {
		x := make([]float32, n)
		for i := range x {
			x[i] = value()
			total[i] += x[i]
		}
		c.x = append(c.x, fill(rank, x))
	}
	if adds {
		add := make([]float32, n)
		for i := range add {
			add[i] = value()
			total[i] += add[i]
		}
		for rank := range r.s {
			c.add = append(c.add, fill(rank, add))
		}
	}
	for rank := range r.s {
		switch {
		case inPlace && adds:
			c.y = append(c.y, c.add[rank])
		case inPlace:
			c.y = append(c.y, c.x[rank])
		default:
			c.y = append(c.y, r.buffer(rank, t, n+shift).Slice(shift, n+shift))
		}
	}
	c.want = bitsOf(t, total)
	return c
}

func (c *sum) launch(r *ring, rank int) {
	k := AllReduce{Peers: r.peers[rank], X: c.x[rank], Y: c.y[rank]}
	if c.add != nil {
		k.Add = c.add[rank]
	}
	k.Launch(r.s[rank])
}

func (c *sum) check(r *ring, what string) {
	r.Helper()
	for rank, s := range r.s {
		if words := got(s, c.y[rank]); !slices.Equal(words, c.want) {
			bad := 0
			for i := range words {
				if words[i] != c.want[i] {
					bad++
				}
			}
			r.Fatalf("%s: rank %d: %d of %d %v are wrong", what, rank, bad, len(words), c.t)
		}
	}
}

var sumTypes = []device.Type{device.F32, device.BF16, device.I32}

// TestAllReduce holds every word of sums of many sizes, launched one by one.
func TestAllReduce(t *testing.T) {
	rings(t, 4, func(t *testing.T, r *ring) {
		rng := rand.New(rand.NewPCG(1, 2))
		var calls []*sum
		for _, typ := range sumTypes {
			for _, bytes := range []int{4, 12, 16, 3072, 4096, 4112, 49152, 196608, 524288, 600000, 1 << 20, MostAllReduce} {
				n := min(bytes, r.most) / typ.Size()
				calls = append(calls, r.newSum(rng, typ, n, 0, n%3 == 0, n%2 == 0))
				if bytes < 5000 {
					calls = append(calls, r.newSum(rng, typ, n, 1, n%3 != 0, n%2 == 0))
				}
			}
		}
		rng.Shuffle(len(calls), func(i, j int) { calls[i], calls[j] = calls[j], calls[i] })
		r.sync()
		r.each(func(rank int) {
			for _, c := range calls {
				c.launch(r, rank)
			}
		})
		r.sync()
		for i, c := range calls {
			c.check(r, fmt.Sprintf("call %d of %d bytes", i, len(c.want)*c.t.Size()))
		}
	})
}

// TestAllReduceRecorded replays recorded sums many times, with ranks that are late by turns: what a step of decoding
// does. Every sum goes on from the one before, so that a word of another turn would show at the end. Four ranks on one
// GPU did not all run beside each other, and waited in vain; two do.
func TestAllReduceRecorded(t *testing.T) {
	rings(t, 2, func(t *testing.T, r *ring) {
		const replays, n = 300, 24
		sizes := []int{1536, 8, 24576, 98304, 4, 2048, 262144}
		acc := make([][]device.Buffer, len(r.s))
		x := make([][]device.Buffer, len(r.s))
		noise := make([]device.Buffer, len(r.s))
		graphs := make([]*device.Graph, len(r.s))
		for rank, s := range r.s {
			noise[rank] = r.buffer(rank, device.F32, 1<<20)
			for i := range n {
				size := min(sizes[i%len(sizes)], r.most/4)
				x[rank] = append(x[rank], r.buffer(rank, device.I32, size))
				acc[rank] = append(acc[rank], r.buffer(rank, device.I32, size))
				words := make([]uint32, size)
				for j := range words {
					words[j] = uint32(i*31 + j*7 + rank*1000)
				}
				put(s, x[rank][i], words)
				s.Fill(acc[rank][i], 0)
			}
			var err error
			graphs[rank], err = s.Capture(func() {
				for i := range n {
					(&AllReduce{Peers: r.peers[rank], X: x[rank][i], Add: acc[rank][i], Y: acc[rank][i]}).Launch(s)
				}
			})
			r.ok(err)
		}
		r.sync()
		r.each(func(rank int) {
			late := rand.New(rand.NewPCG(3, uint64(rank)))
			for range replays {
				for range late.IntN(3) {
					(&Noise{X: noise[rank], Seed: 1, Scale: 1}).Launch(r.s[rank])
				}
				graphs[rank].Launch(r.s[rank])
			}
		})
		r.sync()
		for rank, s := range r.s {
			for i := range n {
				words := got(s, acc[rank][i])
				for j, w := range words {
					one := uint32(0)
					for k := range r.s {
						one += uint32(i*31 + j*7 + k*1000)
					}
					if w != replays*one {
						t.Fatalf("rank %d: sum %d, word %d is %d after %d replays, not %d", rank, i, j, w, replays, replays*one)
					}
				}
			}
			r.ok(graphs[rank].Close())
		}
	})
}

// TestAllLargest draws logits with equals among them.
func TestAllLargest(t *testing.T) {
	rings(t, 4, func(t *testing.T, r *ring) {
		rng := rand.New(rand.NewPCG(5, 6))
		for _, rows := range []int{1, 7, 64, 200} {
			const n, ld = 1000, 1003
			ranks := len(r.s)
			want := make([]int32, rows)
			best := make([]float32, rows)
			for i := range best {
				best[i] = float32(math.Inf(-1))
			}
			tokens := make([]device.Buffer, ranks)
			logits := make([]device.Buffer, ranks)
			for rank := range ranks {
				x := make([]float32, rows*ld)
				for i := range rows {
					for j := range n {
						v := float32(rng.IntN(900)) - 800
						x[i*ld+j] = v
						if v > best[i] {
							best[i], want[i] = v, int32(rank*n+j)
						}
					}
					x[i*ld+n] = 1e9 // behind the row
				}
				logits[rank], tokens[rank] = r.buffer(rank, device.F32, rows*ld), r.buffer(rank, device.I32, rows)
				device.Upload(r.s[rank], logits[rank], x)
			}
			r.sync()
			r.each(func(rank int) {
				for range 3 {
					(&AllLargest{Peers: r.peers[rank], Rows: rows, N: n, Ld: ld, First: rank * n, Logits: logits[rank],
						Tokens: tokens[rank]}).Launch(r.s[rank])
				}
			})
			r.sync()
			for rank := range ranks {
				has := make([]int32, rows)
				device.Download(r.s[rank], has, tokens[rank])
				if !slices.Equal(has, want) {
					t.Errorf("%d rows: rank %d has %v, not %v", rows, rank, has, want)
				}
			}
		}
	})
}

// TestAllReduceGivesUp holds that a rank that waits alone ends, and says for whom it waited.
func TestAllReduceGivesUp(t *testing.T) {
	r := newRing(t, 1, 2)
	r.peers[0].Patience = 50 * time.Millisecond
	c := r.newSum(rand.New(rand.NewPCG(7, 8)), device.F32, 100000, 0, false, false)
	began := time.Now()
	c.launch(r, 0)
	r.ok(r.s[0].Sync())
	if err := r.peers[0].Err(); err == nil || !strings.Contains(err.Error(), "GPU 0 waited 50ms for what GPU 1 adds") {
		t.Errorf("a rank alone: %v", err)
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("it took %v", took)
	}
}

// TestAllReduceSpeed prints the time of a sum in a recording, here and by NCCL, on two GPUs.
func TestAllReduceSpeed(t *testing.T) {
	r := newRing(t, 2, 2)
	id, err := device.NewCommID()
	r.ok(err)
	comms := make([]*device.Comm, 2)
	r.each(func(rank int) {
		if comms[rank], err = r.dev[rank].Join(id, rank, 2, true); err != nil {
			t.Error(err)
		}
	})
	if t.Failed() {
		return
	}
	defer r.each(func(rank int) { comms[rank].Abort() })
	const calls, runs = 48, 5
	for _, bytes := range []int{3 << 10, 24 << 10, 48 << 10, 192 << 10, 512 << 10, 1 << 20, 2 << 20} {
		took := [2]time.Duration{}
		for by := range 2 {
			graphs, events := make([]*device.Graph, 2), make([][]*device.Event, 2)
			r.each(func(rank int) {
				s, b := r.s[rank], r.buffer(rank, device.BF16, bytes/2)
				s.Fill(b, 0)
				var err error
				graphs[rank], err = s.Capture(func() {
					for range calls {
						if by == 0 {
							(&AllReduce{Peers: r.peers[rank], X: b, Y: b}).Launch(s)
						} else {
							comms[rank].Sum(s, b)
						}
					}
				})
				if err != nil {
					t.Error(err)
					return
				}
				for range runs + 1 {
					e, err := r.dev[rank].NewEvent()
					if err != nil {
						t.Error(err)
					}
					events[rank] = append(events[rank], e)
				}
			})
			if t.Failed() {
				return
			}
			r.each(func(rank int) {
				for _, e := range events[rank] {
					graphs[rank].Launch(r.s[rank])
					r.s[rank].Record(e)
				}
			})
			r.sync()
			for i := 1; i <= runs; i++ {
				one, err := events[0][i].Since(events[0][i-1])
				r.ok(err)
				if took[by] == 0 || one < took[by] {
					took[by] = one
				}
			}
			for _, g := range graphs {
				r.ok(g.Close())
			}
		}
		t.Logf("%7d bytes: %6.2f µs, NCCL %6.2f µs", bytes, took[0].Seconds()*1e6/calls, took[1].Seconds()*1e6/calls)
	}
}
