package attention

// The arithmetic of decoding: q new tokens of each request against S cached ones, attention alone, in bf16 but for the
// cache, which has a type. A device has H/t of the heads and its part of the cache. The batch multiplies operations and
// bytes alike, so it never shows.

const elementBytes = 2 // bf16

// Intensity is the operations per byte that q queries tend to in a long context, where the cache is all of the traffic
// and the rope key is small beside the rest: 2·q·g/m. g = H/G query heads read one key/value or latent head, and m is
// 1 where key and value are one state (gta, latent kinds, mfa_kr and tie_kv), else 2. MHA has 1, GQA g, MQA and MFA H,
// GTA 2g, MLA 2H, GQLA 2H as well, GLA 2H/n. Of MLRA's n latents each head reads b, so that g = H·b/n: MLRA-4 has 2H,
// and MLRA-2 H. TPA's R products of D columns a head read 2·R·(H+D) elements, H·D/(H+D) for each query.
func (c Config) Intensity(q int) float64 {
	c = c.Resolve()
	m := 1
	switch c.Form() {
	case KeyValue:
		m = 2
	case Factored:
		return float64(q) * float64(c.Heads*c.HeadDim) / float64(c.Heads+c.HeadDim)
	}
	return 2 * float64(q) * float64(c.Reads()) / float64(c.CachedHeads()*m)
}

// Duplication is how many of t devices hold the same head of the cache: ceil(t·g/H) = ceil(t/G). It is 1 as long as
// there is a head for each device.
func (c Config) Duplication(t int) int { return ceil(t, c.CachedHeads()) }

// Work is what one request of decoding takes on one device.
type Work struct{ FLOPs, Bytes float64 }

// DecodeWork is that of q queries in a context of S tokens on one of t devices:
//
//	operations = 2 · q·S · h·(K + V)
//	bytes      = S·E + 2 · q·h·(K + V)
//
// In a layer with a window S is at most that, and of the E no more than the window's and the other queries' are read.
// h = ceil(H/t) heads have queries of K = P+R and outputs of V = Dv columns, and E bytes of a token's cache lie on the
// device; a head that reads b latents of MLRA counts as b. Latent kinds decode absorbed: K = L+R and V = L. The others
// have K = V = D.
//
// TPA's factors are read as they lie: each of their R products counts.
//
// The paper counts GLA's rope key once per latent head: that is GLA-n on n devices, each with its own copy of it.
func (c Config) DecodeWork(l Layout, q, S, t int, cache CacheType) Work {
	s := c.Shape()
	columns, products := float64(q)*float64(ceil(c.Reads(), t)*(s.P+s.R+s.Dv)), 1
	if c.Form() == Factored {
		products = c.Resolve().KVRank
	}
	return Work{
		FLOPs: 2 * float64(Kept(S, c.Window)) * columns * float64(products),
		Bytes: float64(min(S, Kept(S, c.Window)+q-1))*float64(l.Bytes(t, cache)) + elementBytes*columns,
	}
}

// Intensity is operations per byte.
func (w Work) Intensity() float64 { return w.FLOPs / w.Bytes }

// Replicated says that some of t devices hold a copy of the same head of the slot, and not each its own.
func (s Slot) Replicated(t int) bool { return s.Heads < t }

func ceil(a, b int) int { return (a + b - 1) / b }
