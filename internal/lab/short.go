package lab

import (
	"fmt"
	"maps"
	"slices"

	"go.yaml.in/yaml/v3"

	"headroom/attention"
)

// From sets what makes a run train on from a checkpoint, or a run's newest: its model, attention and tokenizer.
func From(path string) (sets []string, err error) {
	checkpoint, c, err := Checkpoint(path)
	if err != nil {
		return nil, err
	}
	sets = append(sets, "train.from="+checkpoint)
	if c.Data.Tokenizer != "" {
		sets = append(sets, "data.tokenizer="+c.Data.Tokenizer)
	}
	for section, value := range map[string]any{"model": c.Model, "attention": c.Attention} {
		text, err := yaml.Marshal(value)
		if err != nil {
			return nil, fmt.Errorf("lab: %w", err)
		}
		var keys map[string]any
		if err := yaml.Unmarshal(text, &keys); err != nil {
			return nil, fmt.Errorf("lab: %w", err)
		}
		for _, key := range slices.Sorted(maps.Keys(keys)) {
			sets = append(sets, fmt.Sprintf("%s.%s=%v", section, key, keys[key]))
		}
	}
	return sets, nil
}

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
