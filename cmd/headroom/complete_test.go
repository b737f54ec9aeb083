package main

import (
	"slices"
	"strings"
	"testing"
	"unicode"

	"headroom/attention"
)

// TestHelpNamesEveryKind: the program's help and that of --attention name all kinds.
func TestHelpNamesEveryKind(t *testing.T) {
	for args, name := range map[string]func(d attention.Description) string{
		"--help":       func(d attention.Description) string { return string(d.Kind) },
		"train --help": func(d attention.Description) string { return d.Name(d.Usual) },
	} {
		code, out, _ := headroom(strings.Fields(args)...)
		words := strings.FieldsFunc(out, func(r rune) bool {
			return !unicode.IsLetter(r) && !unicode.IsDigit(r) &&
				r != '_' && r != '-'
		})
		for _, d := range attention.Descriptions {
			if !slices.ContainsFunc(words, func(w string) bool { return w == name(d) || strings.HasPrefix(w, name(d)+"-") }) ||
				code != 0 {
				t.Errorf("headroom %s does not name %s", args, name(d))
			}
		}
	}
}

// TestCompletion asks as a shell does: kinds, devices, formats, presets, keys and file types are offered.
func TestCompletion(t *testing.T) {
	const (
		noFiles, byExtension, onlyFolders, keyFirst, any = ":4", ":8", ":16", ":6", ":0"
	)
	for _, c := range []struct {
		args      []string
		want      string
		directive string
	}{
		{[]string{"train", "--attention", ""}, strings.Join(attention.Names(), " "), noFiles},
		{[]string{"train", "--attention", "gl"}, "gla-2 gla_q-2", noFiles},
		{[]string{"bench", "decode", "--attention", "mla,gt"}, "mla,gta-4", noFiles},
		{[]string{"generate", "x", "--device", ""}, "cpu cuda", noFiles},
		{[]string{"serve", "x", "--precision="}, "fp32 bf16", noFiles},
		{[]string{"export", "x", "--format", ""}, "hf gguf", noFiles},
		{[]string{"train", "--preset", "183m-gl"}, "183m-gla-2", noFiles},
		{[]string{"train", "--set", "train.be"}, "train.beta1= train.beta2=", keyFirst},
		{[]string{"config", "print", ""}, "yaml yml", byExtension},
		{[]string{"compare", ""}, "books-50m books-cpu", any},
		{[]string{"compare", "./"}, "yaml yml", byExtension},
		{[]string{"prepare", "--tokenizer", "g"}, "gpt2", any},
		{[]string{"prepare", "--tokenizer", "./"}, "json", byExtension},
		{[]string{"analyze", "1471m-m"}, "1471m-mha 1471m-mla", any},
		{[]string{"analyze", "--plot", ""}, "png svg", byExtension},
		{[]string{"analyze", "--gpu", "H"}, "H100 H200", noFiles},
		{[]string{"eval", "x", "--tasks", "hel"}, "hellaswag=", keyFirst},
		{[]string{"eval", ""}, "", onlyFolders},
	} {
		code, out, logs := headroom(append([]string{"__complete"}, c.args...)...)
		lines := strings.Fields(strings.TrimSpace(out))
		if code != 0 || len(lines) == 0 || lines[len(lines)-1] != c.directive {
			t.Errorf("%v: code %d, %q, %s", c.args, code, out, logs)
			continue
		}
		got, want := lines[:len(lines)-1], strings.Fields(c.want)
		if slices.Sort(got); !slices.Equal(got, slices.Sorted(slices.Values(want))) {
			t.Errorf("%v: %v, not %v", c.args, got, want)
		}
	}
}
