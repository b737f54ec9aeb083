package lab

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"

	"headroom/configs"
	"headroom/data"
)

// prepare makes shards of an order's texts below its output, unless they are there, and returns the settings that name
// them: train is what is trained on, a name in data.val is what training watches, one in eval.select is what learning
// rates are chosen on, and every other is measured at the end.
func (o Order) prepare(ctx context.Context, base configs.Run) (sets []string, err error) {
	for _, name := range slices.Sorted(maps.Keys(o.Texts)) {
		if !fit.MatchString(name) {
			return nil, fmt.Errorf("lab: compare: a text's name must be letters, digits, points and dashes, not %q", name)
		}
		out := filepath.Join(o.Out, "data", name)
		if !o.Dry {
			if err := makeShards(ctx, base.Data.Tokenizer, out, []string{o.Texts[name]}, o.Log); err != nil {
				return nil, err
			}
		}
		_, watched := base.Data.Val[name]
		_, selects := base.Eval.Select[name]
		switch {
		case name == "train":
			sets = append(sets, "data.train="+out)
		case watched:
			sets = append(sets, "data.val."+name+"="+out)
		case selects:
			sets = append(sets, "eval.select."+name+"="+out)
		default:
			sets = append(sets, "eval.sets."+name+"="+out)
		}
	}
	return sets, nil
}

// makeShards prepares text with a tokenizer, unless that is done. Shards of another text are an error: results may
// stand on them.
func makeShards(ctx context.Context, tokenizer, out string, inputs []string, log io.Writer) error {
	source, err := data.TextSum(inputs)
	if err != nil {
		return err
	}
	switch meta, err := data.ReadMeta(out); {
	case err == nil && meta.Tokenizer == tokenizer && meta.Source == "":
		slog.Warn(
			"compare: shards were made before checksums of texts were recorded, so it cannot be checked that they are of "+
				"this one",
			"dir", out)
		return nil
	case err == nil && meta.Tokenizer == tokenizer && meta.Source == source:
		return nil
	case err == nil && meta.Tokenizer == tokenizer:
		return fmt.Errorf("lab: %s was made of another text than %s holds now: bring that text back, or choose another --out",
			out, inputs[0])
	case err == nil:
		return fmt.Errorf("lab: %s was made with tokenizer %s, not %s: remove it, or choose another --out", out,
			meta.Tokenizer, tokenizer)
	}
	slog.Info("preparing", "shards", out, "from", inputs[0], "inputs", len(inputs))
	_, err = data.Prepare(ctx, data.Options{Tokenizer: tokenizer, Out: out, Inputs: inputs, Source: source, Progress: log})
	return err
}
