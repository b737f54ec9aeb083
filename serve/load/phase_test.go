package load

import (
	"errors"
	"math"
	"testing"
	"time"
)

// TestPhases lays out the requests of two clients by hand. Times are in seconds from the start.
func TestPhases(t *testing.T) {
	start := time.Now()
	at := func(s float64) time.Time { return start.Add(time.Duration(s * float64(time.Second))) }
	request := func(due, first, gap float64, tokens int) outcome {
		o := outcome{due: at(due), first: at(first), tokens: tokens}
		for range tokens - 1 {
			o.gaps = append(o.gaps, time.Duration(gap*float64(time.Second)))
		}
		o.last = at(first + gap*float64(tokens-1))
		return o
	}
	all := []outcome{
		request(0, 2, 1, 5),   // tokens at 2, 3, 4, 5, 6
		request(1, 4, 1, 7),   // at 4 to 10
		request(7, 8, 1, 5),   // at 8 to 12
		request(10, 11, 2, 1), // at 11
		{due: at(3), err: errors.New("broken off")},
	}
	// Both are busy from 1 to 6, from 7 to 10 and from 10 to 11: 9 s with 2,3,4,4,5,5,6,6 and 8,8,9,9,10,10 and 11,11.
	// All have their first token from 4 to 6 and from 8 to 10: 4 s with 5,5,6,6 and 9,9,10,10. What comes at the moment in
	// which a phase begins came before it.
	busy, decoding := phases(all, 2)
	near := func(p Phase, seconds, tokens float64) bool {
		return math.Abs(p.Seconds-seconds) < 1e-6 && math.Abs(p.TokensPerSecond*p.Seconds-tokens) < 1e-6
	}
	if !near(busy, 9, 16) || !near(decoding, 4, 8) {
		t.Errorf("busy %+v, decoding %+v", busy, decoding)
	}
	if busy, decoding := phases(all, 3); busy.Seconds != 0 || decoding.Seconds != 0 {
		t.Errorf("three clients: busy %+v, decoding %+v", busy, decoding)
	}
	if busy, decoding := phases(all, 0); busy.Seconds != 0 || decoding.Seconds != 0 { // an open loop
		t.Errorf("no clients: busy %+v, decoding %+v", busy, decoding)
	}
}
