//go:build gpu

package kernels

import (
	"math/rand/v2"
	"slices"
	"time"

	"headroom/internal/device"
)

// Each row is measured independently: first a pause, since the clock stays low for a while after products that reach
// the power limit, then 25 ms of warming up as in Triton's do_bench, since the first launches after a pause are up to
// 13% slower.
const (
	meterPause = 300 * time.Millisecond
	meterWarm  = 25 * time.Millisecond
)

const (
	meterRuns  = 21
	flushBytes = 256 << 20 // more than twice the L2 cache
	noiseSize  = 1 << 24
)

// A DecodeMeter measures decode attention on one device against two ceilings, which it takes first.
type DecodeMeter struct {
	CopyGBs      float64 // of a large copy, bytes read and written
	ProductTFLOP float64 // of an 8192³ product in bf16

	dev   *device.Device
	s     *device.Stream
	flush device.Buffer
	noise device.Buffer
}

// NewDecodeMeter measures the ceilings.
func NewDecodeMeter(dev *device.Device) (*DecodeMeter, error) {
	s, err := dev.NewStream()
	if err != nil {
		return nil, err
	}
	m := &DecodeMeter{dev: dev, s: s}
	if err := m.open(); err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

func (m *DecodeMeter) open() (err error) {
	if m.flush, err = m.dev.Alloc(device.U8, flushBytes); err != nil {
		return err
	}
	if m.noise, err = m.dev.Alloc(device.BF16, noiseSize); err != nil {
		return err
	}
	x, r := make([]uint16, noiseSize), rand.New(rand.NewPCG(1, 1))
	for i := range x {
		x[i] = device.ToBF16(float32(r.NormFloat64()))
	}
	device.Upload(m.s, m.noise, x)
	return m.ceilings()
}

// ceilings times a copy of 4 GiB and a product of 8192³.
func (m *DecodeMeter) ceilings() error {
	const n, side = 1 << 31, 8192
	pair, err := m.dev.Alloc(device.BF16, 2*n)
	if err != nil {
		return err
	}
	defer m.dev.Free(pair)
	m.fill(pair)
	took, err := m.times(func() { m.s.Copy(pair.Slice(0, n), pair.Slice(n, 2*n)) })
	if err != nil {
		return err
	}
	m.CopyGBs = 4 * n / took[len(took)/2] / 1e3
	p := device.Product{M: side, N: side, K: side, Lda: side, Ldb: side, Ldc: side, In: device.BF16, Out: device.BF16}
	a, b, c := pair.Slice(0, side*side), pair.Slice(side*side, 2*side*side), pair.Slice(2*side*side, 3*side*side)
	if _, err := m.s.Tune(p, a, b, c, device.Buffer{}, false); err != nil {
		return err
	}
	m.fill(pair)
	if took, err = m.times(func() { m.s.Multiply(p, a, b, c, device.Buffer{}, 1) }); err != nil {
		return err
	}
	m.ProductTFLOP = p.FLOPs() / took[len(took)/2] / 1e6
	return nil
}

// fill repeats the noise, at another offset each time.
func (m *DecodeMeter) fill(b device.Buffer) {
	for at, skip := 0, 0; at < b.N; skip = (skip + 7919*8) % (noiseSize / 2) {
		n := min(b.N-at, noiseSize-skip)
		m.s.Copy(b.Slice(at, at+n), m.noise.Slice(skip, skip+n))
		at += n
	}
}

// times runs launch with cold caches, to warm up and then to be timed, and returns the sorted times in microseconds.
func (m *DecodeMeter) times(launch func()) ([]float64, error) {
	var events [2 * meterRuns]*device.Event
	for i := range events {
		e, err := m.dev.NewEvent()
		if err != nil {
			return nil, err
		}
		defer e.Close()
		events[i] = e
	}
	if err := m.s.Sync(); err != nil {
		return nil, err
	}
	time.Sleep(meterPause)
	for start := time.Now(); time.Since(start) < meterWarm; {
		m.s.Fill(m.flush, 0)
		launch()
		if err := m.s.Sync(); err != nil {
			return nil, err
		}
	}
	for i := 0; i < len(events); i += 2 {
		m.s.Fill(m.flush, byte(i))
		m.s.Record(events[i])
		launch()
		m.s.Record(events[i+1])
	}
	if err := m.s.Sync(); err != nil {
		return nil, err
	}
	var took []float64
	for i := 0; i < len(events); i += 2 {
		d, err := events[i+1].Since(events[i])
		if err != nil {
			return nil, err
		}
		took = append(took, float64(d.Nanoseconds())/1e3)
	}
	slices.Sort(took)
	return took, nil
}

// Measure fills the problem's cache with random numbers, with pages in random order and NaN in unused ones, and times
// it.
func (m *DecodeMeter) Measure(d DecodeProblem) (row DecodeTime, err error) {
	rng := rand.New(rand.NewPCG(uint64(d.S), uint64(d.B)))
	lengths, used := d.lengths(rng), 0
	for _, n := range lengths {
		used += ceil(int(n), d.Page)
		d.MaxPages = max(d.MaxPages, ceil(int(n), d.Page))
	}
	if err := d.Check(); err != nil {
		return row, err
	}
	order, pages := rng.Perm(used), make([]int32, d.B*d.MaxPages)
	for b, n := range lengths {
		for i := range d.MaxPages {
			pages[b*d.MaxPages+i] = 1 << 30
			if i < ceil(int(n), d.Page) {
				pages[b*d.MaxPages+i], order = int32(order[0]), order[1:]
			}
		}
	}
	var held []device.Buffer
	defer func() {
		for _, b := range held {
			m.dev.Free(b)
		}
	}()
	alloc := func(t device.Type, n int) (b device.Buffer) {
		if err == nil && n > 0 {
			if b, err = m.dev.Alloc(t, n); err == nil {
				held = append(held, b)
			}
		}
		return b
	}
	queries, slots := d.B*d.T*d.H, (used+1)*d.Page
	work, err := d.WorkBytes(m.dev)
	if err != nil {
		return row, err
	}
	cache := device.BF16
	if d.FP8 {
		cache = device.U8
	}
	k := Decode{
		DecodeShape: d.DecodeShape, Scale: 1 / 16., Q: alloc(device.BF16, queries*(d.P+d.R)),
		K: alloc(cache, slots*d.G*d.Dv), KRope: alloc(device.BF16, slots*d.R),
		O: alloc(device.BF16, queries*d.Dv), LSE: alloc(device.F32, queries), Pages: alloc(device.I32, len(pages)),
		Lengths: alloc(device.I32, d.B), Work: alloc(device.U8, work),
	}
	if d.Cache == KV {
		k.V = alloc(cache, slots*d.G*d.Dv)
	}
	if d.FP8 {
		k.KScale = alloc(device.U8, slots*d.G)
		if d.Cache == KV {
			k.VScale = alloc(device.U8, slots*d.G)
		}
	}
	if err != nil {
		return row, err
	}
	for _, b := range []device.Buffer{k.Q, k.K, k.V, k.KRope} {
		if b.Nil() {
			continue
		}
		switch {
		case b.Type == device.U8 && b == k.V:
			(&NoiseFP8{X: b, Scales: k.VScale, Seed: 2}).Launch(m.s)
		case b.Type == device.U8:
			(&NoiseFP8{X: b, Scales: k.KScale, Seed: 1}).Launch(m.s)
		default:
			m.fill(b)
		}
		if b.N != k.Q.N {
			m.s.Fill(b.Slice(b.N/slots*used*d.Page, b.N), 0xff) // NaN
		}
	}
	device.Upload(m.s, k.Pages, pages)
	device.Upload(m.s, k.Lengths, lengths)
	m.s.Fill(k.Work, 0)
	micros, err := m.times(func() { k.Launch(m.s) })
	if err != nil {
		return row, err
	}
	return d.time(micros, lengths, m.CopyGBs, m.ProductTFLOP), nil
}

// Close frees the meter's memory.
func (m *DecodeMeter) Close() error {
	for _, b := range []device.Buffer{m.flush, m.noise} {
		if !b.Nil() {
			m.dev.Free(b)
		}
	}
	return m.s.Close()
}
