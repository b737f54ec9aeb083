package attention

import (
	"errors"
	"slices"
)

// K = V. With tie_kv a head's value is its key as it is before the rotation, as in the global layers of Gemma 4, which
// have no projection of values (attention_k_eq_v in the transformers library): v = u, k = rope(u) for u = x·Wk, normed
// where qk_norm says so. Gemma 4's values are normed without the weight that its keys have; here both have it, since
// they are one state.
//
// What a cache holds: rotated keys beside unrotated values would save the parameters of Wv and nothing else. One state,
// kept unrotated, is half of GQA's cache at any rope_dim; what is read is rotated for the scores, R columns of each
// key head, which is little beside the products of the heads that share it. A copy of the rotated columns beside the
// state would need no rotation, but D + R columns a head, and kernels that have a rope key for each key head.

// checkTie says why a kind has no tied keys and values.
func (c Config) checkTie(d Description) error {
	switch {
	case !c.TieKV || slices.Contains(d.Keys, "tie_kv"):
		return nil
	case d.Kind == MFA:
		return errors.New("tie_kv must be false: mfa_kr is the mfa whose values are made of its keys")
	case d.Cache == KeyValue || d.Cache == Factored:
		return errors.New("tie_kv must be false: keys and values of this kind are made apart")
	}
	return errors.New("tie_kv must be false: keys and values of this kind are made of one state already")
}

// Form is how keys and values are kept.
func (c Config) Form() CacheForm {
	if c.TieKV {
		return Unrotated
	}
	return c.Kind.known().Cache
}
