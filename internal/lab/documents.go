package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"

	"headroom/configs"
	"headroom/data"
)

// documents are those that the attention of a run stays within; nil where it reads all of a row.
func documents(c configs.Run) (*data.Documents, error) {
	if c.Data.Documents != data.DocumentMask {
		return nil, nil
	}
	t, err := data.NewTokenizer(c.Data.Tokenizer)
	if err != nil {
		return nil, fmt.Errorf("lab: data.documents is %s, and the tokenizer says with which token documents begin: %w",
			data.DocumentMask, err)
	}
	return t.Documents(), nil
}

// divided is an error where documents of shards begin with another token than those that the attention of a run stays
// within.
func divided(path string, meta *data.Meta, c configs.Run) error {
	d, err := documents(c)
	if err != nil || d == nil || meta == nil || meta.Begins() == d.Begin {
		return err
	}
	return fmt.Errorf("lab: data.documents is %s, but documents of %s begin with token %d, and those of data.tokenizer "+
		"%s with %d: prepare them again", data.DocumentMask, path, meta.Begins(), c.Data.Tokenizer, d.Begin)
}

// perRow is how many documents a row of the training data has on average.
func perRow(d *data.Documents, parts []data.Part, sets []*data.Tokens, context int) (float64, error) {
	var sum, weight float64
	for i, p := range parts {
		n, err := d.PerRow(sets[i], context)
		if err != nil {
			return 0, fmt.Errorf("%w (%s)", err, p.Path)
		}
		sum, weight = sum+p.Weight*n, weight+p.Weight
	}
	return math.Round(100*sum/weight) / 100, nil
}

// estimateDocuments is how many documents a row of a run's training data has on average; 0 where attention reads all of
// a row, or the shards are not there yet.
func estimateDocuments(c configs.Run, context int) (float64, error) {
	d, err := documents(c)
	if err != nil || d == nil {
		return 0, err
	}
	parts, err := data.ParseMixture(c.Data.Train)
	if err != nil {
		return 0, err
	}
	var sets []*data.Tokens
	defer func() {
		for _, set := range sets {
			set.Close()
		}
	}()
	for _, p := range parts {
		set, err := openTokens(p.Path, c)
		if errors.Is(err, fs.ErrNotExist) {
			return 0, nil
		}
		if err != nil {
			return 0, err
		}
		sets = append(sets, set)
	}
	return perRow(d, parts, sets, context)
}

// announce says how many documents a row of the open training data has, if attention stays within them.
func (b *bench) announce(parts []data.Part, context int, r Run) error {
	if b.documents == nil {
		return nil
	}
	n, err := perRow(b.documents, parts, b.train, context)
	if err != nil {
		return err
	}
	if r.Team.Rank() == 0 {
		slog.Info("attention stays within documents", "documents_per_row", n, "row", context)
	}
	return nil
}
