package data

import (
	"fmt"
	"io"
	"math/bits"
)

// A Batch is B rows of T inputs and the tokens that follow them. A target below zero is not counted.
type Batch struct {
	B, T    int
	Inputs  []int32 // [B, T]
	Targets []int32 // [B, T]
}

// NewBatch returns a batch of zeros.
func NewBatch(b, t int) *Batch {
	return &Batch{B: b, T: t, Inputs: make([]int32, b*t), Targets: make([]int32, b*t)}
}

// A Source hands out batches, and can stop and go on exactly where it stood.
type Source interface {
	Next(batch *Batch) error // io.EOF where there are no more
	State() State
	Restore(State) error
}

// A State is the position of a Source, and what must be the same for the position to mean the same.
type State struct {
	Position int64  `json:"position"` // windows handed out since the start, by all ranks
	Tokens   int64  `json:"tokens"`
	T        int    `json:"t"`
	Stride   int    `json:"stride"`
	Seed     uint64 `json:"seed"`
	Mixture  string `json:"mixture,omitempty"` // slots and tokens of each source, where there are several
}

// restore returns s with the position of saved.
func (s State) restore(saved State) (State, error) {
	s.Position = saved.Position
	if s != saved || saved.Position < 0 {
		if s.Mixture != saved.Mixture {
			return s, fmt.Errorf("data: position of another mixture: saved with %q, now %q", saved.Mixture, s.Mixture)
		}
		return s,
			fmt.Errorf("data: position of other data: saved with %d tokens, T %d, stride %d, seed %d, now %d, %d, %d, %d",
				saved.Tokens, saved.T, saved.Stride, saved.Seed, s.Tokens, s.T, s.Stride, s.Seed)
	}
	return s, nil
}

// A Loader draws windows of T+1 tokens for training, without end: each epoch has every window once, in an order of its
// own. The windows lie at stride T, so that each token but the last few is a target once an epoch. Rank r of a world of
// W takes every W-th batch; the position counts the windows of all, so that a run may go on with another B or W.
type Loader struct {
	sources     []source
	state       State
	rank, world int
	window      []int32 // [T+1]
}

// NewLoader returns a loader for one rank of a world, (0, 1) for a process alone.
func NewLoader(tokens *Tokens, t int, seed uint64, rank, world int) (*Loader, error) {
	if t < 1 || rank < 0 || rank >= world {
		return nil, fmt.Errorf("data: T %d, rank %d of %d: T must be at least 1 and the rank below the world", t, rank, world)
	}
	if tokens.Len() <= int64(t) {
		return nil, fmt.Errorf("data: %d tokens: a window of T %d needs %d", tokens.Len(), t, t+1)
	}
	s := State{Tokens: tokens.Len(), T: t, Stride: t, Seed: seed}
	one := source{tokens: tokens, windows: (tokens.Len() - 1) / int64(t), slots: slots}
	return &Loader{sources: []source{one}, state: s, rank: rank, world: world, window: make([]int32, t+1)}, nil
}

// Windows returns the number of windows in an epoch, of all sources.
func (l *Loader) Windows() (n int64) {
	for _, s := range l.sources {
		n += s.windows
	}
	return n
}

// Next fills a batch, whose T must be the loader's.
func (l *Loader) Next(batch *Batch) error {
	checkBatch(batch, l.state.T)
	for row := range batch.B {
		from, p := l.pick(l.state.Position + int64(l.rank*batch.B+row))
		n := from.windows
		at := permute(p%n, n, mix(mix(l.state.Seed)+uint64(p/n))) * int64(l.state.T)
		if err := from.tokens.Read(l.window, at); err != nil {
			return err
		}
		copy(batch.Inputs[row*batch.T:(row+1)*batch.T], l.window)
		copy(batch.Targets[row*batch.T:(row+1)*batch.T], l.window[1:])
	}
	l.state.Position += int64(l.world * batch.B)
	return nil
}

// State returns the position.
func (l *Loader) State() State { return l.state }

// Restore goes to a position that a loader over the same tokens, T and seed saved.
func (l *Loader) Restore(saved State) (err error) {
	s, err := l.state.restore(saved)
	if err == nil {
		l.state = s
	}
	return err
}

func checkBatch(batch *Batch, t int) {
	if batch.B < 1 || batch.T != t || len(batch.Inputs) != batch.B*t || len(batch.Targets) != batch.B*t {
		panic(fmt.Sprintf("data: batch [%d, %d] with %d inputs and %d targets for T %d", batch.B, batch.T, len(batch.Inputs),
			len(batch.Targets), t))
	}
}

// permute returns where i goes in a shuffle of 0..n-1 that key names, without storing it: a Feistel network over the
// next power of four, walked until it lands below n (fewer than four rounds of it on average).
func permute(i, n int64, key uint64) int64 {
	half := max(1, (bits.Len64(uint64(n-1))+1)/2)
	mask := uint64(1)<<half - 1
	x := uint64(i)
	for {
		left, right := x>>half, x&mask
		for round := range uint64(6) {
			left, right = right, left^mix(right^mix(key+round))&mask
		}
		x = left<<half | right
		if x < uint64(n) {
			return int64(x)
		}
	}
}

// mix is the finisher of splitmix64.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// Windows walks tokens in order for evaluation. A window begins at each multiple of the stride; where windows overlap,
// only the targets that no earlier one had are counted, so that every token but the first is counted exactly once, with
// at least T-stride tokens before it (fewer near the start). Inputs past the end are 0 and targets not counted -1.
type Windows struct {
	tokens *Tokens
	state  State
	window []int32 // [T+1]
}

// NewWindows returns a walk over windows of T inputs; with a stride of T they do not overlap.
func NewWindows(tokens *Tokens, t, stride int) (*Windows, error) {
	if t < 1 || stride < 1 || stride > t {
		return nil, fmt.Errorf("data: T %d, stride %d: the stride must be from 1 to T", t, stride)
	}
	if tokens.Len() < 2 {
		return nil, fmt.Errorf("data: %d tokens: evaluation needs at least 2", tokens.Len())
	}
	return &Windows{tokens: tokens, state: State{Tokens: tokens.Len(), T: t, Stride: stride}, window: make([]int32, t+1)},
		nil
}

// Targets returns how many targets the whole walk counts.
func (w *Windows) Targets() int64 { return w.state.Tokens - 1 }

// Len returns the number of windows of the whole walk.
func (w *Windows) Len() int64 {
	stride := int64(w.state.Stride)
	return 1 + max(0, (w.Targets()-int64(w.state.T)+stride-1)/stride)
}

// Next fills a batch, whose T must be the walk's; the rows of the last one that are left over have no counted target.
// After the last window it returns io.EOF.
func (w *Windows) Next(batch *Batch) error {
	checkBatch(batch, w.state.T)
	if w.state.Position >= w.Len() {
		return io.EOF
	}
	for row := range batch.B {
		inputs, targets := batch.Inputs[row*batch.T:(row+1)*batch.T], batch.Targets[row*batch.T:(row+1)*batch.T]
		clear(inputs)
		for i := range targets {
			targets[i] = -1
		}
		if w.state.Position >= w.Len() {
			continue
		}
		at := w.state.Position * int64(w.state.Stride)
		n := int(min(int64(w.state.T), w.Targets()-at)) // targets in the text
		if err := w.tokens.Read(w.window[:n+1], at); err != nil {
			return err
		}
		counted := 0 // from here on
		if at > 0 {
			counted = w.state.T - w.state.Stride
		}
		copy(inputs, w.window[:n])
		copy(targets[counted:n], w.window[counted+1:n+1])
		w.state.Position++
	}
	return nil
}

// State returns the position.
func (w *Windows) State() State { return w.state }

// Restore goes to a position that a walk over the same tokens, T and stride saved; to its own fresh State to start
// over.
func (w *Windows) Restore(saved State) (err error) {
	s, err := w.state.restore(saved)
	if err == nil {
		w.state = s
	}
	return err
}
