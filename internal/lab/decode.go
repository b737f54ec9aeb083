package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"headroom/attention"
	"headroom/configs"
	"headroom/decode"
	"headroom/eval"
	"headroom/model"
)

// A DecodeCase is a batch of requests, each with so many tokens in its cache.
type DecodeCase struct {
	Batch   int `yaml:"batch"`
	Context int `yaml:"context"`
}

// DecodeCases reads cases such as 8x1024.
func DecodeCases(texts []string) (cases []DecodeCase, err error) {
	for _, text := range texts {
		batch, context, ok := strings.Cut(text, "x")
		var c DecodeCase
		if c.Batch, err = strconv.Atoi(batch); ok && err == nil {
			c.Context, err = strconv.Atoi(context)
		}
		if !ok || err != nil || c.Batch < 1 || c.Context < 1 {
			return nil, fmt.Errorf("lab: decode must be BATCHxCONTEXT such as 8x1024, not %q", text)
		}
		cases = append(cases, c)
	}
	return cases, nil
}

const (
	decodeName    = "decode.json" // of an arm
	decodeRepeats = 3
	decodeSteps   = 20 // timed, of each repeat
)

// decoding is what an arm's decode.json holds.
type decoding struct {
	Config  string        `json:"config"` // of the arm
	Results []eval.Decode `json:"results"`
}

// DecodeSpeeds times how a configuration's model decodes on its device, with caches of some types; where none is named,
// of the precision. Every case is opened and timed three times. A case that cannot be timed has the reason instead.
// Weights do not matter: they are random.
func DecodeSpeeds(ctx context.Context, r configs.Run, cases []DecodeCase, types []attention.CacheType) (
	results []eval.Decode, err error) {
	t, err := model.New(r.Model, r.Attention)
	if err != nil {
		return nil, err
	}
	WarnUnproven(t, r.Train.Device)
	m := decode.Random(t, 1)
	if len(types) == 0 {
		types = []attention.CacheType{""}
	}
	for _, cache := range types {
		on, err := Decoder(r.Train.Device, r.Train.Precision, 1, cache)
		if err != nil {
			return nil, err
		}
		timed, err := decodeSpeeds(ctx, m, on, cases)
		if err := errors.Join(err, on.Close()); err != nil {
			return nil, err
		}
		results = append(results, timed...)
	}
	return results, nil
}

func decodeSpeeds(ctx context.Context, m *decode.Model, on decode.Backend, cases []DecodeCase) (
	results []eval.Decode, err error) {
	for _, c := range cases {
		d := eval.Decode{Batch: c.Batch, Context: c.Context, Device: on.Name(), Cache: on.Cache()}
		var speeds []float64
		for range decodeRepeats {
			r, err := decode.Bench(ctx, m, on, c.Batch, c.Context, decodeSteps, 1)
			if ctx.Err() != nil {
				return nil, errInterrupted
			}
			if err != nil {
				d.Failure = err.Error()
				break
			}
			speeds, d.CacheBytes = append(speeds, r.TokensPerSecond), r.CacheBytes
		}
		d.TokensPerSecond = eval.Mean(speeds)
		results = append(results, d)
	}
	return results, nil
}

// Speeds is a line for each case.
func Speeds(cases []eval.Decode) string {
	var s strings.Builder
	for _, d := range cases {
		fmt.Fprintf(&s, "decode %dx%d: ", d.Batch, d.Context)
		if d.Failure != "" {
			fmt.Fprintln(&s, d.Failure)
			continue
		}
		fmt.Fprintf(&s, "%.4g tokens/s (+- %.2g), cache %.2f MiB in %s, on %s\n", d.TokensPerSecond.Mean,
			d.TokensPerSecond.Half, float64(d.CacheBytes)/(1<<20), d.Cache, d.Device)
	}
	return s.String()
}

// decode times an arm, unless that is done.
func (c *Compare) decode(ctx context.Context, arm Arm) error {
	failed := func(d eval.Decode) bool { return d.Failure != "" }
	if done, err := c.decoded(arm); err != nil || done != nil && !slices.ContainsFunc(done, failed) {
		return err
	}
	results, err := DecodeSpeeds(ctx, arm.Config, c.Decode, nil)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(c.home(arm), 0o777); err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	if err := writeFile(filepath.Join(c.home(arm), decodeName), decoding{arm.Config.YAML(), results}); err != nil {
		return err
	}
	c.kept(c.exchangeDecode(arm))
	return nil
}

// decoded reads the speeds of an arm: of the comparison's cases, if they were all measured with its configuration.
func (c *Compare) decoded(arm Arm) ([]eval.Decode, error) {
	path := filepath.Join(c.home(arm), decodeName)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) || len(c.Decode) == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	var d decoding
	if err := json.Unmarshal(text, &d); err != nil {
		return nil, fmt.Errorf("lab: %s: %w", path, err)
	}
	document, err := configs.Parse(path, []byte(d.Config))
	if err != nil {
		return nil, err
	}
	was, err := configs.Restored(document)
	if err != nil {
		return nil, fmt.Errorf("%w (%s)", err, path)
	}
	for _, change := range configs.Changes(was, arm.Config) {
		if configs.Matches(change.Key, []string{"model.*", "attention.*", "train.device", "train.precision"}) {
			return nil, nil
		}
	}
	if len(d.Results) != len(c.Decode) {
		return nil, nil
	}
	for i, r := range d.Results {
		if r.Batch != c.Decode[i].Batch || r.Context != c.Decode[i].Context {
			return nil, nil
		}
	}
	return d.Results, nil
}
