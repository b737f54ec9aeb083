//go:build gpu

package device

// #include "shim.h"
import "C"

import "fmt"

// A TensorMap describes a tensor to the tensor copy engine. It goes by value into a kernel's argument struct, first, so
// that it lies on a multiple of 64 bytes there.
type TensorMap [128]byte

// Swizzle is how a box is laid out in shared memory.
type Swizzle int

// The swizzles, by the bytes of the box's inner extent.
const (
	NoSwizzle Swizzle = iota
	Swizzle32
	Swizzle64
	Swizzle128
)

// Tiled describes a tensor in b with its innermost dimension first: dims in elements, strides in bytes of the
// dimensions after the first, and the box that one copy moves. Elements outside read as zero.
func Tiled(b Buffer, dims, strides, box []int, swizzle Swizzle) (TensorMap, error) {
	types := map[Type]C.int{
		F32: C.CU_TENSOR_MAP_DATA_TYPE_FLOAT32, BF16: C.CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
		I32: C.CU_TENSOR_MAP_DATA_TYPE_INT32, F64: C.CU_TENSOR_MAP_DATA_TYPE_FLOAT64, U8: C.CU_TENSOR_MAP_DATA_TYPE_UINT8,
	}
	rank := len(dims)
	if rank < 1 || rank > 5 || len(strides) != rank-1 || len(box) != rank {
		panic(fmt.Sprintf("device: tensor map of dims %v, strides %v, box %v", dims, strides, box))
	}
	var cDims, cStrides [5]C.cuuint64_t
	var cBox [5]C.cuuint32_t
	for i := range dims {
		cDims[i], cBox[i] = C.cuuint64_t(dims[i]), C.cuuint32_t(box[i])
	}
	for i := range strides {
		cStrides[i] = C.cuuint64_t(strides[i])
	}
	var m C.CUtensorMap
	r := C.encode_tiled(&m, types[b.Type], C.int(rank), C.CUdeviceptr(b.Ptr), &cDims[0], &cStrides[0],
		&cBox[0], C.int(swizzle))
	if err := check(r); err != nil {
		return TensorMap{}, fmt.Errorf("device: tensor map at %#x, %v, dims %v, strides %v, box %v, swizzle %d: %w", b.Ptr,
			b.Type, dims, strides, box, swizzle, err)
	}
	return tensorMap(&m), nil
}

func tensorMap(m *C.CUtensorMap) (t TensorMap) {
	for i, word := range m.opaque {
		for j := range 8 {
			t[8*i+j] = byte(word >> (8 * j))
		}
	}
	return t
}
