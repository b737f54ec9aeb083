package attention_test

import (
	"fmt"

	"headroom/attention"
)

// What a token leaves in the cache of a layer, in bf16, on one device and on each of four that divide the heads; and
// the operations for each byte of it that decoding tends to in a long context.
func Example() {
	for _, name := range []string{"mha", "gqa-4", "gta-4", "mla", "gla-2"} {
		c := attention.Default()
		c.Heads, c.HeadDim = 16, 64
		var err error
		if c.Kind, c.Groups, err = attention.Parse(name); err != nil {
			fmt.Println(err)
			return
		}
		layer, err := attention.New(c, attention.Place{Name: "layer", Width: 1024, NormEps: 1e-5, Std: 0.02, OutStd: 0.02})
		if err != nil {
			fmt.Println(err)
			return
		}
		cache := layer.CacheLayout()
		fmt.Printf("%-5s  %4d bytes, %4d of four, %2.0f operations a byte\n", name, cache.Bytes(1, attention.BF16),
			cache.Bytes(4, attention.BF16), c.Intensity(1))
	}
	// Output:
	// mha    4096 bytes, 1024 of four,  1 operations a byte
	// gqa-4  1024 bytes,  256 of four,  4 operations a byte
	// gta-4   576 bytes,  192 of four,  8 operations a byte
	// mla     576 bytes,  576 of four, 32 operations a byte
	// gla-2   576 bytes,  320 of four, 16 operations a byte
}
