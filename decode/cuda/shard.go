//go:build gpu

package cuda

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"headroom/attention"
	"headroom/decode"
	"headroom/internal/device"
	"headroom/internal/graph"
	"headroom/kernels"
)

// Sharded is the backend of the first GPUs of this machine, which hold shards of every model. They sum up in each
// other's memory, or over NCCL where the sums are large or memory is out of reach.
func Sharded(parts int, t graph.DType, cache attention.CacheType) (decode.Backend, error) {
	// A kernel that is loaded at its first launch may wait for those that run, and they for another GPU.
	if os.Getenv("CUDA_MODULE_LOADING") == "" {
		os.Setenv("CUDA_MODULE_LOADING", "EAGER")
	}
	id, err := device.NewCommID()
	if err != nil {
		return nil, err
	}
	var all []decode.Backend
	for rank := range parts {
		one, err := open(rank, t, cache)
		if err != nil {
			return nil, errors.Join(err, decode.Sharded(all...).Close())
		}
		all = append(all, &part{one})
	}
	reaches, err := reach(all)
	joined, meeting := make(chan error), &meeting{ranks: parts}
	for rank, one := range all {
		one := one.(*part)
		one.reaches, one.meeting = reaches, meeting
		go func() { joined <- one.join(id, rank, parts) }()
	}
	for range parts {
		err = errors.Join(err, <-joined)
	}
	b := decode.Sharded(all...)
	if err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

// reach lets all GPUs use each other's memory, and says whether they can. HEADROOM_SUMS=nccl leaves it, for machines
// whose GPUs say that they can and do not.
func reach(all []decode.Backend) (bool, error) {
	if os.Getenv("HEADROOM_SUMS") == "nccl" {
		return false, nil
	}
	for _, a := range all {
		for _, b := range all {
			if can, err := a.(*part).dev.Reach(b.(*part).dev); !can || err != nil {
				return false, err
			}
		}
	}
	return len(all) <= kernels.PeerRanks, nil
}

// A part is a GPU among several.
type part struct{ *backend }

func (b *part) join(id []byte, rank, ranks int) (err error) {
	b.rank, b.ranks = rank, ranks
	b.comm, err = b.dev.Join(id, rank, ranks, true)
	return err
}

func (b *part) Close() (err error) {
	if b.comm != nil {
		b.comm.Abort() // leaving together with the others is not needed: no sum is under way
	}
	return b.backend.Close()
}

// divided says that this device has the embedding and the head for some tokens alone.
func (d *Device) divided() bool { return d.model.Config.Vocab < d.model.Vocab() }

// Scored are the tokens whose logits the last pass left here.
func (d *Device) Scored() (first, end int) {
	if d.gathers {
		return 0, d.model.Vocab()
	}
	return d.model.First, d.model.First + d.model.Config.Vocab
}

// sum adds up a tensor over the shards of a model.
func (d *Device) sum(b device.Buffer) {
	if d.ranks > 1 && d.mode == running {
		d.queue.sum(b)
	}
}

// addSum adds the sum of all shards' x to what is in to.
func (d *Device) addSum(to, x device.Buffer) {
	switch {
	case d.ranks < 2:
		d.run(&kernels.Add{X: to, Y: x, Out: to})
	case d.mode == running:
		d.queue.addSum(to, x)
	}
}

// largest draws the largest logits over all shards.
func (d *Device) largest(k *kernels.AllLargest) {
	if d.mode == running {
		d.queue.largest(k)
	}
}

// agree gives all shards the tokens that the first drew: products may run otherwise on another GPU.
func (d *Device) agree() {
	if d.ranks < 2 || d.divided() || d.mode != running {
		return
	}
	tokens := d.drawn.Slice(0, d.n)
	if d.rank > 0 {
		d.run(fill{tokens, 0})
	}
	d.queue.sum(tokens)
}

// A meeting is where the queues of all ranks that sum with one another find each other's memory.
type meeting struct {
	ranks int
	mu    sync.Mutex
	now   *gathering
}

// A gathering is of one queue of each rank.
type gathering struct {
	inboxes []device.Buffer
	here    int
	done    chan struct{}
}

// meetTime is how long a rank waits for the others to allocate their memory.
const meetTime = 2 * time.Minute

// join allocates what a queue needs to sum with those of the other ranks, which join at the same time.
func (m *meeting) join(q *gpuQueue, rank int) (*kernels.Peers, error) {
	p := &kernels.Peers{Rank: rank}
	inbox, err := q.alloc(device.U8, kernels.InboxBytes(m.ranks))
	if err != nil {
		return nil, err
	}
	if p.Turns, err = q.alloc(device.I32, kernels.PeerBlocks); err != nil {
		return nil, err
	}
	if p.Failed, err = device.NewPinned[int32](q.dev, 1); err != nil {
		return nil, err
	}
	p.Failed.Data[0] = 0
	q.undo = append(q.undo, p.Failed.Close)
	q.launch(fill{inbox, 0})
	q.launch(fill{p.Turns, 0})
	if err := q.sync(); err != nil {
		return nil, err
	}
	p.Inboxes, err = m.meet(rank, inbox)
	return p, err
}

// meet gives everybody everybody's inbox.
func (m *meeting) meet(rank int, inbox device.Buffer) ([]device.Buffer, error) {
	m.mu.Lock()
	if m.now == nil {
		m.now = &gathering{inboxes: make([]device.Buffer, m.ranks), done: make(chan struct{})}
	}
	g := m.now
	g.inboxes[rank] = inbox
	if g.here++; g.here == m.ranks {
		m.now = nil
		close(g.done)
	}
	m.mu.Unlock()
	select {
	case <-g.done:
		return g.inboxes, nil
	case <-time.After(meetTime):
		return nil, fmt.Errorf("decode: GPU %d has waited %v for the others to open the model", rank, meetTime)
	}
}
