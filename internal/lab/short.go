package lab

import (
	"encoding/json"
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
		if sets, err = flat(sets, section, keys); err != nil {
			return nil, err
		}
	}
	return sets, nil
}

// flat adds the keys of a part of a configuration, and of the parts in it. A list is written as YAML has it in a line.
func flat(sets []string, part string, keys map[string]any) ([]string, error) {
	for _, name := range slices.Sorted(maps.Keys(keys)) {
		key := part + "." + name
		switch v := keys[name].(type) {
		case map[string]any:
			var err error
			if sets, err = flat(sets, key, v); err != nil {
				return nil, err
			}
		case []any:
			line, err := json.Marshal(v)
			if err != nil {
				return nil, fmt.Errorf("lab: %s: %w", key, err)
			}
			sets = append(sets, fmt.Sprintf("%s=%s", key, line))
		default:
			sets = append(sets, fmt.Sprintf("%s=%v", key, v))
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
