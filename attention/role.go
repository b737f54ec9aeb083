package attention

import (
	"slices"
	"strings"
)

// A Role is what a parameter does in its layer.
type Role int

// The roles. A parameter of another name has none.
const (
	NoRole     Role = iota
	Matrix          // x·W of W [in, out]
	Norm            // of a vector, or of each of n parts
	Bias            // of a matrix
	Parted          // W [n, in, out] by which each of n parts of x is multiplied apart; [in, out] where x is one part
	PartedBias      // of such a W
	Gain            // of a vector's columns; it begins at 0
)

// Role says what the parameter of this name, such as Wdq, does in layers of the kind, and of a bias also whose it is.
// Names tell: matrices begin with W, norms are called norm, gains gain, and bdq is the bias of Wdq.
func (k Kind) Role(name string) (r Role, of string) {
	d, err := k.Describe()
	if err != nil {
		return NoRole, ""
	}
	switch {
	case strings.HasPrefix(name, "norm"):
		return Norm, ""
	case slices.Contains(d.Parts, name):
		return Parted, ""
	case strings.HasPrefix(name, "W"):
		return Matrix, ""
	case strings.HasPrefix(name, "gain"):
		return Gain, ""
	case !strings.HasPrefix(name, "b"):
		return NoRole, ""
	}
	if of = "W" + name[1:]; slices.Contains(d.Parts, of) {
		return PartedBias, of
	}
	return Bias, of
}
