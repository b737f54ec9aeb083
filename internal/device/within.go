package device

import (
	"fmt"
	"time"
)

// within bounds a call into a library that may wait for ever. A call that takes longer is left behind, with an error
// that says so: the process can end.
func within(limit time.Duration, what string, call func() error) error {
	done := make(chan error, 1)
	go func() { done <- call() }()
	select {
	case err := <-done:
		return err
	case <-time.After(limit):
		return fmt.Errorf("device: %s has not ended after %v; this process goes on without it", what, limit)
	}
}
