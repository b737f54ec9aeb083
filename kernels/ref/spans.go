package ref

import (
	"runtime"
	"sync"
)

// Spans cuts n units into one range a core, and runs all at once. Unlike the kernels' pool, it may be called from
// anywhere.
func Spans(n int, span func(lo, hi int)) {
	var wait sync.WaitGroup
	cores := min(n, runtime.GOMAXPROCS(0))
	for i := range cores {
		wait.Go(func() { span(i*n/cores, (i+1)*n/cores) })
	}
	wait.Wait()
}
