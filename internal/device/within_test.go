package device

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestWithin(t *testing.T) {
	own := errors.New("its own")
	if err := within(time.Hour, "a call", func() error { return own }); err != own {
		t.Errorf("a call that ends: %v", err)
	}
	hang := make(chan bool)
	defer close(hang)
	err := within(10*time.Millisecond, "a call", func() error { <-hang; return nil })
	if err == nil || !strings.Contains(err.Error(), "a call has not ended after 10ms") {
		t.Errorf("a call that hangs: %v", err)
	}
}
