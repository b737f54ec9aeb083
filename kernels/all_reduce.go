//go:build gpu

package kernels

import (
	"cmp"
	"fmt"
	"time"

	"headroom/internal/device"
)

// Peers is what the GPUs of one process share to sum among themselves, as one of them sees it. Ranks whose calls go
// onto several streams have Peers for each.
type Peers struct {
	Rank    int
	Inboxes []device.Buffer       // of each rank, InboxBytes of zeros in its own memory
	Turns   device.Buffer         // int32 [PeerBlocks] of zeros, this rank's
	Failed  *device.Pinned[int32] // one 0

	Patience time.Duration // how long a kernel waits for another rank's part before it gives up; 0 is 10 s
}

// What all_reduce.cu has by the same names.
const (
	PeerRanks   = 8 // inboxes of peersArgs
	PeerBlocks  = 128
	peerThreads = 256
	peerRounds  = 4
)

// MostAllReduce is the bytes that an AllReduce takes at most: NCCL's sums of more are faster, on two GPUs.
// MostAllLargest is the rows of an AllLargest.
const (
	MostAllReduce  = PeerBlocks * peerThreads * peerRounds * 16
	MostAllLargest = PeerBlocks * peerRounds
)

// InboxBytes is the size of an inbox among so many ranks.
func InboxBytes(ranks int) int { return 2 * ranks * 2 * MostAllReduce }

// Err says which rank was waited for in vain.
func (p *Peers) Err() error {
	if from := p.Failed.Data[0]; from != 0 {
		return fmt.Errorf("kernels: GPU %d waited %v for what GPU %d adds to a sum", p.Rank, p.patience(), from-1)
	}
	return nil
}

func (p *Peers) patience() time.Duration { return cmp.Or(p.Patience, 10*time.Second) }

// peersArgs is Peers in all_reduce.cu.
type peersArgs struct {
	inbox        [8]device.Ptr
	turn, failed device.Ptr
	patience     int64
	rank, ranks  int32
}

func (p *Peers) args() (a peersArgs) {
	for i, b := range p.Inboxes {
		a.inbox[i] = b.Ptr
	}
	a.turn, a.failed, a.patience = p.Turns.Ptr, p.Failed.Ptr(), int64(p.patience())
	a.rank, a.ranks = int32(p.Rank), int32(len(p.Inboxes))
	return a
}

func (p *Peers) fits(s *device.Stream, kernel string) bool {
	wants := []want{{"Turns", p.Turns, PeerBlocks, device.I32}}
	for _, b := range p.Inboxes {
		wants = append(wants, want{"Inbox", b, InboxBytes(len(p.Inboxes)), device.U8})
	}
	if n := len(p.Inboxes); n < 1 || n > PeerRanks {
		s.Fail(fmt.Errorf("kernels: %s: 1 to %d ranks are supported, they are %d", kernel, PeerRanks, n))
		return false
	}
	return fits(s, kernel, wants...)
}

// An AllReduce is Y = Add + Σ X, over X of all ranks in their order, in float32 for bf16: the same bits on all. Add may
// be absent, Y may be X or Add. Types are f32, bf16 and i32. All ranks make the same calls of AllReduce and AllLargest
// in the same order.
type AllReduce struct {
	Peers     *Peers
	X, Add, Y device.Buffer
}

type allReduceArgs struct {
	peers     peersArgs
	x, add, y device.Ptr
	n         int64
}

var allReduceNames = [2]map[device.Type]string{
	{device.F32: "all_reduce_f32", device.BF16: "all_reduce_bf16", device.I32: "all_reduce_i32"},
	{device.F32: "all_reduce_any_f32", device.BF16: "all_reduce_any_bf16", device.I32: "all_reduce_any_i32"},
}

// Launch puts the kernel on the stream.
func (k *AllReduce) Launch(s *device.Stream) {
	t, n := k.X.Type, k.X.N
	wants := []want{{"Y", k.Y, n, t}}
	if !k.Add.Nil() {
		wants = append(wants, want{"Add", k.Add, n, t})
	}
	name := allReduceNames[anyForm(t, n, k.X, k.Add, k.Y)][t]
	switch {
	case name == "":
		s.Fail(fmt.Errorf("kernels: all reduce: f32, bf16 and i32 are supported, the type is %v", t))
	case k.X.Bytes() > MostAllReduce:
		s.Fail(fmt.Errorf("kernels: all reduce: up to %d bytes are supported, they are %d", MostAllReduce, k.X.Bytes()))
	case fits(s, "all reduce", wants...) && k.Peers.fits(s, "all reduce") && n > 0:
		blocks := min(ceil(n, peerThreads*pack(t)), PeerBlocks)
		device.Launch(s, name, device.Grid{X: blocks, Block: peerThreads, Overlap: true},
			&allReduceArgs{k.Peers.args(), k.X.Ptr, k.Add.Ptr, k.Y.Ptr, int64(n)})
	}
}

// An AllLargest writes the token of each row's largest logit, the first of equals, to Tokens [Rows] int32, where every
// rank has the logits of N tokens from First on: Logits [Rows, N] float32 at row stride Ld, or the Best that a
// StepLogits of the same Rows, C and N has written.
type AllLargest struct {
	Peers                 *Peers
	Rows, C, N, Ld, First int
	Best, Logits, Tokens  device.Buffer
}

type allLargestArgs struct {
	peers                     peersArgs
	best, logits, tokens      device.Ptr
	rows, bests, n, ld, first int32
}

// Launch puts the kernel on the stream.
func (k *AllLargest) Launch(s *device.Stream) {
	wants := []want{{"Tokens", k.Tokens, k.Rows, device.I32}}
	blocks := 0
	if k.Best.Nil() {
		wants = append(wants, want{"Logits", k.Logits, span(k.Rows, k.Ld, k.N), device.F32})
	} else {
		wants = append(wants, want{"Best", k.Best, k.Rows * StepBests, device.F64})
		blocks = newStepGrid(k.Rows, k.C, ceil(k.N, 16), s.Device().SMs).blocks
	}
	switch {
	case k.Rows > MostAllLargest:
		s.Fail(fmt.Errorf("kernels: all largest: up to %d rows are supported, they are %d", MostAllLargest, k.Rows))
	case fits(s, "all largest", wants...) && k.Peers.fits(s, "all largest") && k.Rows > 0:
		device.Launch(s, "all_largest", device.Grid{X: min(k.Rows, PeerBlocks), Block: 256, Overlap: true},
			&allLargestArgs{k.Peers.args(), k.Best.Ptr, k.Logits.Ptr, k.Tokens.Ptr, int32(k.Rows), int32(blocks), int32(k.N),
				int32(k.Ld), int32(k.First)})
	}
}
