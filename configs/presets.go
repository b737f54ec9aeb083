package configs

import (
	"embed"
	"fmt"
	"path"
	"reflect"
	"slices"
	"strings"

	"headroom/model"
)

//go:embed *.yaml compare/*.yaml
var presets embed.FS

// comparisons is the folder of the presets of comparisons.
const comparisons = "compare"

// Comparison is the text of a preset of comparisons, nil where there is none of this name.
func Comparison(name string) []byte {
	text, err := presets.ReadFile(path.Join(comparisons, name+".yaml"))
	if err != nil {
		return nil
	}
	return text
}

// Comparisons lists the presets of comparisons.
func Comparisons() []string { return embedded(comparisons) }

// presetValues reads a preset by key: one of the embedded files, or a model of the paper.
func presetValues(name string) (map[string]any, error) {
	if slices.Contains(model.Presets(), name) {
		return paperValues(name)
	}
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

// A recipe is how a paper trains a size: sequences of the context a step, tokens, and the learning rate as printed.
type recipe struct {
	sequences int
	tokens    int64
	lr        float64
}

// recipes are those of the papers; TPA's are its authors' files.
var recipes = map[string]recipe{
	"183m": {512, 25e9, 2.6e-4}, "433m": {512, 50e9, 1.45e-4}, "876m": {512, 50e9, 1.2e-4}, "1471m": {256, 50e9, 1e-4},
	"2873m": {480, 100000 * 480 * 2048, 1.6e-4},
	"124m":  {480, 100000 * 480 * 1024, 6e-4}, "353m": {480, 100000 * 480 * 1024, 6e-4},
	"773m": {480, 100000 * 480 * 1024, 2e-4}, "1550m": {480, 100000 * 480 * 1024, 1e-4},
}

// paperValues is one of the paper's models with its recipe.
func paperValues(name string) (map[string]any, error) {
	size, kind, _ := strings.Cut(name, "-")
	r := Default()
	var err error
	if r.Model, r.Attention, err = model.Preset(size, kind); err != nil {
		return nil, err
	}
	recipe := recipes[size]
	r.Train.Batch = 8
	r.Train.Accumulate, r.Train.Tokens, r.Train.LR = recipe.sequences/r.Train.Batch, recipe.tokens, recipe.lr
	values := map[string]any{}
	for _, f := range schema {
		section, key, _ := strings.Cut(f.key, ".")
		own := section == "model" || section == "attention" ||
			section == "train" && slices.Contains([]string{"batch", "accumulate", "tokens", "lr"}, key)
		if own {
			values[f.key] = reflect.ValueOf(r).FieldByIndex(f.index).Interface()
		}
	}
	return values, nil
}

// Presets lists the names of the presets: the embedded files, then the paper's models.
func Presets() []string {
	return append(embedded("."), model.Presets()...)
}

func embedded(dir string) (names []string) {
	files, err := presets.ReadDir(dir)
	if err != nil {
		panic(err) // the files are embedded in the program
	}
	for _, f := range files {
		if !f.IsDir() {
			names = append(names, strings.TrimSuffix(f.Name(), path.Ext(f.Name())))
		}
	}
	return names
}
