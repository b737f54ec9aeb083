package load

import (
	"cmp"
	"slices"
	"time"
)

// A Phase is a part of a load's time, made of pieces that need not be adjacent, with the tokens that came in it.
type Phase struct {
	Seconds         float64 `json:"seconds"`
	TokensPerSecond float64 `json:"tokens_per_second"`
}

// A moment brings tokens, or changes how many requests are in flight and how many of them wait for their first token.
type moment struct {
	at                time.Time
	tokens            float64
	inFlight, waiting int
}

// phases finds the time in which each of so many clients had a request in flight, and the part of it in which all of
// them had their first token.
func phases(all []outcome, clients int) (busy, decoding Phase) {
	var moments []moment
	for _, o := range all {
		if o.err != nil || o.first.IsZero() {
			continue // its end was not observed
		}
		each := float64(o.tokens) / float64(1+len(o.gaps))
		moments = append(moments, moment{o.due, 0, 1, 1}, moment{o.first, each, 0, 0}, moment{o.first, 0, 0, -1})
		at := o.first
		for _, gap := range o.gaps {
			at = at.Add(gap)
			moments = append(moments, moment{at, each, 0, 0})
		}
		moments = append(moments, moment{at, 0, -1, 0})
	}
	slices.SortStableFunc(moments, func(a, b moment) int { // of one time, tokens first
		return cmp.Or(a.at.Compare(b.at), cmp.Compare(b.tokens, a.tokens))
	})
	inFlight, waiting := 0, 0
	var busyTokens, decodingTokens float64
	for i, m := range moments {
		if clients > 0 && inFlight == clients {
			since := m.at.Sub(moments[i-1].at).Seconds()
			busy.Seconds, busyTokens = busy.Seconds+since, busyTokens+m.tokens
			if waiting == 0 {
				decoding.Seconds, decodingTokens = decoding.Seconds+since, decodingTokens+m.tokens
			}
		}
		inFlight, waiting = inFlight+m.inFlight, waiting+m.waiting
	}
	if busy.Seconds > 0 {
		busy.TokensPerSecond = busyTokens / busy.Seconds
	}
	if decoding.Seconds > 0 {
		decoding.TokensPerSecond = decodingTokens / decoding.Seconds
	}
	return busy, decoding
}
