package attention

// A CacheForm is a way to keep keys and values, which the kernels of decoding are made for.
type CacheForm string

// The forms.
const (
	KeyValue CacheForm = "kv"     // keys and values apart
	Tied     CacheForm = "tied"   // one state whose first columns are the key's, and all the value's, and one rope key
	Latent   CacheForm = "latent" // latents that are key and value to absorbed queries, and one rope key
	// one state, the value's columns and the key's, whose key is rotated when it is read
	Unrotated CacheForm = "unrotated"
	Factored  CacheForm = "factored" // factors over heads and over columns, whose products are keys and values
)

// heads is the word for what a configuration's groups count.
func (d Description) heads() string {
	if d.Cache == Latent && !d.One {
		return "latent heads"
	}
	return "key/value heads"
}

// A Shape is what the products of attention see of a kind. In training a query has Query columns and a value Value. In
// decoding a key is P columns of its own head and R that all heads share, and a value is Dv columns.
type Shape struct {
	Query, Value int
	P, R, Dv     int
}

// A Slot is one tensor of the cache: Heads vectors of Dim elements for each token of each layer.
type Slot struct {
	Name  string
	Heads int
	Dim   int
}

// Layout is what one token leaves behind in one layer.
type Layout []Slot

// Elements counts them per token and layer.
func (l Layout) Elements() int { return l.ElementsPerDevice(1) }

// ElementsPerDevice counts them on one of t tensor-parallel devices: heads are dealt out, as evenly as they can be, and
// a slot with one head is held by every device.
func (l Layout) ElementsPerDevice(t int) int {
	n := 0
	for _, s := range l {
		n += (s.Heads + t - 1) / t * s.Dim
	}
	return n
}

// Bytes is the cache of one token and layer on one of t devices, kept as a type says.
func (l Layout) Bytes(t int, c CacheType) (n int) {
	for _, s := range l {
		n += (s.Heads + t - 1) / t * s.vectorBytes(c)
	}
	return n
}
