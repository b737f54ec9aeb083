//go:build gpu

package cuda

import (
	"errors"
	"os"
	"strconv"

	"headroom/internal/device"
	"headroom/kernels"
	"headroom/kernels/ref"
)

// A queue is memory of a GPU and the work on it, which is done in order. It keeps its first error and starts nothing
// after it; sync reports it. What was made by a queue is freed when it is closed. That of a GPU is a gpuQueue; tests
// have one that computes on this machine.
type queue interface {
	alloc(t device.Type, n int) (device.Buffer, error)
	// pinned is memory of the host whose copies are not waited for: it must not be changed meanwhile.
	pinned(n int) ([]int32, error)

	upload(to device.Buffer, from []int32)
	uploadFloats(to device.Buffer, from []float32) // as the type of to
	download(to []int32, from device.Buffer)
	downloadFloats(to []float32, from device.Buffer)
	launch(k launcher)
	// sum adds up over the devices that have shards of a model, in place: float32, bf16 and int32. addSum adds the sum of
	// x to what is in to. largest draws the largest logits over all of them, where they reach each other's memory.
	sum(b device.Buffer)
	addSum(to, x device.Buffer)
	largest(k *kernels.AllLargest)
	tune(k *kernels.Gemm)

	capture(record func()) (recording, error) // records launches and runs none
	mark() (mark, error)

	fail(err error)
	err() error
	sync() error
	close() error
}

// A launcher is a kernel with its buffers.
type launcher interface{ Launch(s *device.Stream) }

// A recording is launches that were captured.
type recording interface{ launch() }

// A mark is a point in a queue that may be waited for.
type mark interface {
	record()
	wait() error
}

// A gpuQueue is a queue of a GPU.
type gpuQueue struct {
	dev    *device.Device
	comm   *device.Comm   // nil for a device alone
	peers  *kernels.Peers // nil where memory of the others is out of reach
	most   int            // bytes of a sum by them
	stream *device.Stream
	undo   []func() error
}

func (b *backend) newQueue(sums bool) (queue, error) {
	s, err := b.dev.NewStream()
	if err != nil {
		return nil, err
	}
	q := &gpuQueue{dev: b.dev, comm: b.comm, most: kernels.MostAllReduce, stream: s}
	if n, err := strconv.Atoi(os.Getenv("HEADROOM_SUMS")); err == nil {
		q.most = min(n, kernels.MostAllReduce)
	}
	if sums && b.reaches {
		if q.peers, err = b.meeting.join(q, b.rank); err != nil {
			return nil, errors.Join(err, q.close())
		}
	}
	return q, nil
}

func (q *gpuQueue) alloc(t device.Type, n int) (device.Buffer, error) {
	b, err := q.dev.Alloc(t, n)
	if err == nil {
		q.undo = append(q.undo, func() error { return q.dev.Free(b) })
	}
	return b, err
}

func (q *gpuQueue) pinned(n int) ([]int32, error) {
	p, err := device.NewPinned[int32](q.dev, n)
	if err != nil {
		return nil, err
	}
	q.undo = append(q.undo, p.Close)
	return p.Data, nil
}

func (q *gpuQueue) upload(to device.Buffer, from []int32) { device.Upload(q.stream, to, from) }

func (q *gpuQueue) uploadFloats(to device.Buffer, from []float32) {
	if to.Type != device.BF16 {
		device.Upload(q.stream, to, from)
		return
	}
	half := make([]uint16, len(from))
	ref.Spans(len(from), func(lo, hi int) {
		for i := lo; i < hi; i++ {
			half[i] = device.ToBF16(from[i])
		}
	})
	device.Upload(q.stream, to, half)
}

func (q *gpuQueue) download(to []int32, from device.Buffer) { device.Download(q.stream, to, from) }
func (q *gpuQueue) downloadFloats(to []float32, from device.Buffer) {
	device.Download(q.stream, to, from)
}

func (q *gpuQueue) launch(k launcher) { k.Launch(q.stream) }

func (q *gpuQueue) sum(b device.Buffer) {
	switch {
	case q.peers != nil && b.Bytes() <= q.most:
		(&kernels.AllReduce{Peers: q.peers, X: b, Y: b}).Launch(q.stream)
	case b.Type == device.I32:
		q.comm.Merge(q.stream, b)
	default:
		q.comm.Sum(q.stream, b)
	}
}

func (q *gpuQueue) addSum(to, x device.Buffer) {
	if q.peers != nil && x.Bytes() <= q.most {
		(&kernels.AllReduce{Peers: q.peers, X: x, Add: to, Y: to}).Launch(q.stream)
		return
	}
	q.comm.Sum(q.stream, x)
	(&kernels.Add{X: to, Y: x, Out: to}).Launch(q.stream)
}

func (q *gpuQueue) largest(k *kernels.AllLargest) {
	k.Peers = q.peers
	k.Launch(q.stream)
}

func (q *gpuQueue) tune(k *kernels.Gemm) {
	if _, err := k.Tune(q.stream, false); err != nil {
		q.stream.Fail(err)
	}
}

func (q *gpuQueue) capture(record func()) (recording, error) {
	g, err := q.stream.Capture(record)
	if err != nil {
		return nil, err
	}
	q.undo = append(q.undo, g.Close)
	return gpuRecording{q, g}, nil
}

func (q *gpuQueue) mark() (mark, error) {
	e, err := q.dev.NewEvent()
	if err != nil {
		return nil, err
	}
	q.undo = append(q.undo, e.Close)
	return gpuMark{q, e}, nil
}

func (q *gpuQueue) fail(err error) { q.stream.Fail(err) }
func (q *gpuQueue) err() error     { return q.stream.Err() }

func (q *gpuQueue) sync() error {
	err := q.stream.Sync()
	if q.peers != nil {
		err = errors.Join(err, q.peers.Err())
	}
	return err
}

func (q *gpuQueue) close() error {
	err := q.stream.Sync()
	for i := len(q.undo) - 1; i >= 0; i-- {
		err = errors.Join(err, q.undo[i]())
	}
	return errors.Join(err, q.stream.Close())
}

type gpuRecording struct {
	q *gpuQueue
	g *device.Graph
}

func (r gpuRecording) launch() { r.g.Launch(r.q.stream) }

type gpuMark struct {
	q *gpuQueue
	e *device.Event
}

func (m gpuMark) record() { m.q.stream.Record(m.e) }

func (m gpuMark) wait() error {
	err := m.e.Sync()
	if m.q.peers != nil {
		err = errors.Join(err, m.q.peers.Err())
	}
	return err
}

// fill sets every byte of a buffer.
type fill struct {
	b     device.Buffer
	value byte
}

// Launch puts it on the stream.
func (k fill) Launch(s *device.Stream) { s.Fill(k.b, k.value) }

// copying copies one buffer to another.
type copying struct{ to, from device.Buffer }

// Launch puts it on the stream.
func (k copying) Launch(s *device.Stream) { s.Copy(k.to, k.from) }
