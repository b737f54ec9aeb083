// Package safetensors reads and writes the safetensors format (github.com/huggingface/safetensors): eight bytes of
// header length, a JSON header that names each tensor's type, shape and place, and the tensors' bytes, little-endian.
//
// A reader trusts nothing: lengths, types, shapes, offsets, overlaps and holes are checked before a tensor is read. A
// writer leaves a whole file or none.
package safetensors

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/bits"
	"os"
	"slices"
	"strings"
)

// DType is the type of a tensor's elements, as the format spells it.
type DType string

// The types that this package reads and writes.
const (
	F32  DType = "F32"
	F64  DType = "F64"
	F16  DType = "F16"
	BF16 DType = "BF16"
	I32  DType = "I32"
	I64  DType = "I64"
	U8   DType = "U8"
)

// Size is the bytes of one element, 0 for a type that is not known.
func (t DType) Size() int {
	switch t {
	case F64, I64:
		return 8
	case F32, I32:
		return 4
	case F16, BF16:
		return 2
	case U8:
		return 1
	}
	return 0
}

// maxHeader bounds what a reader allocates on the word of a file.
const maxHeader = 100 << 20

// Info is one tensor's entry in the header. Offsets count from the end of the header.
type Info struct {
	DType   DType    `json:"dtype"`
	Shape   []int    `json:"shape"`
	Offsets [2]int64 `json:"data_offsets"`
}

// Elements is the product of the shape.
func (i Info) Elements() int {
	n := 1
	for _, d := range i.Shape {
		n *= d
	}
	return n
}

// A File is an open safetensors file.
type File struct {
	Metadata map[string]string
	Tensors  map[string]Info

	r     io.ReaderAt
	close func() error
	name  string
	data  int64 // where the tensors begin
}

// Open opens a file and checks its header.
func Open(path string) (*File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("safetensors: %w", err)
	}
	st, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("safetensors: %w", err)
	}
	s, err := Read(path, f, st.Size())
	if err != nil {
		f.Close()
		return nil, err
	}
	s.close = f.Close
	return s, nil
}

// Read checks the header of a file of the given size and name.
func Read(name string, r io.ReaderAt, size int64) (*File, error) {
	fail := func(format string, args ...any) (*File, error) {
		return nil, fmt.Errorf("safetensors: %s: %s", name, fmt.Sprintf(format, args...))
	}
	var head [8]byte
	if size < int64(len(head)) {
		return fail("%d bytes are too few for a header", size)
	}
	if _, err := r.ReadAt(head[:], 0); err != nil {
		return nil, fmt.Errorf("safetensors: %s: %w", name, err)
	}
	n := binary.LittleEndian.Uint64(head[:])
	if n > maxHeader || int64(n) > size-8 {
		return fail("a header of %d bytes in a file of %d", n, size)
	}
	header := make([]byte, n)
	if _, err := r.ReadAt(header, 8); err != nil {
		return nil, fmt.Errorf("safetensors: %s: %w", name, err)
	}
	f := &File{Tensors: map[string]Info{}, r: r, name: name, data: 8 + int64(n), close: func() error { return nil }}
	var entries map[string]json.RawMessage
	if err := json.Unmarshal(header, &entries); err != nil {
		return fail("the header is no JSON object: %v", err)
	}
	for key, raw := range entries {
		if key == "__metadata__" {
			if err := json.Unmarshal(raw, &f.Metadata); err != nil {
				return fail("metadata must be strings: %v", err)
			}
			continue
		}
		var info Info
		if err := json.Unmarshal(raw, &info); err != nil {
			return fail("tensor %s: %v", key, err)
		}
		f.Tensors[key] = info
	}
	if err := f.check(size - f.data); err != nil {
		return fail("%v", err)
	}
	return f, nil
}

// check holds every entry against its shape and against the bytes there are: the tensors must fill them exactly.
func (f *File) check(size int64) error {
	names := f.Names()
	slices.SortFunc(names, func(a, b string) int {
		x, y := f.Tensors[a].Offsets, f.Tensors[b].Offsets
		return slices.Compare(x[:], y[:])
	})
	end := int64(0)
	for _, name := range names {
		info := f.Tensors[name]
		want, err := info.bytes()
		if err != nil {
			return fmt.Errorf("tensor %s: %w", name, err)
		}
		lo, hi := info.Offsets[0], info.Offsets[1]
		switch {
		case lo < 0 || hi < lo || hi > size:
			return fmt.Errorf("tensor %s: bytes %d to %d of %d", name, lo, hi, size)
		case hi-lo != want:
			return fmt.Errorf("tensor %s: %d bytes for %s %v, which takes %d", name, hi-lo, info.DType, info.Shape, want)
		case lo < end:
			return fmt.Errorf("tensor %s overlaps the one before it", name)
		case lo > end:
			return fmt.Errorf("%d bytes before tensor %s belong to no tensor", lo-end, name)
		}
		end = hi
	}
	if end != size {
		return fmt.Errorf("the tensors end at byte %d of %d", end, size)
	}
	return nil
}

// bytes is what the shape takes.
func (i Info) bytes() (int64, error) {
	size := uint64(i.DType.Size())
	if size == 0 {
		return 0, fmt.Errorf("type %q is not known", i.DType)
	}
	for _, d := range i.Shape {
		hi, lo := bits.Mul64(size, uint64(d))
		if d < 0 || hi != 0 || lo > math.MaxInt64 {
			return 0, fmt.Errorf("shape %v is not possible", i.Shape)
		}
		size = lo
	}
	return int64(size), nil
}

// Names lists the tensors in order.
func (f *File) Names() []string {
	names := make([]string, 0, len(f.Tensors))
	for name := range f.Tensors {
		names = append(names, name)
	}
	slices.SortFunc(names, strings.Compare)
	return names
}

// Bytes reads a tensor as it is stored.
func (f *File) Bytes(name string) ([]byte, Info, error) {
	info, ok := f.Tensors[name]
	if !ok {
		return nil, info, fmt.Errorf("safetensors: %s: no tensor is named %s", f.name, name)
	}
	b := make([]byte, info.Offsets[1]-info.Offsets[0])
	if len(b) == 0 {
		return b, info, nil
	}
	if _, err := f.r.ReadAt(b, f.data+info.Offsets[0]); err != nil {
		return nil, info, fmt.Errorf("safetensors: %s: tensor %s: %w", f.name, name, err)
	}
	return b, info, nil
}

// Float32 reads a tensor of F32, F16 or BF16.
func (f *File) Float32(name string) ([]float32, Info, error) {
	b, info, err := f.Bytes(name)
	if err != nil {
		return nil, info, err
	}
	x := make([]float32, info.Elements())
	switch info.DType {
	case F32:
		for i := range x {
			x[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
		}
	case BF16:
		for i := range x {
			x[i] = FromBF16(binary.LittleEndian.Uint16(b[2*i:]))
		}
	case F16:
		for i := range x {
			x[i] = FromF16(binary.LittleEndian.Uint16(b[2*i:]))
		}
	default:
		return nil, info, fmt.Errorf("safetensors: %s: tensor %s is %s, not F32, F16 or BF16", f.name, name, info.DType)
	}
	return x, info, nil
}

// Close closes the file.
func (f *File) Close() error { return f.close() }
