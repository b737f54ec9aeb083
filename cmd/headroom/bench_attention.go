package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"gonum.org/v1/plot/plotter"

	"headroom/attention"
	"headroom/internal/lab"
	"headroom/internal/roofline"
	"headroom/kernels"
)

// attentionBench has the flags of bench attention.
type attentionBench struct {
	kinds                            []string
	batches, lengths, queries, heads []int
	pages                            []int
	headDim, ropeDim                 int
	ragged, asJSON                   bool
	plots, caches                    []string
}

func benchAttentionCommand() *cobra.Command {
	var b attentionBench
	cmd := &cobra.Command{
		Use:   "attention",
		Short: "time decode attention over a paged cache on a GPU, against its two ceilings",
		Long: `Bench attention times the fused kernels of decode attention. Without --attention it takes the
project's own table of shapes, with it every combination of the lists. Caches are not in L2, hold normal noise
in pages of random order, and have NaN wherever nothing may be read. A time covers everything that the result
needs. It is the median of 21 runs after a pause of 0.3 s and 25 ms of warming up. GB/s counts each distinct
byte of the cache once, with queries and outputs; TFLOP/s counts the rows that were asked for. The two ceilings,
a large copy and a product of 8192³, are measured in the same run.

For gla and mla --head-dim is the paper's D: a latent has 2D or 4D columns. The command needs a build with CUDA
(make cuda).`,
		Example: `  headroom bench attention --json
  headroom bench attention --attention gta-8,gqa-8 --batch 1,32 --length 8192,65536 --page 1,64 --plot roofline.svg`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return b.do(cmd.OutOrStdout()) },
	}
	f := cmd.Flags()
	f.StringSliceVar(&b.kinds, "attention", nil, "kinds: gqa-8, gta-8, mla, gla-2; none is the project's own table")
	f.IntSliceVar(&b.batches, "batch", []int{128}, "requests")
	f.IntSliceVar(&b.lengths, "length", []int{8192}, "cached tokens of a request")
	f.IntSliceVar(&b.queries, "query", []int{1}, "new tokens of a request, 1 to 8")
	f.IntSliceVar(&b.heads, "heads", []int{64}, "query heads")
	f.IntVar(&b.headDim, "head-dim", 128, "D")
	f.IntVar(&b.ropeDim, "rope-dim", 0, "R; 0 is the kind's own")
	f.IntSliceVar(&b.pages, "page", []int{64}, "tokens of a page, a power of two from 1 to 256")
	f.StringSliceVar(&b.caches, "cache-type", nil, "bf16 or fp8, or both: how the cache is kept; none is bf16")
	f.BoolVar(&b.ragged, "ragged", false, "lengths normal around --length instead of equal")
	f.StringArrayVar(&b.plots, "plot", nil, "draw the roofline to a .png or .svg; may be given many times")
	f.BoolVar(&b.asJSON, "json", false, `print {"results": [...]}`)
	return cmd
}

func (b *attentionBench) do(w io.Writer) (err error) {
	problems, err := b.problems()
	if err != nil {
		return err
	}
	for _, file := range b.plots {
		if err := checkPicture("bench attention", file); err != nil {
			return err
		}
	}
	dev, err := kernels.Open(0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dev.Close()) }()
	meter, err := kernels.NewDecodeMeter(dev)
	if err != nil {
		return &lab.Failed{Err: err}
	}
	defer func() { err = errors.Join(err, meter.Close()) }()
	var results []kernels.DecodeTime
	if !b.asJSON {
		fmt.Fprintf(w, "ceilings: copy %.0f GB/s, product %.0f TFLOP/s\n%-28s %5s %5s %6s %2s %4s  %9s %7s %7s %6s %6s %7s\n",
			meter.CopyGBs, meter.ProductTFLOP, "shape", "cache", "B",
			"S", "q", "page", "us", "GB/s", "TFLOP/s", "copy", "prod", "FLOP/B")
	}
	for _, p := range problems {
		t, err := meter.Measure(p)
		if err != nil {
			return &lab.Failed{Err: fmt.Errorf("bench attention: %s: %w", p.Name, err)}
		}
		results = append(results, t)
		if !b.asJSON {
			fmt.Fprintf(w, "%-28s %5s %5d %6d %2d %4d  %9.1f %7.0f %7.1f %5.0f%% %5.0f%% %7.1f\n",
				t.Name, t.Cache, t.B, t.S, t.T, t.Page, t.Micros, t.GBs, t.TFLOPs, 100*t.OfCopy, 100*t.OfProduct, t.Intensity)
		}
	}
	gpu := roofline.GPU{Name: dev.Name, FLOPs: meter.ProductTFLOP * 1e12, Bandwidth: meter.CopyGBs * 1e9}
	for _, file := range b.plots {
		if err := plotDecode(file, gpu, results); err != nil {
			return err
		}
	}
	if b.asJSON {
		return writeJSON(w, map[string]any{"results": results})
	}
	return nil
}

// problems are the combinations of the flags, or the project's table. What no kernel takes is an error before a GPU is
// opened.
func (b *attentionBench) problems() (all []kernels.DecodeProblem, err error) {
	for _, page := range b.pages {
		if len(b.kinds) == 0 {
			for _, p := range kernels.DecodeTable(page) {
				p.Ragged = b.ragged
				all = append(all, p)
			}
			continue
		}
		for _, kind := range b.kinds {
			for _, H := range b.heads {
				shape, err := b.shape(kind, H, page)
				if err != nil {
					return nil, err
				}
				all = append(all, b.sizes(fmt.Sprintf("%s H%d", kind, H), shape)...)
			}
		}
	}
	if all, err = b.typed(all); err != nil {
		return nil, err
	}
	for _, p := range all {
		p.MaxPages = (2*p.S + p.Page - 1) / max(p.Page, 1)
		if err := p.Check(); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// typed are problems with each type of cache side by side.
func (b *attentionBench) typed(problems []kernels.DecodeProblem) (all []kernels.DecodeProblem, err error) {
	caches := b.caches
	if len(caches) == 0 {
		caches = []string{string(attention.BF16)}
	}
	for _, p := range problems {
		for _, c := range caches {
			if p.FP8 = c == string(attention.FP8); !p.FP8 && c != string(attention.BF16) {
				return nil, fmt.Errorf("bench attention: cache-type must be bf16 or fp8, not %q", c)
			}
			all = append(all, p)
		}
	}
	return all, nil
}

// sizes spreads a shape over batches, lengths and new tokens.
func (b *attentionBench) sizes(name string, shape kernels.DecodeShape) (all []kernels.DecodeProblem) {
	for _, B := range b.batches {
		for _, S := range b.lengths {
			for _, T := range b.queries {
				shape.B, shape.T = B, T
				all = append(all, kernels.DecodeProblem{DecodeShape: shape, Name: name, S: S, Ragged: b.ragged})
			}
		}
	}
	return all
}

// shape is what the kernels see of a kind.
func (b *attentionBench) shape(name string, H, page int) (s kernels.DecodeShape, err error) {
	c := attention.Default()
	if c.Kind, c.Groups, err = attention.Parse(name); err != nil {
		return s, err
	}
	c.Heads, c.HeadDim, c.RopeDim = H, b.headDim, b.ropeDim
	if err := c.Validate(); err != nil {
		return s, err
	}
	see := c.Shape()
	return kernels.DecodeShape{Cache: string(c.Form()), H: c.Reads(), G: c.CachedHeads(), P: see.P, R: see.R,
		Dv: see.Dv, Page: page}, nil
}

// plotDecode draws the measured points under the ceilings of the same run.
func plotDecode(file string, g roofline.GPU, results []kernels.DecodeTime) error {
	at := map[string]int{}
	var all []series
	for _, t := range results {
		name := t.Name
		if t.Cache != "" && t.Cache != string(attention.BF16) {
			name += " " + t.Cache
		}
		i, ok := at[name]
		if !ok {
			i = len(all)
			at[name] = i
			all = append(all, series{name: name})
		}
		all[i].points = append(all[i].points, plotter.XY{X: t.Intensity, Y: t.TFLOPs})
	}
	return drawRoofline(file, "Decode attention, measured, under the roofline of "+g.Name, g, all)
}
