package kernels

import "math/rand/v2"

// A DecodeProblem is one measurement of decode attention: B requests of S cached tokens each, or around S when Ragged.
type DecodeProblem struct {
	DecodeShape
	Name   string
	S      int
	Ragged bool
}

// A DecodeTime is the time of a problem on a device with cold caches, with everything that the result needs. Bytes are
// distinct ones: the cache once, queries and outputs; FLOPs are of true rows.
type DecodeTime struct {
	Name         string  `json:"name"`
	Kind         string  `json:"kind"`
	B            int     `json:"batch"`
	S            int     `json:"length"`
	Ragged       bool    `json:"ragged,omitempty"`
	T            int     `json:"queries"`
	H            int     `json:"heads"`
	G            int     `json:"kv_heads"`
	Dv           int     `json:"value_dim"`
	R            int     `json:"rope_dim"`
	Page         int     `json:"page"`
	Cache        string  `json:"cache_type"`
	Micros       float64 `json:"us"`
	Least        float64 `json:"us_min"`
	Most         float64 `json:"us_max"`
	GBs          float64 `json:"gb_per_s"`
	TFLOPs       float64 `json:"tflop_per_s"`
	OfCopy       float64 `json:"share_of_copy"`
	OfProduct    float64 `json:"share_of_product"`
	Intensity    float64 `json:"flop_per_byte"`
	CopyGBs      float64 `json:"copy_gb_per_s"`
	ProductTFLOP float64 `json:"product_tflop_per_s"`
}

// DecodeTable is the table of decode speeds that the project holds itself to, at one page size.
func DecodeTable(page int) []DecodeProblem {
	row := func(name, cache string, b, s, t, h, g, p, r, dv int) DecodeProblem {
		return DecodeProblem{DecodeShape: DecodeShape{Cache: cache, B: b, T: t, H: h, G: g, P: p, R: r, Dv: dv, Page: page},
			Name: name, S: s}
	}
	return []DecodeProblem{
		row("GTA-8 H64", Tied, 128, 8192, 1, 64, 8, 64, 64, 128),
		row("GQA-8 H64", KV, 128, 8192, 1, 64, 8, 128, 0, 128),
		row("GLA-2 H128", Latent, 128, 8192, 1, 128, 2, 256, 64, 256),
		row("GLA-2 H128", Latent, 128, 8192, 2, 128, 2, 256, 64, 256),
		row("GLA-2 H16", Latent, 128, 8192, 1, 16, 2, 256, 64, 256),
		row("GLA, one latent of 256, H64", Latent, 128, 8192, 2, 64, 1, 256, 64, 256),
		row("MLA H16", Latent, 128, 8192, 1, 16, 1, 512, 64, 512),
		row("MLA H64", Latent, 128, 8192, 2, 64, 1, 512, 64, 512),
		row("MLA H128", Latent, 128, 8192, 2, 128, 1, 512, 64, 512),
		row("GLA-2 H16", Latent, 32, 8192, 1, 16, 2, 256, 64, 256),
		row("GLA-2 H128", Latent, 8, 32768, 1, 128, 2, 256, 64, 256),
		row("GLA-2 H16", Latent, 1, 65536, 1, 16, 2, 256, 64, 256),
		row("MLA H128", Latent, 1, 65536, 1, 128, 1, 512, 64, 512),
		row("GLA-2 H128", Latent, 128, 8192, 4, 128, 2, 256, 64, 256),
		row("GLA-2 H128", Latent, 128, 8192, 8, 128, 2, 256, 64, 256),
		row("MLA H64", Latent, 128, 8192, 4, 64, 1, 512, 64, 512),
		row("MLA H64", Latent, 128, 8192, 8, 64, 1, 512, 64, 512),
	}
}

// lengths are the requests' tokens: S, or normal around it with half of it as deviation, from 1 to 2S.
func (d DecodeProblem) lengths(r *rand.Rand) []int32 {
	n := make([]int32, d.B)
	for i := range n {
		n[i] = int32(d.S)
		if d.Ragged {
			n[i] = int32(min(max(float64(d.S)*(1+r.NormFloat64()/2), 1), 2*float64(d.S)))
		}
	}
	return n
}

// work counts the distinct bytes and the operations of a problem with these lengths.
func (d DecodeProblem) work(lengths []int32) (bytes, flops float64) {
	tensor, token := 2*d.G*d.Dv, 2*d.R // bytes of a token
	if d.FP8 {
		tensor = d.G * (d.Dv + 1)
	}
	if token += tensor; d.Cache == KV {
		token += tensor
	}
	rows := float64(d.T * d.H)
	for _, n := range lengths {
		bytes += float64(n)*float64(token) + 2*rows*float64(d.P+d.R+d.Dv)
		for t := range d.T {
			flops += 2 * float64(d.H) * float64(max(int(n)-d.T+t+1, 0)) * float64(d.P+d.R+d.Dv)
		}
	}
	return bytes, flops
}

// time fills a row from the sorted times, in microseconds, and the ceilings.
func (d DecodeProblem) time(micros []float64, lengths []int32, copyGBs, productTFLOP float64) DecodeTime {
	bytes, flops := d.work(lengths)
	us, cache := micros[len(micros)/2], "bf16"
	if d.FP8 {
		cache = "fp8"
	}
	gbs, tflops := bytes/us/1e3, flops/us/1e6
	return DecodeTime{
		Name: d.Name, Kind: d.Cache, B: d.B, S: d.S, Ragged: d.Ragged, T: d.T, H: d.H, G: d.G, Dv: d.Dv, R: d.R, Page: d.Page,
		Cache:  cache,
		Micros: us, Least: micros[0], Most: micros[len(micros)-1], GBs: gbs, TFLOPs: tflops, OfCopy: gbs / copyGBs,
		OfProduct: tflops / productTFLOP,
		Intensity: flops / bytes, CopyGBs: copyGBs, ProductTFLOP: productTFLOP,
	}
}
