//go:build openblas && static

package ref

// OpenBLAS inside the program, for machines that have none.

// #cgo LDFLAGS: -l:libopenblas.a -lm -lpthread
import "C"
