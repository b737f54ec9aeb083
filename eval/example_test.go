package eval_test

import (
	"fmt"

	"headroom/eval"
)

// Two kinds of attention that were trained with the same three seeds, and their losses on a held-out text.
func Example() {
	gqa := []float64{2.011, 2.054, 1.987}
	gta := []float64{2.032, 2.049, 2.025}
	mla := []float64{2.128, 2.178, 2.104}

	fmt.Printf("gqa  %.3f ± %.3f\n", eval.Mean(gqa).Mean, eval.Mean(gqa).Half)
	differences := []eval.Difference{eval.Paired(gta, gqa, 2), eval.Paired(mla, gqa, 2)}
	corrected := eval.Holm([]float64{differences[0].P, differences[1].P})
	for i, name := range []string{"gta", "mla"} {
		d := differences[i]
		d.P = corrected[i]
		fmt.Printf("%s  %+.3f ± %.3f, p %.3f, found: %v\n", name, d.Mean, d.Half, d.P, d.Found())
	}
	// Output:
	// gqa  2.017 ± 0.084
	// gta  +0.018 ± 0.078, p 0.287, found: false
	// mla  +0.119 ± 0.014, p 0.001, found: true
}
