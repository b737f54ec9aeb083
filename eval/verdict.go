package eval

import (
	"fmt"
	"math"
	"strings"
)

// seedsShown is how many differences a table shows one by one.
const seedsShown = 8

// differences has one row for each arm but the baseline and each set.
func (c *Comparison) differences() (rows [][]string) {
	rows = [][]string{{"arm", "set", "difference", "perplexity", "by seed", "p", "found", "resolves", "text"}}
	for i := range c.Arms {
		a := &c.Arms[i]
		if a.Name == c.Baseline {
			continue
		}
		for _, set := range c.Sets {
			d := a.Difference[set]
			row := []string{a.ID(), set, d.String(), "-", d.seeds(), "-", d.verdict(), "-", "-"}
			if d.N > 0 {
				row[3] = fmt.Sprintf("%+.2f%%", 100*math.Expm1(d.Mean))
			}
			if d.N > 1 {
				row[5], row[7] = fmt.Sprintf("%.2g", d.P), d.resolves()
			}
			if d.Text != nil {
				row[8] = fmt.Sprintf("± %.4f (%d)", d.Text.Half, d.Text.Documents)
			}
			rows = append(rows, row)
		}
	}
	return rows
}

// String is the difference with its interval.
func (d Difference) String() string {
	switch d.N {
	case 0:
		return "-"
	case 1:
		return fmt.Sprintf("%+.4f", d.Mean)
	}
	return fmt.Sprintf("%+.4f ± %.4f", d.Mean, d.Half)
}

// verdict says what the pairs show, and no more than that.
func (d Difference) verdict() string {
	switch {
	case d.N == 0:
		return "-"
	case d.N == 1:
		return "one seed: nothing"
	case !d.Found():
		return "no difference"
	case d.Mean < 0:
		return "better"
	}
	return "worse"
}

// seeds are the differences one by one, or where there are many their range.
func (d Difference) seeds() string {
	if d.N == 0 {
		return "-"
	}
	var all []string
	lowest, highest := math.Inf(1), math.Inf(-1)
	for _, v := range d.Values {
		all = append(all, fmt.Sprintf("%+.4f", v))
		lowest, highest = min(lowest, v), max(highest, v)
	}
	if len(all) >= seedsShown {
		return fmt.Sprintf("%d from %+.4f to %+.4f", len(all), lowest, highest)
	}
	return strings.Join(all, " ")
}

// resolves is the difference that so many seeds find in 80% of trials.
func (d Difference) resolves() string {
	switch {
	case d.Smallest == 0:
		return "-"
	case d.Smallest >= 1:
		return fmt.Sprintf("%.2f", d.Smallest)
	}
	return fmt.Sprintf("%.4f", d.Smallest)
}

// caption stands above the differences.
func (c *Comparison) caption() string {
	return fmt.Sprintf("Difference in loss to %s, nats a token, paired by seed; less is better", c.Baseline)
}

// key says what the columns of the differences are, one each.
func (c *Comparison) key() []string {
	tests, same, several := c.families()
	if tests == 0 {
		return []string{"One seed has no interval and no test: nothing is found or ruled out. Two or more seeds are needed."}
	}
	family := fmt.Sprintf("the %d differences", tests)
	switch {
	case tests == 1:
		family = "the one difference"
	case !same:
		family = "all differences"
	}
	if several {
		family += " at its size"
	}
	return []string{
		"difference: the mean over the seeds, and a 95% interval that holds for " + family +
			" together (arms x sets; Student's t, Bonferroni).",
		fmt.Sprintf("p: of Student's t test over the seeds, after Holm's correction for %s. found: better or worse where p "+
			"< %g; no difference means that none was found, not that there is none.", family, significant),
		"resolves: the true difference that as many new seeds would find in 80% of trials by that rule. It allows for how " +
			"badly few seeds tell their own scatter.",
		"text: how far the difference may move on other texts of the same kind (95%), from the documents of this one, " +
			"whose number, or that of groups of them, is in brackets. p knows nothing of it.",
	}
}

// families are the numbers of tests at the sizes: the largest, whether all are the same, and whether there are several
// sizes.
func (c *Comparison) families() (tests int, same, several bool) {
	at := map[string]int{}
	for _, a := range c.Arms {
		for _, d := range a.Difference {
			at[a.Size] = max(at[a.Size], d.Tests)
			tests = max(tests, d.Tests)
		}
	}
	same = true
	for _, n := range at {
		same = same && n == tests
	}
	return tests, same, len(c.sizes()) > 1
}
