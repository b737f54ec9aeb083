//go:build openblas && !static

package ref

// OpenBLAS, as the package manager installs it.

// #cgo LDFLAGS: -lopenblas
import "C"
