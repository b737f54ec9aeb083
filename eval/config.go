package eval

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Config says how perplexity is measured, and on which sets besides those that training watches.
type Config struct {
	// sets to measure besides those of data.val, by name: each a folder, glob or file of shards
	Sets map[string]string `mapstructure:"sets" yaml:"sets"`
	// sets that a comparison chooses learning rates on and does not report, by name
	Select map[string]string `mapstructure:"select" yaml:"select"`
	// windows on the device at once
	Batch int `mapstructure:"batch" yaml:"batch"`
	// tokens of a window; 0 is the model's own context
	Context int `mapstructure:"context" yaml:"context"`
	// tokens from one window to the next; 0 is the context, so that no windows overlap
	Stride int `mapstructure:"stride" yaml:"stride"`
	// targets to measure of each set; 0 is all
	Tokens int `mapstructure:"tokens" yaml:"tokens"`

	// zero-shot tasks by name (hellaswag and so on): each a JSONL file
	Tasks map[string]string `mapstructure:"tasks" yaml:"tasks"`
	// items of each task's file to measure, from its start; 0 is all
	TaskItems int `mapstructure:"task_items" yaml:"task_items"`
}

// Default measures whole sets in windows that do not overlap.
func Default() Config { return Config{Batch: 8} }

// Validate names the first key whose value breaks its rule.
func (c Config) Validate() error {
	for _, name := range slices.Sorted(maps.Keys(c.Sets)) {
		if name == "" || c.Sets[name] == "" {
			return fmt.Errorf("eval: sets must give each name a path, not %q: %q", name, c.Sets[name])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Select)) {
		if name == "" || c.Select[name] == "" {
			return fmt.Errorf("eval: select must give each name a path, not %q: %q", name, c.Select[name])
		}
		if _, reported := c.Sets[name]; reported {
			return fmt.Errorf("eval: select and sets must have different names, but both have %q", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Tasks)) {
		if !slices.Contains(TaskNames(), name) || c.Tasks[name] == "" {
			return fmt.Errorf("eval: tasks must give each of %s a path, not %q: %q", strings.Join(TaskNames(), ", "),
				name, c.Tasks[name])
		}
	}
	for _, r := range []struct {
		key string
		ok  bool
		val int
		law string
	}{
		{"batch", c.Batch >= 1, c.Batch, "at least 1"},
		{"context", c.Context >= 0, c.Context, "at least 0"},
		{"stride", c.Stride >= 0, c.Stride, "at least 0"},
		{"stride", c.Context == 0 || c.Stride <= c.Context, c.Stride, fmt.Sprintf("at most the context %d", c.Context)},
		{"task_items", c.TaskItems >= 0, c.TaskItems, "at least 0"},
		{"tokens", c.Tokens >= 0, c.Tokens, "at least 0"},
	} {
		if !r.ok {
			return fmt.Errorf("eval: %s must be %s, not %d", r.key, r.law, r.val)
		}
	}
	return nil
}
