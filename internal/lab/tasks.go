package lab

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"headroom/configs"
	"headroom/data"
	"headroom/eval"
)

// questions reads the tasks of a configuration, so that a bad file is an error before the work begins.
func questions(c configs.Run) (map[string][]eval.Item, error) {
	all := map[string][]eval.Item{}
	for _, name := range slices.Sorted(maps.Keys(c.Eval.Tasks)) {
		items, err := eval.ReadItems(name, c.Eval.Tasks[name], c.Eval.TaskItems)
		if err != nil {
			return nil, err
		}
		all[name] = items
	}
	return all, nil
}

// tasks measures the configuration's tasks with the weights as they stand.
func (b *bench) tasks(ctx context.Context, c configs.Run) (figures []eval.Figure, err error) {
	if len(b.questions) == 0 {
		return nil, nil
	}
	tok, err := data.NewTokenizer(c.Data.Tokenizer)
	if err != nil {
		return nil, fmt.Errorf("%w: tasks are text", err)
	}
	t := eval.NewTasks(b.store, b.model, tok, c.Eval.Batch)
	t.Progress = b.progress
	for _, name := range slices.Sorted(maps.Keys(b.questions)) {
		f, err := t.Measure(ctx, name, b.questions[name])
		if err != nil {
			return nil, err
		}
		figures = append(figures, f...)
	}
	return figures, nil
}

// Figures is a line for each figure.
func Figures(figures []eval.Figure) string {
	var s strings.Builder
	for _, f := range figures {
		s.WriteString(f.String() + "\n")
	}
	return s.String()
}
