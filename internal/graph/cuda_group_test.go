//go:build gpu

package graph

import (
	"errors"
	"testing"
	"time"

	"headroom/internal/device"
)

// TestGroupCUDA ends a communicator of two GPUs after the recording that has one of its calls, in order and soon.
func TestGroupCUDA(t *testing.T) {
	second, err := NewCUDA(1, F32)
	if err != nil {
		t.Skip("two GPUs are needed: ", err)
	}
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	id, err := device.NewCommID()
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	for rank := range 2 {
		go func() { ended <- recordAndLeave(id, rank) }()
	}
	limit := time.After(50 * time.Second)
	for range 2 {
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
		case <-limit:
			t.Fatal("a rank hangs")
		}
	}
}

func recordAndLeave(id []byte, rank int) error {
	backend, err := NewCUDA(rank, F32)
	if err != nil {
		return err
	}
	defer backend.Close()
	g, err := backend.Join(id, rank, 2)
	if err != nil {
		return err
	}
	mem, err := backend.Alloc(4 * 64)
	if err != nil {
		return err
	}
	defer backend.Free(mem)
	b := Buf{Mem: mem, Len: 64, Type: F32}
	r, err := backend.Capture([]Kernel{func() error { return g.Gather(b) }})
	if err != nil {
		return err
	}
	began := time.Now()
	if err := errors.Join(r.Run(), backend.Sync(), r.Close(), g.Close()); err != nil {
		return err
	}
	if took := time.Since(began); took > 20*time.Second {
		return errors.New("leaving took " + took.String())
	}
	return nil
}
