package main

import (
	"encoding/json"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"headroom/attention"
	"headroom/configs"
	"headroom/decode"
	"headroom/internal/lab"
	"headroom/model"
)

// runFlags are the flags of every command that resolves a run.
type runFlags struct {
	preset, attention, device string
	sets                      []string
}

func (f *runFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.preset, "preset", "", "values below those of the file: see headroom config presets")
	cmd.Flags().StringVar(&f.attention, "attention", "", "the attention kind in short: "+
		strings.Join(attention.Names(), ", "))
	cmd.Flags().StringVar(&f.device, "device", "", "cpu or cuda, short for --set train.device=…")
	cmd.Flags().StringArrayVar(&f.sets, "set", nil, "override one key, as in --set train.lr=3e-4; may be given many times")
}

// input is the source of the run's values, with the short flags as settings.
func (f *runFlags) input(args []string) (in configs.Input, err error) {
	in = configs.Input{Preset: f.preset}
	if len(args) > 0 {
		in.File = args[0]
	}
	if f.device != "" {
		in.Sets = append(in.Sets, "train.device="+f.device)
	}
	if f.attention != "" {
		if in.Sets, err = lab.Short(f.attention, in.Sets); err != nil {
			return in, err
		}
	}
	in.Sets = append(in.Sets, f.sets...)
	return in, nil
}

// untrained is a configuration and its model with random weights, to measure speed by.
func (f *runFlags) untrained(args []string) (*configs.Resolved, *decode.Model, error) {
	in, err := f.input(args)
	if err != nil {
		return nil, nil, err
	}
	r, err := configs.Load(in)
	if err != nil {
		return nil, nil, err
	}
	t, err := model.New(r.Model, r.Attention)
	if err != nil {
		return nil, nil, err
	}
	return r, decode.Random(t, 1), nil
}

// cacheHelp is what --cache-type chooses.
const cacheHelp = "how the cache is kept: fp32, bf16, or fp8 with a scale for each vector; empty is as the precision"

func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
