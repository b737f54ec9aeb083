package configs

import (
	"embed"
	"fmt"
	"path"
	"strings"
)

//go:embed *.yaml
var presets embed.FS

// presetValues reads an embedded preset by key.
func presetValues(name string) (map[string]any, error) {
	file := name + ".yaml"
	text, err := presets.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("configs: preset %q: must be one of %s", name, strings.Join(Presets(), ", "))
	}
	document, err := Parse(file, text)
	if err != nil {
		return nil, err
	}
	values, below, err := flatten(file, document)
	if err == nil && below != "" {
		err = fmt.Errorf("configs: %s: a preset has no preset", file)
	}
	return values, err
}

// Presets lists the names of the presets.
func Presets() (names []string) {
	files, err := presets.ReadDir(".")
	if err != nil {
		panic(err) // they are part of the program
	}
	for _, f := range files {
		names = append(names, strings.TrimSuffix(f.Name(), path.Ext(f.Name())))
	}
	return names
}
