package graph

import (
	"encoding/json"
	"fmt"
	"unsafe"
)

// A Group is the processes that train one model together, each with a backend of its own. All of them make the same
// calls in the same order, which take their place among the kernels of their backends.
//
// With N ranks a step is ZeRO-1 (arXiv 1910.02054): every rank computes the gradient of its own rows, the gradients are
// summed so that rank r has the r-th of N equal parts of the flat buffer, it updates the weights of that part with the
// only moments there are of it, and all weights are gathered.
type Group interface {
	Rank() int
	Size() int
	Gather(b Buf) error // everybody gets the r-th of Size equal parts from rank r, in place
	Merge(b Buf) error  // words of which all ranks but one have zeros: all get that one's
	Abort()             // ends collectives that wait for a lost rank; may be called from any goroutine
	Close() error       // after all recordings of its collectives are closed

	// Reduce sums float32 over the ranks: rank to has the sum in its buffer then, the others what they had. Broadcast
	// copies what rank from has in src, which is missing elsewhere, to everybody's dst. The work begins when start has
	// been run and goes on beside the kernels after it; those after wait have the result.
	Reduce(b Buf, to int) (start, wait Kernel, err error)
	Broadcast(dst, src Buf, from int) (start, wait Kernel, err error)
}

// Sharding says what the ranks of a group divide among them, beside the rows: what only the optimizer needs, or the
// weights and their gradients too (FSDP, arXiv 2304.11277), which are then gathered ahead of each use, and summed and
// dropped after it.
type Sharding int

const (
	ShardOptimizer Sharding = iota
	ShardWeights
)

// An owned buffer is what this process holds of a flat one: elements first to first+Len.
type owned struct {
	Buf
	first int
}

// overlap is the part of elements lo to hi of the flat buffer that is held here, and how far it lies from lo.
func (o owned) overlap(lo, hi int) (b Buf, skip int) {
	from, to := max(lo, o.first), min(hi, o.first+o.Len)
	b = o.Buf
	if from >= to {
		b.Len = 0
		return b, 0
	}
	b.Off += (from - o.first) * b.Type.Size()
	b.Len = to - from
	return b, from - lo
}

// part is elements lo to hi of the flat buffer, which are held here.
func (o owned) part(lo, hi int) Buf { return o.Buf.part(lo-o.first, hi-o.first) }

// part is elements lo to hi of a buffer.
func (b Buf) part(lo, hi int) Buf {
	if lo < 0 || hi < lo || hi > b.Len {
		panic(fmt.Sprintf("graph: elements %d to %d of a buffer of %d", lo, hi, b.Len))
	}
	b.Off += lo * b.Type.Size()
	b.Len = hi - lo
	return b
}

// Share gives every rank of the group the bytes of rank 0.
func (s *Store) Share(data []byte) ([]byte, error) {
	g := s.Group
	if g == nil {
		return data, nil
	}
	if g.Rank() != 0 {
		data = nil
	}
	length, err := s.merge([]int32{int32(len(data))})
	if err != nil {
		return nil, err
	}
	words := make([]int32, (length[0]+3)/4)
	for i, b := range data {
		words[i/4] |= int32(b) << (i % 4 * 8)
	}
	if words, err = s.merge(words); err != nil {
		return nil, err
	}
	data = make([]byte, length[0])
	for i := range data {
		data[i] = byte(words[i/4] >> (i % 4 * 8))
	}
	return data, nil
}

// agree makes the other ranks choose rank 0's algorithms. They are equal everywhere, so that one checkpoint can restore
// them.
func (s *Store) agree() error {
	text, err := json.Marshal(s.Backend.Choices())
	if err == nil {
		text, err = s.Share(text)
	}
	if err != nil || s.Group.Rank() == 0 {
		return err
	}
	var choices map[string]int
	if err := json.Unmarshal(text, &choices); err != nil {
		return fmt.Errorf("graph: the algorithms of rank 0: %w", err)
	}
	s.Backend.Choose(choices)
	return nil
}

// merge sends words through the device, the bits as they are.
func (s *Store) merge(words []int32) ([]int32, error) {
	if len(words) == 0 {
		return nil, nil
	}
	b, err := s.alloc(F32, len(words))
	if err != nil {
		return nil, err
	}
	defer s.Backend.Free(b.Mem)
	bits := unsafe.Slice((*float32)(unsafe.Pointer(&words[0])), len(words))
	if err := s.Backend.Upload(b, bits); err != nil {
		return nil, err
	}
	if err := s.Group.Merge(b); err != nil {
		return nil, err
	}
	return words, s.Backend.Download(bits, b)
}
