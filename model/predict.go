package model

import (
	"fmt"
	"math"
	"strings"

	"headroom/attention"
	"headroom/internal/roofline"
)

// A StepCost is the time of a decode step on one device: fixed seconds (weights, launches), and more for each row of
// the batch and for each byte of cache that is read.
type StepCost struct {
	Fixed float64 `json:"fixed_seconds"`
	Row   float64 `json:"seconds_per_row"`
	Byte  float64 `json:"seconds_per_cache_byte"`
}

func (c StepCost) step(rows, cache float64) float64 { return c.Fixed + c.Row*rows + c.Byte*cache }

// A MeasuredStep is the time of a step that was run.
type MeasuredStep struct{ Rows, Cache, Seconds float64 } // Cache: bytes of the whole batch

// RooflineCost is the lower bound by a GPU's own figures, without launches and waits.
func (t *Transformer) RooflineCost(gpu roofline.GPU) StepCost {
	return StepCost{Fixed: 2 * float64(t.Count().Parameters) / gpu.Bandwidth, Row: t.ForwardFLOPs(1) / gpu.FLOPs,
		Byte: 1 / gpu.Bandwidth}
}

// FitCost is the cost, none of its parts negative, that lies nearest to measured steps by the squares of relative
// errors, and its largest relative error.
func FitCost(steps []MeasuredStep) (best StepCost, worst float64, err error) {
	least := math.Inf(1)
	for use := 1; use < 8; use++ { // every choice of the three parts
		var normal [3][4]float64
		for _, s := range steps {
			x := [3]float64{1, s.Rows, s.Cache}
			for i := range x {
				for j := range x {
					normal[i][j] += x[i] * x[j] / (s.Seconds * s.Seconds)
				}
				normal[i][3] += x[i] / s.Seconds
			}
		}
		part, ok := solve(normal, use)
		if !ok || min(part[0], part[1], part[2]) < 0 {
			continue
		}
		c := StepCost{part[0], part[1], part[2]}
		var sum, most float64
		for _, s := range steps {
			e := math.Abs(c.step(s.Rows, s.Cache)/s.Seconds - 1)
			sum, most = sum+e*e, max(most, e)
		}
		if sum < least*(1-1e-9) {
			least, best, worst = sum, c, most
		}
	}
	if len(steps) < 3 || math.IsInf(least, 1) || math.IsNaN(least) {
		return best, worst, fmt.Errorf("model: %d measured steps do not say what rows and cache cost: three or more are "+
			"needed, of several batches and contexts", len(steps))
	}
	return best, worst, nil
}

// solve finds the chosen unknowns of three linear equations; the others are 0.
func solve(a [3][4]float64, use int) (x [3]float64, ok bool) {
	for i := range a {
		if use>>i&1 == 0 {
			a[i] = [4]float64{}
			for j := range a {
				a[j][i] = 0
			}
			a[i][i] = 1
		}
	}
	for i := range a { // symmetric and positive: no pivots are needed
		if !(math.Abs(a[i][i]) > 1e-300) {
			return x, false
		}
		for j := range a {
			if j != i {
				f := a[j][i] / a[i][i]
				for k := i; k < 4; k++ {
					a[j][k] -= f * a[i][k]
				}
			}
		}
	}
	for i := range a {
		x[i] = a[i][3] / a[i][i]
	}
	return x, true
}

// A Plan divides the devices: DP replicas of TP devices each. Where AttentionDP is above 1, the devices of a replica
// attend in that many groups, each for its part of the rows, and divide everything else among all.
type Plan struct {
	TP          int `json:"tp"`
	DP          int `json:"dp"`
	AttentionDP int `json:"attention_dp"`
}

// A Prediction is a decode step of a plan.
type Prediction struct {
	Plan
	Devices         int     `json:"devices"`
	Rows            int     `json:"rows"`         // of a replica in a step: what is asked for, or what fits
	Largest         int     `json:"largest_rows"` // of a replica that fit
	WeightBytes     float64 `json:"weight_bytes"` // on a device
	CacheBytes      float64 `json:"cache_bytes_per_token"`
	TrafficBytes    float64 `json:"traffic_bytes"` // that a device sends in a step
	Seconds         float64 `json:"step_seconds"`
	TokensPerSecond float64 `json:"tokens_per_second"` // of all replicas
}

// Predict says what a step of batch rows at a context would take on such GPUs, given what it takes on one of its
// devices and how long one sum over a replica's devices takes at least. Weights and the arithmetic of a row divide as
// Shard does, the cache as its layout in a type; two sums a layer go over the links (Shoeybi et al., arXiv 1909.08053).
// What does not divide, launches first of all, stays. Rows that do not fit wait for others.
func (t *Transformer) Predict(cost StepCost, gpu roofline.GPU, latency float64, p Plan, batch, context int,
	cache attention.CacheType) (r Prediction, err error) {
	if p.TP < 1 || p.DP < 1 || p.AttentionDP < 1 || p.TP%p.AttentionDP != 0 || batch < 1 || context < 1 {
		return r,
			fmt.Errorf("model: tp %d, dp %d, attention-dp %d (a divisor of tp), batch %d and context %d must be positive", p.TP,
				p.DP, p.AttentionDP, batch, context)
	}
	group := p.TP / p.AttentionDP
	rest, err := t.Shard(p.TP)
	if err != nil {
		return r, err
	}
	attend, err := t.Shard(group)
	if err != nil {
		return r, err
	}
	own, whole := float64(attend.parameters(true)+rest.parameters(false)), float64(t.Count().Parameters)
	share := own / whole
	r = Prediction{Plan: p, Devices: p.TP * p.DP, WeightBytes: 2 * own,
		CacheBytes: float64(t.CacheBytes(group, cache))}
	request := float64(t.RequestBytes(context, group, cache))
	row := request / float64(p.AttentionDP) // of a replica's row, on a device
	r.Largest = int(max(0, (gpu.Memory-r.WeightBytes)/row))
	if r.Rows = min((batch+p.DP-1)/p.DP, r.Largest); r.Rows == 0 {
		return r,
			fmt.Errorf("model: %s at tp %d does not fit: weights take %.1f GB of a device's %.1f, a row of %d tokens %.2f",
				t.Attention.Name(), p.TP, r.WeightBytes/1e9, gpu.Memory/1e9, context, row/1e9)
	}
	rows := float64(r.Rows)
	read := 2 * whole / gpu.Bandwidth // the part of Fixed that is weights
	r.Seconds = max(cost.Fixed-read, 0) + min(cost.Fixed, read)*share + cost.Row*rows*share +
		cost.Byte*request*math.Ceil(rows/float64(p.AttentionDP))
	if p.TP > 1 {
		sums := float64(2 * t.Config.Layers)
		each := 2 * float64(p.TP-1) / float64(p.TP) * rows * float64(t.Config.Width) * 2
		r.TrafficBytes = sums * each
		r.Seconds += sums * (latency + each/gpu.Link)
	}
	r.TokensPerSecond = rows * float64(p.DP) / r.Seconds
	return r, nil
}

// parameters counts those of attention, or all others.
func (t *Transformer) parameters(ofAttention bool) (n int64) {
	for _, p := range t.Params() {
		if strings.Contains(p.Name, ".attn.") == ofAttention {
			n += int64(p.Size())
		}
	}
	return n
}
