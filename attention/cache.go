package attention

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

// Bytes is the cache of one token and layer on one of t devices, at size bytes an element.
func (l Layout) Bytes(t, size int) int { return l.ElementsPerDevice(t) * size }
