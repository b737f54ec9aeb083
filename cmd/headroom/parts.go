package main

import (
	"fmt"

	"github.com/spf13/pflag"
)

// parts is how many devices divide a model for decoding.
type parts struct{ devices, gpus int }

func (p *parts) flags(f *pflag.FlagSet) {
	f.IntVar(&p.devices, "tensor-parallel", 1,
		"GPUs (or parts of the cpu) that divide the heads and their cache among them")
	f.IntVar(&p.gpus, "gpus", 0, "short for --device cuda --tensor-parallel N")
}

// settle gives --gpus its meaning.
func (p *parts) settle(f *pflag.FlagSet, device *string) error {
	if !f.Changed("gpus") {
		return nil
	}
	if p.gpus < 1 {
		return fmt.Errorf("--gpus must be at least 1, not %d", p.gpus)
	}
	if f.Changed("device") && *device != "cuda" || f.Changed("tensor-parallel") && p.devices != p.gpus {
		return fmt.Errorf("--gpus %d means --device cuda --tensor-parallel %d, and another is given as well", p.gpus, p.gpus)
	}
	*device, p.devices = "cuda", p.gpus
	return nil
}
