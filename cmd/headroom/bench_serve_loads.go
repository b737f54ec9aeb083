package main

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"headroom/configs"
)

// A namedLoad is values of bench serve's flags, by their names.
type namedLoad struct {
	about string
	flags map[string]string
}

var namedLoads = map[string]namedLoad{
	"long": {"64 clients, prompts of 8,192 tokens, answers of 512", map[string]string{
		"concurrency": "64", "prompt": "8192", "output": "512", "requests": "128", "warm": "0", "first-limit": "0",
	}},
	"mixed": {"64 clients, half of the prompts of 128 to 1,024 tokens and half of 4,096 to 8,192, answers of 64 to 512",
		map[string]string{
			"concurrency": "64", "prompt": "128-1024,4096-8192", "output": "64-512", "requests": "256", "first-limit": "0",
		}},
}

func loadNames() []string { return slices.Sorted(maps.Keys(namedLoads)) }

// loadsHelp lists the loads, a line each.
func loadsHelp() string {
	var s strings.Builder
	for _, name := range loadNames() {
		l := namedLoads[name]
		fmt.Fprintf(&s, "  %-6s %s:\n         ", name, l.about)
		for i, flag := range slices.Sorted(maps.Keys(l.flags)) {
			if i > 0 {
				s.WriteString(" ")
			}
			fmt.Fprintf(&s, "--%s %s", flag, l.flags[flag])
		}
		s.WriteString("\n")
	}
	return s.String()
}

// named sets the flags of a named load that were not given. A rate takes the place of its clients.
func (b *serveBench) named(flags *pflag.FlagSet) error {
	if b.load == "" {
		return nil
	}
	l, ok := namedLoads[b.load]
	if !ok {
		return fmt.Errorf("bench serve: there is no load %q: it must be %s", b.load, strings.Join(loadNames(), " or "))
	}
	for name, value := range l.flags {
		if flags.Changed(name) || name == "concurrency" && flags.Changed("rate") {
			continue
		}
		if err := flags.Set(name, value); err != nil {
			return fmt.Errorf("bench serve: --%s of load %s: %w", name, b.load, err)
		}
	}
	return nil
}

// model is the flags of headroom serve for a preset, or kind of it, with a context that holds the load.
func (b *serveBench) model(preset, kind string) ([]string, error) {
	in, err := (&runFlags{preset: preset, attention: kind}).input(nil)
	if err != nil {
		return nil, err
	}
	r, err := configs.Load(in)
	if err != nil {
		return nil, err
	}
	flags := []string{"--preset", preset, "--attention", kind}
	if longest := b.plan.Prompt.Longest() + b.plan.Output.Longest(); longest > r.Model.Context {
		slog.Info("the model gets a longer context", "preset", preset, "context", r.Model.Context, "now", longest)
		flags = append(flags, "--set", fmt.Sprintf("model.context=%d", longest))
	}
	return flags, nil
}
