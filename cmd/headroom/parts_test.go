package main

import (
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

func TestParts(t *testing.T) {
	for args, want := range map[string]struct {
		device  string
		devices int
		err     string
	}{
		"":                                 {"cpu", 1, ""},
		"--tensor-parallel 4":              {"cpu", 4, ""},
		"--gpus 2":                         {"cuda", 2, ""},
		"--gpus 2 --device cuda":           {"cuda", 2, ""},
		"--gpus 2 --tensor-parallel 2":     {"cuda", 2, ""},
		"--gpus 0":                         {err: "--gpus must be at least 1, not 0"},
		"--gpus 2 --device cpu":            {err: "--gpus 2 means --device cuda --tensor-parallel 2"},
		"--gpus 2 --tensor-parallel 4":     {err: "--gpus 2 means --device cuda --tensor-parallel 2"},
		"--device cpu --tensor-parallel 2": {"cpu", 2, ""},
	} {
		var p parts
		f := pflag.NewFlagSet("", pflag.ContinueOnError)
		device := f.String("device", "cpu", "")
		p.flags(f)
		if err := f.Parse(strings.Fields(args)); err != nil {
			t.Fatal(err)
		}
		err := p.settle(f, device)
		switch {
		case want.err != "":
			if err == nil || !strings.Contains(err.Error(), want.err) {
				t.Errorf("%q: error %v, want %q", args, err, want.err)
			}
		case err != nil || *device != want.device || p.devices != want.devices:
			t.Errorf("%q: %s, %d, %v", args, *device, p.devices, err)
		}
	}
}
