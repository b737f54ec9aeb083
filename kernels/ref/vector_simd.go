//go:build goexperiment.simd && amd64

package ref

// vectors lists the implementations that this machine can run, the best one last.
func vectors() []vector { return []vector{scalar} }
