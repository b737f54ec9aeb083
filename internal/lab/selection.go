package lab

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"headroom/configs"
)

// selection names the sets that a learning rate is chosen on: those of eval.select, or where it has none those that
// training watches, or where it watches none, all.
func selection(c configs.Run) []string {
	for _, sets := range []map[string]string{c.Eval.Select, c.Data.Val} {
		if len(sets) > 0 {
			return slices.Sorted(maps.Keys(sets))
		}
	}
	return slices.Sorted(maps.Keys(Sets(c)))
}

// reported names the sets of a table: all but those of eval.select.
func reported(c configs.Run) []string {
	sets := Sets(c)
	for name := range c.Eval.Select {
		delete(sets, name)
	}
	return slices.Sorted(maps.Keys(sets))
}

// distinct refuses a name that means a set to choose on and a set to report.
func distinct(c configs.Run) error {
	for _, name := range slices.Sorted(maps.Keys(c.Eval.Select)) {
		if _, both := c.Data.Val[name]; both {
			return fmt.Errorf("lab: compare: eval.select and data.val must have different names, but both have %q", name)
		}
	}
	return nil
}

// selected names what rates were chosen on, and which of the reported sets are the same text as one of these.
func (c *Compare) selected() (on, again []string) {
	if len(c.LR) == 0 {
		return nil, nil
	}
	config := c.Arms[0].Config
	on = selection(config)
	sums := map[string]bool{} // of the texts that rates were chosen on
	for _, t := range c.Texts {
		if name, ok := setOf(t.Key); ok && slices.Contains(on, name) {
			sums[t.Sum] = true
		}
	}
	for _, name := range reported(config) {
		same := slices.ContainsFunc(c.Texts, func(t Text) bool {
			of, ok := setOf(t.Key)
			return ok &&
				of == name && sums[t.Sum]
		})
		if same || slices.Contains(on, name) {
			again = append(again, name)
		}
	}
	return on, again
}

// setOf is the set that a text's key belongs to, if it belongs to one.
func setOf(key string) (name string, ok bool) {
	for _, prefix := range []string{"data.val.", "eval.sets.", "eval.select."} {
		if name, ok = strings.CutPrefix(key, prefix); ok {
			return name, true
		}
	}
	return "", false
}
