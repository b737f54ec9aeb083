package attention

import "fmt"

// A CacheType is how a cache keeps its elements. In fp8 each vector (a head's key, value, tied state or latent of one
// token) is E4M3 with a scale of its own, a power of two in one byte; the rope key that all heads share stays bf16, and
// so do TPA's factors over heads, which are few numbers each.
type CacheType string

// The types.
const (
	FP32 CacheType = "fp32"
	BF16 CacheType = "bf16"
	FP8  CacheType = "fp8"
)

// CacheTypes are all of them.
var CacheTypes = []CacheType{FP32, BF16, FP8}

// RopeKey is the name of the slot of a rope key that all heads share.
const RopeKey = "kRope"

// KeyHeads and ValueHeads are the names of the slots of factors over heads.
const (
	KeyHeads   = "aK"
	ValueHeads = "aV"
)

// Validate says what the types are.
func (c CacheType) Validate() error {
	switch c {
	case FP32, BF16, FP8:
		return nil
	}
	return fmt.Errorf("attention: cache-type must be fp32, bf16 or fp8, not %q", c)
}

// Of is how a cache of the type keeps a slot.
func (c CacheType) Of(s Slot) CacheType {
	if c == FP8 && (s.Name == RopeKey || s.Name == KeyHeads || s.Name == ValueHeads) {
		return BF16
	}
	return c
}

// ElementBytes is one element without its share of a scale.
func (c CacheType) ElementBytes() int {
	switch c {
	case FP8:
		return 1
	case BF16:
		return 2
	}
	return 4
}

// vectorBytes is one head's vector in the cache, with its scale.
func (s Slot) vectorBytes(c CacheType) int {
	of := c.Of(s)
	n := of.ElementBytes() * s.Dim
	if of == FP8 {
		n++
	}
	return n
}
