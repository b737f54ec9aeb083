package main

import (
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"headroom/attention"
	"headroom/configs"
	"headroom/data"
	"headroom/eval"
	"headroom/internal/roofline"
)

// A completer lists the values that a shell may complete at one place of a command line.
type completer = func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective)

// flagValues are what flags take, by name: a flag of one name means the same in every command.
func flagValues() map[string]completer {
	return map[string]completer{
		"attention": oneOf(attention.Names()...), "device": oneOf("cpu", "cuda"), "precision": oneOf("fp32", "bf16"),
		"dtype": oneOf("bf16", "fp32"), "cache-type": oneOf("fp32", "bf16", "fp8"),
		"format": oneOf("hf", "gguf"), "launch": oneOf("slurm", "kubernetes"), "gpu": oneOf(gpuNames()...),
		"preset": oneOf(configs.Presets()...), "presets": oneOf(configs.Presets()...),
		"pattern":   oneOf(slices.Sorted(maps.Keys(data.Patterns))...),
		"tokenizer": tokenizers, "set": begins(configs.Keys()), "tasks": begins(eval.TaskNames()),
		"text": begins([]string{"train"}),
		"plot": files("png", "svg"), "measured": files("json"), "tls-cert": files("pem", "crt"),
		"tls-key":    files("pem", "key"),
		"load":       oneOf(loadNames()...),
		"checkpoint": folders, "draft": folders, "from": folders,
	}
}

// argValues are what commands take, by the words that call them.
func argValues() map[string]completer {
	run := files("yaml", "yml")
	return map[string]completer{
		"train": run, "config print": run, "bench decode": run, "compare": orFiles(configs.Comparisons(), "yaml", "yml"),
		"analyze": orFiles(configs.Presets(), "yaml", "yml"), "eval": folders, "generate": folders, "serve": folders,
		"export":        folders,
		"verify export": folders, "import": folders, "report": folders, "watch": folders,
	}
}

// complete registers the completers of every command's flags and arguments.
func complete(root *cobra.Command) {
	flags, args := flagValues(), argValues()
	var visit func(cmd *cobra.Command)
	visit = func(cmd *cobra.Command) {
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if values := flags[f.Name]; values != nil {
				if strings.HasSuffix(f.Value.Type(), "Slice") {
					values = separated(values)
				}
				if err := cmd.RegisterFlagCompletionFunc(f.Name, values); err != nil {
					panic(err)
				}
			}
		})
		if _, name, ok := strings.Cut(cmd.CommandPath(), " "); ok {
			cmd.ValidArgsFunction = args[name]
		}
		for _, child := range cmd.Commands() {
			visit(child)
		}
	}
	visit(root)
}

func oneOf(values ...string) completer {
	return func(_ *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
		return starting(values, typed), cobra.ShellCompDirectiveNoFileComp
	}
}

func starting(values []string, typed string) (all []string) {
	for _, v := range values {
		if strings.HasPrefix(v, typed) {
			all = append(all, v)
		}
	}
	return all
}

// begins completes names before =, and files behind it.
func begins(names []string) completer {
	return func(_ *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
		if strings.Contains(typed, "=") {
			return nil, cobra.ShellCompDirectiveDefault
		}
		var all []string
		for _, name := range starting(names, typed) {
			all = append(all, name+"=")
		}
		return all, cobra.ShellCompDirectiveNoSpace | cobra.ShellCompDirectiveNoFileComp
	}
}

func files(extensions ...string) completer {
	return func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return extensions, cobra.ShellCompDirectiveFilterFileExt
	}
}

// orFiles completes names, and files where no name begins as the typed text does.
func orFiles(names []string, extensions ...string) completer {
	return func(_ *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
		if all := starting(names, typed); len(all) > 0 {
			return all, cobra.ShellCompDirectiveDefault
		}
		return extensions, cobra.ShellCompDirectiveFilterFileExt
	}
}

func tokenizers(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	return orFiles(data.TokenizerNames(), "json")(cmd, args, typed)
}

func folders(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveFilterDirs
}

// separated completes the last of several values with commas between them.
func separated(values completer) completer {
	return func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		at := strings.LastIndexByte(typed, ',') + 1
		all, directive := values(cmd, args, typed[at:])
		if at > 0 && directive&cobra.ShellCompDirectiveFilterFileExt == 0 {
			for i, v := range all {
				all[i] = typed[:at] + v
			}
		}
		return all, directive
	}
}

func gpuNames() (names []string) {
	for _, g := range roofline.GPUs {
		names = append(names, g.Name)
	}
	return names
}
