//go:build !goexperiment.simd || !amd64

package ref

// vectors lists the implementations, the best one last.
func vectors() []vector { return []vector{scalar} }
