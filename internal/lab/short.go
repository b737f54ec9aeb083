package lab

import (
	"fmt"
	"slices"

	"headroom/attention"
)

// Short adds to sets what a short name such as gla-2 stands for.
func Short(name string, sets []string) ([]string, error) {
	kind, groups, err := attention.Parse(name)
	if err != nil {
		return nil, err
	}
	sets = append(slices.Clone(sets), "attention.kind="+string(kind))
	if groups > 0 {
		sets = append(sets, fmt.Sprintf("attention.groups=%d", groups))
	}
	return sets, nil
}
