package model_test

import (
	"fmt"

	"headroom/attention"
	"headroom/model"
)

// The sizes of the paper's models of one width: their parameters, and the cache of a token in all layers in bf16.
func Example() {
	for _, name := range []string{"gqa-4", "gta-4", "mla", "gla-2"} {
		config, kind, err := model.Preset("876m", name)
		if err != nil {
			fmt.Println(err)
			return
		}
		m, err := model.New(config, kind)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Printf("%-5s  %d parameters, %d bytes of cache\n", name, m.Count().Parameters, m.CacheBytes(1, attention.BF16))
	}
	// Output:
	// gqa-4  876553728 parameters, 36864 bytes of cache
	// gta-4  876554880 parameters, 20736 bytes of cache
	// mla    876732672 parameters, 19968 bytes of cache
	// gla-2  876732672 parameters, 19968 bytes of cache
}
