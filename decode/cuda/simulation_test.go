//go:build gpu

package cuda

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"headroom/decode/host"
	"headroom/internal/device"
	"headroom/kernels"
)

// A simulated queue needs no GPU. Launches are checked as a GPU's are, and computed here by plain loops, in exact
// order but as late as can be: when somebody waits. So memory that is changed too early is seen.
type simulated struct {
	*simulation
	dry    *device.Stream
	own    []device.Ptr
	pins   [][]int32
	todo   []func()
	record *[]func()
	first  error
}

// A simulation is the memory of all queues of a backend. A cell holds the number that begins at every second byte of
// address, so that bf16 loses nothing: what is computed must be right but for float32's rounding. Memory starts as NaN;
// between two pieces of it lie addresses that nobody has.
type simulation struct {
	dev    *device.Device
	spaces map[device.Ptr][]uint32
	bases  []device.Ptr
	next   device.Ptr
	left   int // bytes
	shards *host.Sum
	rank   int
	halves bool             // what a cache in bf16 takes is rounded
	seen   func(k launcher) // if a test wants to know what is launched
}

// simulate is a backend that lays out and computes like an H200, on none.
func simulate(typ device.Type) *backend { return simulateLittle(typ, 1<<40) }

// simulateLittle is one with so many bytes of memory, beside what the driver would take.
func simulateLittle(typ device.Type, bytes int) *backend {
	p := &simulation{
		left:   bytes,
		dev:    &device.Device{Name: "simulated", SMs: 132, Compute: 90, MaxShare: 232448, L2: 50 << 20},
		spaces: map[device.Ptr][]uint32{}, next: 1 << 30,
	}
	return &backend{
		dev: p.dev, t: typ, free: func() (int, error) { return p.left + reserve, nil },
		queue: func(bool) (queue, error) { return &simulated{simulation: p, dry: device.Dry(p.dev)}, nil },
	}
}

const nan = 0x7fc00000

func (p *simulated) alloc(t device.Type, n int) (device.Buffer, error) {
	b := device.Buffer{Ptr: p.next, N: n, Type: t}
	if p.left < b.Bytes() {
		return device.Buffer{}, fmt.Errorf("simulated: %d bytes asked for, %d are left", b.Bytes(), p.left)
	}
	p.left -= b.Bytes()
	cells := make([]uint32, (b.Bytes()+1)/2)
	for i := range cells {
		cells[i] = nan
	}
	p.spaces[b.Ptr] = cells
	p.bases = append(p.bases, b.Ptr)
	p.own = append(p.own, b.Ptr)
	p.next += device.Ptr((b.Bytes()+1023)/512*512 + 4096)
	return b, nil
}

func (p *simulated) pinned(n int) ([]int32, error) {
	x := make([]int32, n)
	p.pins = append(p.pins, x)
	return x, nil
}

// isPinned says that copies of x are made later.
func (p *simulated) isPinned(x []int32) bool {
	return slices.ContainsFunc(p.pins, func(pin []int32) bool { return len(x) > 0 && len(pin) > 0 && &pin[0] == &x[0] })
}

// put puts work on the queue.
func (p *simulated) put(f func()) {
	switch {
	case p.first != nil:
	case p.record != nil:
		*p.record = append(*p.record, f)
	default:
		p.todo = append(p.todo, f)
	}
}

func (p *simulated) drain() {
	for len(p.todo) > 0 {
		f := p.todo[0]
		p.todo = p.todo[1:]
		f()
	}
}

// only refuses what cannot be captured.
func (p *simulated) only(what string) {
	if p.record != nil {
		p.fail(fmt.Errorf("simulated: %s while launches are recorded", what))
	}
}

func (p *simulated) upload(to device.Buffer, from []int32) {
	p.only("upload")
	if !p.isPinned(from) {
		from = slices.Clone(from)
	}
	p.put(func() {
		v := p.view(to)
		for i, x := range from {
			v.setInt(i, x)
		}
	})
}

func (p *simulated) uploadFloats(to device.Buffer, from []float32) {
	p.only("upload")
	from = slices.Clone(from)
	p.put(func() { p.view(to).setAll(from) })
}

func (p *simulated) download(to []int32, from device.Buffer) {
	p.only("download")
	p.put(func() {
		v := p.view(from)
		for i := range to {
			to[i] = v.int(i)
		}
	})
	if !p.isPinned(to) {
		p.drain()
	}
}

func (p *simulated) downloadFloats(to []float32, from device.Buffer) {
	p.only("download")
	p.put(func() {
		v := p.view(from)
		for i := range to {
			to[i] = v.get(i)
		}
	})
	p.drain()
}

func (p *simulated) launch(k launcher) {
	if p.seen != nil {
		p.seen(k)
	}
	k.Launch(p.dry)
	if err := p.dry.Err(); err != nil {
		p.fail(err)
		return
	}
	p.put(func() { p.compute(k) })
}

func (p *simulated) sum(b device.Buffer) {
	p.put(func() {
		v := p.view(b)
		x := v.row(0, v.len())
		if b.Type == device.I32 {
			for i := range x {
				x[i] = float32(v.int(i))
			}
		}
		p.shards.All(p.rank, x)
		for i := range x {
			if b.Type == device.I32 {
				v.setInt(i, int32(x[i]))
			} else {
				v.set(i, x[i])
			}
		}
	})
}

func (p *simulated) addSum(to, x device.Buffer) {
	p.sum(x)
	p.launch(&kernels.Add{X: to, Y: x, Out: to})
}

// largest has every rank lay its largest logits and their tokens side by side.
func (p *simulated) largest(k *kernels.AllLargest) {
	p.put(func() {
		ranks := p.shards.Ranks()
		all := make([]float32, 2*ranks*k.Rows)
		for r := range k.Rows {
			token, value := int32(0), float32(0)
			if k.Best.Nil() {
				row := p.view(k.Logits).row(r*k.Ld, k.N)
				for i, v := range row {
					if v > row[token] {
						token = int32(i)
					}
				}
				value = row[token]
			} else {
				token, value = p.view(k.Best).int(r*kernels.StepBests), p.view(k.Best).get(r*kernels.StepBests+1)
			}
			all[2*(p.rank*k.Rows+r)], all[2*(p.rank*k.Rows+r)+1] = float32(k.First+int(token)), value
		}
		p.shards.All(p.rank, all)
		for r := range k.Rows {
			best := all[2*r:]
			for rank := range ranks {
				if x := all[2*(rank*k.Rows+r):]; x[1] > best[1] {
					best = x
				}
			}
			p.view(k.Tokens).setInt(r, int32(best[0]))
		}
	})
}

func (p *simulated) tune(k *kernels.Gemm) { p.only("tuning") }

type simulatedRecording struct {
	p     *simulated
	steps []func()
}

func (r *simulatedRecording) launch() {
	for _, f := range r.steps {
		r.p.put(f)
	}
}

func (p *simulated) capture(record func()) (recording, error) {
	r := &simulatedRecording{p: p}
	p.record = &r.steps
	record()
	p.record = nil
	return r, p.first
}

type simulatedMark struct {
	p    *simulated
	left int // records that have not been reached
}

func (p *simulated) mark() (mark, error) { return &simulatedMark{p: p}, nil }

func (m *simulatedMark) record() {
	m.left++
	m.p.put(func() { m.left-- })
}

func (m *simulatedMark) wait() error {
	for m.left > 0 && len(m.p.todo) > 0 {
		f := m.p.todo[0]
		m.p.todo = m.p.todo[1:]
		f()
	}
	return nil
}

func (p *simulated) fail(err error) {
	if p.first == nil {
		p.first = err
	}
}

func (p *simulated) err() error { return p.first }

func (p *simulated) sync() error {
	p.drain()
	err := p.first
	p.first = nil
	return err
}

func (p *simulated) close() error {
	err := p.sync()
	for _, b := range p.own {
		p.left += 2 * len(p.spaces[b])
		delete(p.spaces, b)
		p.bases = slices.DeleteFunc(p.bases, func(x device.Ptr) bool { return x == b })
	}
	return err
}

// A view is the numbers of a buffer.
type view struct {
	cells []uint32
	step  int // cells from one to the next
}

func (p *simulation) view(b device.Buffer) view {
	at, ok := slices.BinarySearch(p.bases, b.Ptr)
	if !ok {
		at--
	}
	if at >= 0 {
		base := p.bases[at]
		cells, from := p.spaces[base], int(b.Ptr-base)
		if from%2 == 0 && from+b.Bytes() <= 2*len(cells) {
			return view{cells[from/2 : (from+b.Bytes()+1)/2], b.Type.Size() / 2}
		}
	}
	panic(fmt.Sprintf("simulated: %d bytes at %#x belong to nobody", b.Bytes(), b.Ptr))
}

func (v view) get(i int) float32     { return math.Float32frombits(v.cells[i*v.step]) }
func (v view) set(i int, x float32)  { v.cells[i*v.step] = math.Float32bits(x) }
func (v view) int(i int) int32       { return int32(v.cells[i*v.step]) }
func (v view) setInt(i int, x int32) { v.cells[i*v.step] = uint32(x) }
func (v view) setAll(x []float32)    { v.setAt(0, x) }
func (v view) len() int              { return len(v.cells) / v.step }
func (v view) row(at, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = v.get(at + i)
	}
	return x
}

func (v view) setAt(at int, x []float32) {
	for i, f := range x {
		v.set(at+i, f)
	}
}

// all is the whole of a buffer, or nil of an absent one.
func (p *simulation) all(b device.Buffer) []float32 {
	if b.Nil() {
		return nil
	}
	v := p.view(b)
	return v.row(0, v.len())
}

// TestSimulationSeesEarlyChanges holds the simulation itself: pinned memory that changes before the copy, and memory of
// nobody.
func TestSimulationSeesEarlyChanges(t *testing.T) {
	q, _ := simulate(device.BF16).queue(false)
	b, _ := q.alloc(device.I32, 2)
	pin, _ := q.pinned(2)
	free, back := []int32{3, 4}, make([]int32, 2)
	pin[0] = 1
	q.upload(b.Slice(0, 1), pin[:1])
	q.upload(b.Slice(1, 2), free[:1])
	pin[0], free[0] = 7, 8
	if q.download(back, b); back[0] != 7 || back[1] != 3 {
		t.Errorf("%v came back, the copies were of 7 and 3", back)
	}
	defer func() {
		if recover() == nil {
			t.Error("what lies behind a buffer was read")
		}
	}()
	q.download(back, device.Buffer{Ptr: b.At(1), N: 2, Type: device.I32})
}
