package safetensors

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"

	"headroom/internal/disk"
)

// A Tensor is what Write stores under a name. Its values are asked for when their turn comes, so that a model need not
// be in memory twice.
type Tensor struct {
	Name   string
	DType  DType // F32, F16 or BF16
	Shape  []int
	Values func() ([]float32, error)
}

// Write stores tensors and metadata at path, whole or not at all.
func Write(path string, metadata map[string]string, tensors []Tensor) error {
	header, err := header(metadata, tensors)
	if err != nil {
		return fmt.Errorf("safetensors: %s: %w", path, err)
	}
	if err := disk.Write(path, func(w io.Writer) error { return encode(w, header, tensors) }); err != nil {
		return fmt.Errorf("safetensors: %s: %w", path, err)
	}
	return nil
}

// header places the tensors one after the other, and pads itself with spaces to a multiple of eight.
func header(metadata map[string]string, tensors []Tensor) ([]byte, error) {
	entries := map[string]any{}
	if len(metadata) > 0 {
		entries["__metadata__"] = metadata
	}
	at := int64(0)
	for _, t := range tensors {
		if _, dup := entries[t.Name]; dup || t.Name == "__metadata__" {
			return nil, fmt.Errorf("two tensors are named %s", t.Name)
		}
		info := Info{DType: t.DType, Shape: append([]int{}, t.Shape...)} // a scalar's shape is [], not null
		n, err := info.bytes()
		if err != nil {
			return nil, fmt.Errorf("tensor %s: %w", t.Name, err)
		}
		info.Offsets = [2]int64{at, at + n}
		entries[t.Name] = info
		at += n
	}
	b, err := json.Marshal(entries)
	for len(b)%8 != 0 {
		b = append(b, ' ')
	}
	return b, err
}

func encode(w io.Writer, header []byte, tensors []Tensor) error {
	if err := binary.Write(w, binary.LittleEndian, uint64(len(header))); err != nil {
		return err
	}
	if _, err := w.Write(header); err != nil {
		return err
	}
	var buf []byte
	for _, t := range tensors {
		x, err := t.Values()
		if err != nil {
			return err
		}
		if want := (Info{Shape: t.Shape}).Elements(); len(x) != want {
			return fmt.Errorf("tensor %s has %d values, its shape %v takes %d", t.Name, len(x), t.Shape, want)
		}
		if buf, err = AppendFloats(buf[:0], t.DType, x); err != nil {
			return fmt.Errorf("tensor %s: %w", t.Name, err)
		}
		if _, err := w.Write(buf); err != nil {
			return err
		}
	}
	return nil
}

// AppendFloats appends values as a type stores them.
func AppendFloats(b []byte, t DType, x []float32) ([]byte, error) {
	switch t {
	case F32:
		for _, v := range x {
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
		}
	case BF16:
		for _, v := range x {
			b = binary.LittleEndian.AppendUint16(b, ToBF16(v))
		}
	case F16:
		for _, v := range x {
			b = binary.LittleEndian.AppendUint16(b, ToF16(v))
		}
	default:
		return nil, fmt.Errorf("cannot write %s", t)
	}
	return b, nil
}
