package ref

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// paged draws a cache of requests of these lengths: pages in random order, NaN in all slots past a length, page numbers
// that cannot be followed in the unused part of the table.
func paged(r *rand.Rand, lengths []int32, page int) (pages []int32, maxPages int, fill func(columns int) []float32) {
	used := 0
	for _, n := range lengths {
		used += (int(n) + page - 1) / page
		maxPages = max(maxPages, (int(n)+page-1)/page+2)
	}
	order := r.Perm(used + 3)
	slots := len(order) * page
	pages = make([]int32, len(lengths)*maxPages)
	held := make([]bool, slots)
	for b, n := range lengths {
		for i := range maxPages {
			pages[b*maxPages+i] = 1 << 30
		}
		for i := range int(n) {
			if i%page == 0 {
				pages[b*maxPages+i/page], order = int32(order[0]), order[1:]
			}
			held[int(pages[b*maxPages+i/page])*page+i%page] = true
		}
	}
	fill = func(columns int) []float32 {
		x := make([]float32, slots*columns)
		for i := range x {
			x[i] = float32(math.NaN())
			if held[i/columns] {
				x[i] = float32(r.NormFloat64())
			}
		}
		return x
	}
	return pages, maxPages, fill
}

func normal(r *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	return x
}

func TestDecode(t *testing.T) {
	for _, kind := range []struct {
		name     string
		P, R, Dv int
		apart    bool
	}{{"kv", 8, 0, 8, true}, {"tied", 4, 4, 8, false}, {"latent", 16, 4, 16, false}} {
		for _, heads := range [][2]int{{1, 1}, {3, 3}, {16, 2}, {63, 1}, {64, 8}, {128, 2}} {
			for _, T := range []int{1, 2, 3, 8} {
				for _, page := range []int{1, 16, 64, 256} {
					name := fmt.Sprintf("%s/H%dG%d/T%d/page%d", kind.name, heads[0], heads[1], T, page)
					t.Run(name, func(t *testing.T) {
						r := rand.New(rand.NewPCG(uint64(T), uint64(page)))
						lengths := []int32{0, 1, int32(page) - 1, int32(page), int32(page) + 1, 127}
						if heads[0] == 3 {
							lengths = append(lengths, 8192)
						}
						pages, maxPages, fill := paged(r, lengths, page)
						k := &Decode{B: len(lengths), T: T, H: heads[0], G: heads[1], P: kind.P, R: kind.R, Dv: kind.Dv, Page: page,
							MaxPages: maxPages, Scale: 0.4, Pages: pages, Lengths: lengths}
						k.Q = normal(r, k.B*T*k.H*(k.P+k.R))
						k.K = fill(k.G * k.Dv)
						if kind.apart {
							k.V = fill(k.G * k.Dv)
						}
						if k.R > 0 {
							k.KRope = fill(k.R)
						}
						k.O, k.LSE = normal(r, k.B*T*k.H*k.Dv), normal(r, k.B*T*k.H)
						k.Run()
						checkDecode(t, k)
					})
				}
			}
		}
	}
}

// checkDecode compares with plain softmax in float64.
func checkDecode(t *testing.T, k *Decode) {
	values := k.V
	if values == nil {
		values = k.K
	}
	for row := range k.B * k.T * k.H {
		b, tt, g := row/(k.T*k.H), row/k.H%k.T, row%k.H/(k.H/k.G)
		want, sum := make([]float64, k.Dv), 0.0
		for i := range int(k.Lengths[b]) - k.T + tt + 1 {
			at := int(k.Pages[b*k.MaxPages+i/k.Page])*k.Page + i%k.Page
			s := 0.0
			for c, q := range k.Q[row*(k.P+k.R) : (row+1)*(k.P+k.R)] {
				if c < k.P {
					s += float64(q) * float64(k.K[(at*k.G+g)*k.Dv+c])
				} else {
					s += float64(q) * float64(k.KRope[at*k.R+c-k.P])
				}
			}
			p := math.Exp(float64(k.Scale) * s)
			sum += p
			for c := range want {
				want[c] += p * float64(values[(at*k.G+g)*k.Dv+c])
			}
		}
		if lse := math.Log(sum); !(math.Abs(float64(k.LSE[row])-lse) < 1e-4) && float64(k.LSE[row]) != lse {
			t.Fatalf("request %d, row %d: log-sum-exp %v, want %v", b, row, k.LSE[row], lse)
		}
		for c := range want {
			if sum > 0 {
				want[c] /= sum
			}
			if !(math.Abs(float64(k.O[row*k.Dv+c])-want[c]) < 1e-4) {
				t.Fatalf("request %d, row %d, column %d: %v, want %v", b, row, c, k.O[row*k.Dv+c], want[c])
			}
		}
	}
}

// TestAppend caches a sequence token by token and in pieces: the cache must be the same, and rotated as Rope does.
func TestAppend(t *testing.T) {
	const G, D, R, page, S = 2, 8, 4, 4, 11
	r := rand.New(rand.NewPCG(1, 2))
	k, v, kr, norm := normal(r, S*G*D), normal(r, S*G*D), normal(r, S*R), normal(r, G*D)
	cache := func(step int, rotate bool, norm []float32) (a *Append) {
		a = &Append{B: 1, G: G, D: D, R: R, Page: page, MaxPages: 3, Rotate: rotate, Rotary: Rotary{Theta: 100},
			Eps: 1e-5, Norm: norm,
			Pages: []int32{2, 0, 1}, Lengths: []int32{0}}
		a.KCache, a.VCache, a.RopeKeys = make([]float32, 3*page*G*D), make([]float32, 3*page*G*D), make([]float32, 3*page*R)
		for at := 0; at < S; at += a.T {
			a.T = min(step, S-at)
			a.K, a.V, a.KRope = k[at*G*D:(at+a.T)*G*D], v[at*G*D:(at+a.T)*G*D], kr[at*R:(at+a.T)*R]
			a.Lengths[0] = int32(at + a.T)
			a.Run()
		}
		return a
	}
	rotated, ropes := make([]float32, S*G*D), make([]float32, S*R)
	(&Rope{X: k, Y: rotated, B: 1, T: S, Heads: G, D: D, R: D, Rotary: Rotary{Theta: 100}}).Run()
	(&Rope{X: kr, Y: ropes, B: 1, T: S, Heads: 1, D: R, R: R, Rotary: Rotary{Theta: 100}}).Run()
	normed := make([]float32, S*G*D)
	(&RMSNorm{X: k, W: norm, Y: normed, Rstd: make([]float32, S*G), Rows: S, Groups: G, C: D, Eps: 1e-5}).Run()
	for _, c := range []struct {
		name   string
		rotate bool
		norm   []float32
		want   []float32
	}{{"rotated", true, nil, rotated}, {"copied", false, nil, k}, {"normed", false, norm, normed}} {
		for _, step := range []int{1, 3, S} {
			a := cache(step, c.rotate, c.norm)
			for i := range S {
				at := slot(a.Pages, page, i)
				for _, x := range []struct {
					name      string
					got, want []float32
				}{{"K", a.KCache[at*G*D : (at+1)*G*D], c.want[i*G*D:]}, {"V", a.VCache[at*G*D : (at+1)*G*D], v[i*G*D:]},
					{"KRope", a.RopeKeys[at*R : (at+1)*R], ropes[i*R:]}} {
					for j := range x.got {
						if math.Abs(float64(x.got[j]-x.want[j])) > 1e-5 {
							t.Fatalf("%s, %d at a time: %s of token %d, column %d: %v, want %v", c.name, step, x.name, i, j,
								x.got[j], x.want[j])
						}
					}
				}
			}
		}
	}
}
