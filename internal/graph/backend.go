package graph

import "fmt"

// DType is how the elements of a buffer are stored. The graph itself is float32 throughout: storage is the backend's
// policy.
type DType int

const (
	F32 DType = iota
	BF16
	I32
)

// Size is the bytes of one element.
func (t DType) Size() int {
	if t == BF16 {
		return 2
	}
	return 4
}

func (t DType) String() string { return [...]string{"fp32", "bf16", "int32"}[t] }

// Memory is one allocation of a backend.
type Memory interface{ Bytes() int }

// A Buf is Len elements in a backend's memory, Off bytes from its start. The zero Buf is an output nobody reads.
type Buf struct {
	Mem  Memory
	Off  int
	Len  int
	Type DType
}

// Missing says that there is no buffer: an output nobody reads, which the kernel need not compute.
func (b Buf) Missing() bool { return b.Len == 0 }

// An Out is where an instruction writes: it overwrites the buffer or adds to it.
type Out struct {
	Buf
	Accumulate bool
}

// An Instr is one kernel call of a compiled graph. In holds the operands in the order of the op, then the aux buffers
// of the forward op where the op reads them; Out the outputs, Aux the op's own aux buffers.
type Instr struct {
	Attr Attr
	In   []Buf
	Out  []Out
	Aux  []Out
}

func (in *Instr) String() string { return fmt.Sprintf("%+v", in.Attr) }

// A Kernel runs one or more instructions whose buffers are bound.
type Kernel func() error

// Hyper has the values that may change from one optimizer step to the next.
type Hyper struct {
	LR, Beta1, Beta2, Eps, Decay float64
	Clip                         float64 // largest global gradient norm, 0 for none
	Step                         int     // from 1, for the bias corrections
}

// An Optimizer clips the gradient by its global norm and applies AdamW, on flat buffers.
type Optimizer interface {
	Set(h Hyper) error      // for the next Run
	Run() error             // a Kernel
	Norm() (float64, error) // of the last gradient, before clipping
}

// OptimizerBufs are the flat buffers of a store: equal lengths, the first Decayed elements with weight decay. The
// gradients are sums over Accum micro-batches. Compute is the copy that kernels read, the same as Values when both
// are float32.
type OptimizerBufs struct {
	Values, Compute, Grads, M, V Buf
	Decayed, Accum               int
	Group                        Group // whose other ranks have the rest of the gradient, or nil
}

// A Feed carries the tokens of one step after another to the device. Put brings the next step's, n tokens in all,
// beside the step that runs, of which there may be one; the slice may change when it returns. Take moves those from
// index at on to an input, in order with the kernels.
type Feed interface {
	Put(tokens []int32) error
	Take(dst Buf, at int) error
	Close() error
}

// A Recording is kernels that run in order as one. It is closed before the group whose collectives are among them: NCCL
// waits in the end of a communicator for every recording that has one of its calls.
type Recording interface {
	Run() error // a Kernel
	Close() error
}

// A Backend runs instructions on one device. Everything else in this package is the same on all of them.
type Backend interface {
	Name() string
	Activation() DType // storage of activations and of the weights that kernels read
	Alloc(bytes int) (Memory, error)
	Free(Memory)
	Upload(dst Buf, src []float32) error
	UploadTokens(dst Buf, src []int32) error
	Download(dst []float32, src Buf) error
	Compile(in *Instr) (Kernel, error)
	Capture(ks []Kernel) (Recording, error)
	Optimizer(b OptimizerBufs) (Optimizer, error)
	Feed(n int) (Feed, error)
	Join(id []byte, rank, size int) (Group, error) // the group of that id, when all its ranks are there
	Sync() error                                   // waits until everything so far is done
	Used() (int, error)                            // bytes of the device's memory that this process has taken
	ProductCeiling() (float64, error)              // operations a second of one large product, measured now

	// Choices are the algorithms that Compile found fastest, by shape; Choose has later Compiles take them instead of
	// timing again. Another algorithm rounds differently, so a run that resumes bit for bit chooses those that it had
	// before.
	Choices() map[string]int
	Choose(map[string]int)

	Close() error
}
