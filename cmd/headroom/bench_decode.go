package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"

	"github.com/spf13/cobra"

	"headroom/attention"
	"headroom/decode"
	"headroom/internal/lab"
)

// decodeBench has the flags of bench decode.
type decodeBench struct {
	checkpoint, preset  string
	device, precision   string
	kinds, sets, caches []string
	batches, contexts   []int
	steps               int
	asJSON, prefill     bool
	parts               parts
	bandwidth           float64 // of a copy
	operations          float64 // a second, of a product: where prompts are timed
}

func benchDecodeCommand() *cobra.Command {
	var d decodeBench
	cmd := &cobra.Command{
		Use:   "decode [FILE]",
		Short: "time decoding: the first token of a prompt, and steps of a batch over a full cache",
		Long: `Bench decode times greedy steps of the decode engine, end to end, for each kind, batch and context.
The model is that of a configuration, with random weights, or a checkpoint. The time to the first token is that
of one request with its whole prompt; the steps run over caches of random content. The ceiling is a large copy
in the same run. The largest batch is counted from the cache's layout and the memory that is free. With
--prefill it times whole batches of prompts instead, beside a large matrix product. With --cache-type every case
is timed with each such cache.`,
		Example: `  headroom bench decode --json
  headroom bench decode --preset 183m-gqa-4 --attention "" --batch 1,8 --context 1024 --device cuda
  headroom bench decode --checkpoint runs/first --context 128
  headroom bench decode --attention gta-4 --batch 8 --context 8192 --cache-type bf16,fp8
  headroom bench decode docs/examples/decode-876m.yaml --device cuda --batch 8 --context 2048 --prefill`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := d.parts.settle(cmd.Flags(), &d.device); err != nil {
				return err
			}
			return d.do(cmd, args)
		},
	}
	f := cmd.Flags()
	f.StringVar(&d.device, "device", "cpu", "cpu or cuda")
	f.StringVar(&d.precision, "precision", "", "fp32 or bf16; empty is bf16 on cuda and fp32 on the cpu")
	d.parts.flags(f)
	f.StringVar(&d.checkpoint, "checkpoint", "", "a run directory or checkpoint, instead of random weights")
	f.StringVar(&d.preset, "preset", "", "values below those of the file: see headroom config presets")
	f.StringSliceVar(&d.kinds, "attention", []string{"gqa-4", "gta-4", "mla", "gla-2"},
		"the kinds; empty is the configuration's own")
	f.StringArrayVar(&d.sets, "set", nil, "override one key, as in --set model.layers=6; may be given many times")
	f.IntSliceVar(&d.batches, "batch", []int{1, 8, 32}, "requests at once")
	f.IntSliceVar(&d.contexts, "context", []int{1024}, "tokens in each cache")
	f.BoolVar(&d.prefill, "prefill", false, "time prompts instead of steps")
	f.IntVar(&d.steps, "steps", 10, "timed steps of each case, after two to warm up")
	f.StringSliceVar(&d.caches, "cache-type", nil,
		"fp32, bf16 or fp8: how the cache is kept; may name many; empty is as the precision")
	f.BoolVar(&d.asJSON, "json", false, `print {"results": [...]}`)
	return cmd
}

func (d *decodeBench) do(cmd *cobra.Command, args []string) error {
	if d.steps < 1 {
		return fmt.Errorf("bench: steps must be at least 1, not %d", d.steps)
	}
	for _, n := range append(append([]int{}, d.batches...), d.contexts...) {
		if n < 1 {
			return fmt.Errorf("bench: batch and context must be positive, not %d", n)
		}
	}
	backends, err := d.backends()
	defer func() {
		for _, on := range backends {
			on.Close()
		}
	}()
	if err != nil {
		return err
	}
	results := []any{}
	if d.prefill && d.parts.devices > 1 {
		return errors.New("bench: --prefill times prompts on one device")
	}
	if d.prefill {
		d.operations, err = lab.ProductCeiling(d.device, d.precision)
	} else {
		d.bandwidth, err = backends[0].Bandwidth()
	}
	if err != nil {
		return &lab.Failed{Err: err}
	}
	kinds := d.kinds
	if d.checkpoint != "" || len(kinds) == 0 {
		kinds = []string{""}
	}
	for _, kind := range kinds {
		m, err := d.model(args, kind)
		if err != nil {
			return err
		}
		lab.WarnUnproven(m.Transformer, d.device)
		for _, on := range backends {
			rs, err := d.measure(cmd, m, on)
			if err != nil {
				return err
			}
			results = append(results, rs...)
		}
	}
	if d.asJSON {
		err = writeJSON(cmd.OutOrStdout(), map[string]any{"results": results})
	}
	if err == nil && len(results) == 0 {
		err = &lab.Failed{Err: errors.New("bench: no case could be timed")}
	}
	return err
}

// backends are one for each type of cache.
func (d *decodeBench) backends() (all []decode.Backend, err error) {
	types, err := lab.CacheTypes(d.caches)
	if err != nil {
		return nil, err
	}
	if len(types) == 0 {
		types = []attention.CacheType{""} // of the precision
	}
	for _, t := range types {
		on, err := lab.Decoder(d.device, d.precision, d.parts.devices, t)
		if err != nil {
			return all, err
		}
		all = append(all, on)
	}
	return all, nil
}

// model is the checkpoint's, or a configuration's with a kind in it.
func (d *decodeBench) model(args []string, kind string) (*decode.Model, error) {
	if d.checkpoint != "" {
		if len(args) > 0 || d.preset != "" || len(d.sets) > 0 {
			return nil, errors.New("bench: a checkpoint has its own configuration: give no other")
		}
		path, _, err := lab.Checkpoint(d.checkpoint)
		if err != nil {
			return nil, err
		}
		return decode.Load(path)
	}
	flags := runFlags{preset: d.preset, attention: kind, sets: d.sets}
	_, m, err := flags.untrained(args)
	return m, err
}

// measure runs the cases of one model. Cases that do not fit into memory are logged and left out.
func (d *decodeBench) measure(cmd *cobra.Command, m *decode.Model, on decode.Backend) (results []any, err error) {
	for _, S := range d.contexts {
		for _, batch := range d.batches {
			r, err := d.one(cmd.Context(), m, on, batch, S)
			switch {
			case cmd.Context().Err() != nil:
				return results, &lab.Failed{Err: err}
			case err != nil:
				slog.Warn("left out", "why", err)
				continue
			}
			results = append(results, r)
			if !d.asJSON {
				if _, err := fmt.Fprintln(cmd.OutOrStdout(), r); err != nil {
					return results, err
				}
			}
		}
	}
	return results, nil
}

func (d *decodeBench) one(ctx context.Context, m *decode.Model, on decode.Backend, batch, S int) (any, error) {
	runtime.GC() // frees the cache of the last case
	if d.prefill {
		return decode.BenchPrefill(ctx, m, on, batch, S, d.operations)
	}
	return decode.Bench(ctx, m, on, batch, S, d.steps, d.bandwidth)
}
