package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"headroom/attention"
	"headroom/configs"
	"headroom/internal/roofline"
	"headroom/model"
)

func analyzeCommand() *cobra.Command {
	var gpu, picture, kept string
	var flops, bandwidth float64
	var context int
	var sets []string
	var asJSON bool
	alone := model.Plan{TP: 1, DP: 1, AttentionDP: 1}
	p := predictor{Plan: alone}
	cmd := &cobra.Command{
		Use:   "analyze FILE|PRESET…",
		Short: "size models and the arithmetic of their decoding, without running them",
		Long: `Analyze prints for each run (a file, or a preset such as 876m-gla-2) its parameters and operations.
For several numbers of tensor-parallel devices it prints the bytes that a token leaves in the cache of one layer
on one device (in bf16, or as --cache-type says), how many devices hold the same head, which slots of the cache
are sharded and which are replicated, and the operations per byte of decoding 1, 2 and 4 new tokens at once, over
all layers, with the GPU's attainable operations a second. "long" is the intensity as the context grows, without
the traffic of rope keys, queries and outputs: 2·q·g/m with a cache in bf16.

With --batch it also predicts a decode step on --tp times --dp devices, either from the GPU's roofline, which is
a lower bound, or from what "bench decode --json" measured of the same model on one GPU with several batches and
contexts. Rows whose cache does not fit wait for others.`,
		Example: `  headroom analyze 876m-gqa-4 876m-gta-4 876m-mla 876m-gla-2 --plot roofline.svg
  headroom analyze run.yaml --gpu B200 --json
  headroom analyze 1471m-gta-8 1471m-mla --cache-type fp8
  headroom analyze 1471m-mla 1471m-gla-2 --set attention.heads=128 --flops 989e12 --bandwidth 3.35e12
  headroom analyze 1471m-mla 1471m-gla-2 --gpu H200 --tp 2 --dp 4 --batch 128
  headroom bench decode 876m.yaml --device cuda --json > steps.json
  headroom analyze 876m.yaml --gpu H200 --tp 8 --batch 64 --measured steps.json`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			g, err := chooseGPU(gpu, flops, bandwidth)
			if err != nil {
				return err
			}
			if p.batch == 0 && (p.Plan != alone || p.measured != "") {
				return errors.New("analyze: a prediction needs --batch, the rows that decode at once")
			}
			cache, machine := attention.CacheType(kept), g
			measured, err := p.check(&machine)
			if err != nil {
				return err
			}
			var all []model.Analysis
			var steps []predicted
			for _, name := range args {
				m, err := loadModel(name, sets)
				if err != nil {
					return err
				}
				a, err := m.Analyze(name, g, context, cache)
				if err != nil {
					return err
				}
				all = append(all, a)
				if p.batch == 0 {
					continue
				}
				step, err := p.predict(name, m, machine, measured, context, cache)
				if err != nil {
					return err
				}
				steps = append(steps, step)
			}
			if picture != "" {
				if err := plotRoofline(picture, g, all); err != nil {
					return err
				}
			}
			if asJSON {
				answer := map[string]any{"gpu": g, "context": context, "cache_type": cache, "results": all}
				if steps != nil {
					answer["predictions"] = steps
				}
				return writeJSON(cmd.OutOrStdout(), answer)
			}
			if err := printAnalyses(cmd.OutOrStdout(), g, context, cache, all); err != nil || steps == nil {
				return err
			}
			return printPredictions(cmd.OutOrStdout(), p, context, steps)
		},
	}
	f := cmd.Flags()
	f.StringVar(&gpu, "gpu", "H100", "whose roofline: A100, H100, H200 or B200")
	f.Float64Var(&flops, "flops", 0, "dense bf16 operations a second, instead of the GPU's")
	f.Float64Var(&bandwidth, "bandwidth", 0, "bytes of memory a second, instead of the GPU's")
	f.IntVar(&context, "context", 8192, "tokens in the cache")
	f.StringArrayVar(&sets, "set", nil,
		"override one key of every run, as in --set attention.heads=128; may be given many times")
	f.StringVar(&kept, "cache-type", "bf16", "fp32, bf16 or fp8: how the cache is kept")
	f.StringVar(&picture, "plot", "", "draw the roofline into this file, .png or .svg")
	f.IntVar(&p.batch, "batch", 0, "predict a decode step of so many rows")
	f.IntVar(&p.TP, "tp", alone.TP, "devices that divide a model's heads and MLP")
	f.IntVar(&p.DP, "dp", alone.DP, "replicas of those, which divide the rows")
	f.IntVar(&p.AttentionDP, "attention-dp", alone.AttentionDP,
		"groups of a replica's devices that attend for a part of its rows each, and divide the rest of the model among all")
	f.StringVar(&p.measured, "measured", "", "a file of bench decode --json: predict from its steps")
	f.Float64Var(&p.latency, "latency", 10e-6,
		"seconds that a sum over a replica's devices takes at least; there are two a layer")
	f.Float64Var(&p.memory, "memory", 0, "bytes of a device, instead of the GPU's")
	f.Float64Var(&p.link, "link", 0, "bytes a second that a device sends its neighbours, instead of the GPU's")
	f.BoolVar(&asJSON, "json", false, `print {"gpu": …, "context": …, "cache_type": …, "results": [...], "predictions": [...]}`)
	return cmd
}

// chooseGPU is the named GPU, with the figures of flags in place of its own where they are given.
func chooseGPU(name string, flops, bandwidth float64) (roofline.GPU, error) {
	g, err := roofline.Find(name)
	if !(min(flops, bandwidth) >= 0 && max(flops, bandwidth) <= math.MaxFloat64) {
		return g, fmt.Errorf("analyze: flops and bandwidth must be positive and finite, they are %v and %v", flops, bandwidth)
	}
	if flops > 0 {
		g.FLOPs, g.Name = flops, "custom"
	}
	if bandwidth > 0 {
		g.Bandwidth, g.Name = bandwidth, "custom"
	}
	return g, err
}

func loadModel(name string, sets []string) (*model.Transformer, error) {
	in := configs.Input{File: name, Sets: sets}
	if slices.Contains(configs.Presets(), name) {
		in.File, in.Preset = "", name
	}
	r, err := configs.Load(in)
	if err != nil {
		return nil, err
	}
	return model.New(r.Model, r.Attention)
}

func printAnalyses(out io.Writer, g roofline.GPU, context int, cache attention.CacheType, all []model.Analysis) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	var failed error
	row := func(cells ...any) {
		_, err := fmt.Fprintln(w, strings.TrimRight(strings.Join(texts(cells), "\t"), "\t"))
		failed = errors.Join(failed, err)
	}
	row("model", "attention", "parameters", "forward FLOPs/token", "training FLOPs/token", "long q=1", "q=2", "q=4")
	for _, a := range all {
		row(a.Name, a.Attention, a.Parameters, fmt.Sprintf("%.4g", a.ForwardFLOPs), fmt.Sprintf("%.4g", a.TrainFLOPs),
			fmt.Sprintf("%.4g", a.LongContext[0]), fmt.Sprintf("%.4g", a.LongContext[1]), fmt.Sprintf("%.4g", a.LongContext[2]))
	}
	failed = errors.Join(failed, w.Flush())
	_, err := fmt.Fprintf(out, "\n%s: %.4g TFLOP/s, %.4g TB/s, ridge at %.1f FLOPs/byte; each q: FLOPs/byte in a "+
		"context of %d and the TFLOP/s it allows, with a cache in %s\n",
		g.Name, g.FLOPs/1e12, g.Bandwidth/1e12, g.Ridge(), context, cache)
	failed = errors.Join(failed, err)
	row("model", "devices", "bytes/token/layer", "held", "cache on a device", "q=1", "", "q=2", "", "q=4", "")
	for _, a := range all {
		for _, p := range a.Shards {
			cells := []any{a.Name, p.Devices, p.CacheBytes, fmt.Sprintf("%dx", p.Duplication), slots(p)}
			for _, d := range p.Decode {
				cells = append(cells, fmt.Sprintf("%.1f", d.Intensity), fmt.Sprintf("%.0f %s", d.FLOPs/1e12, bound(d)))
			}
			row(cells...)
		}
	}
	failed = errors.Join(failed, w.Flush())
	for _, a := range all {
		if a.WindowLayers > 0 {
			_, err := fmt.Fprintf(out, "%s: %d of its layers have a window of %d; in a context of %d a request keeps "+
				"%.2f MiB of cache on one device\n", a.Name, a.WindowLayers, a.Window, context,
				float64(a.Shards[0].RowBytes)/(1<<20))
			failed = errors.Join(failed, err)
		}
	}
	return failed
}

func texts(cells []any) (s []string) {
	for _, c := range cells {
		s = append(s, fmt.Sprint(c))
	}
	return s
}

func bound(d model.DecodeLimit) string {
	if d.Memory {
		return "(memory)"
	}
	return "(arithmetic)"
}

// slots describes the part of each slot that a device holds: c 1x256 sharded, kRope 1x64 replicated.
func slots(p model.ShardedPart) string {
	var parts []string
	for _, s := range p.Slots {
		how := "sharded"
		switch {
		case p.Devices == 1:
			how = "whole"
		case s.Replicated:
			how = "replicated"
		}
		parts = append(parts, fmt.Sprintf("%s %dx%d %s", s.Name, s.Heads, s.Dim, how))
	}
	return strings.Join(parts, ", ")
}
