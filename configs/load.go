package configs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/spf13/viper"
	"go.yaml.in/yaml/v3"
)

// Input is where the values of a run come from. Later ones override earlier ones: the defaults, the preset, the file or
// the document in its stead, the environment (HEADROOM_TRAIN_LR), Sets and Over.
type Input struct {
	Preset   string       // overrides the one that the file names
	File     string       // "-" reads standard input
	Document *yaml.Node   // a run that is part of a larger document, instead of File
	Sets     []string     // train.lr=3e-4
	Over     []*yaml.Node // what a size and an arm of a comparison change, in this order
}

// Resolved is a run with the origin of each value.
type Resolved struct {
	Run
	From map[string]string // by key: default, preset NAME, file NAME, env NAME, --set, arm
}

// Load resolves a run. Everything is checked but that data are named, which a preset leaves open.
func Load(in Input) (*Resolved, error) {
	l := newLoader()
	for _, layer := range []func(Input) error{l.files, l.env, l.sets, l.over} {
		if err := layer(in); err != nil {
			return nil, err
		}
	}
	r, err := l.resolve()
	if err != nil {
		return nil, err
	}
	return r, r.check()
}

// Stored reads the configuration that a run directory keeps: the file alone decides.
func Stored(file string) (Run, error) { return stored(Input{File: file}) }

// Restored is Stored for a run inside a larger document.
func Restored(document *yaml.Node) (Run, error) { return stored(Input{Document: document}) }

func stored(in Input) (Run, error) {
	l := newLoader()
	if err := l.files(in); err != nil {
		return Run{}, err
	}
	r, err := l.resolve()
	if err != nil {
		return Run{}, err
	}
	return r.Run, nil
}

// A loader collects the layers of a run.
type loader struct {
	v    *viper.Viper
	from map[string]string
}

func newLoader() *loader {
	l := &loader{v: viper.New(), from: map[string]string{}}
	defaults := reflect.ValueOf(Default())
	for _, f := range schema {
		l.v.SetDefault(f.key, defaults.FieldByIndex(f.index).Interface())
		l.from[f.key] = "default"
	}
	return l
}

// resolve turns the layers into a run. Where train.tokens is given, it replaces the default number of steps.
func (l *loader) resolve() (*Resolved, error) {
	if l.from["train.tokens"] != "default" && l.from["train.steps"] == "default" {
		l.v.SetDefault("train.steps", 0)
	}
	r := &Resolved{From: l.from}
	err := l.v.UnmarshalExact(&r.Run, viper.DecodeHook(func(from, to reflect.Type, value any) (any, error) {
		if text, ok := value.(string); ok && to.Kind() != reflect.Struct {
			// a value of the environment, which was checked before
			return convertText(text, to)
		}
		return value, nil
	}))
	if err != nil {
		return nil, fmt.Errorf("configs: %w", err)
	}
	return r, nil
}

// files merges the preset and the file.
func (l *loader) files(in Input) error {
	name, document := "the base", in.Document
	if document == nil && in.File != "" {
		name = in.File
		text, err := read(in.File)
		if err != nil {
			return fmt.Errorf("configs: %w", err)
		}
		if document, err = Parse(name, text); err != nil {
			return err
		}
	}
	values, preset, err := flatten(name, document)
	if err != nil {
		return err
	}
	if in.Preset != "" {
		preset = in.Preset
	}
	if preset != "" {
		below, err := presetValues(preset)
		if err != nil {
			return err
		}
		if err := l.merge(below, "preset "+preset); err != nil {
			return err
		}
	}
	return l.merge(values, "file "+name)
}

func read(file string) ([]byte, error) {
	if file == "-" {
		return io.ReadAll(os.Stdin)
	}
	return os.ReadFile(file)
}

// merge overrides the values of earlier files.
func (l *loader) merge(values map[string]any, from string) error {
	nested := map[string]any{}
	for key, value := range values {
		at := nested
		parts := strings.Split(key, ".")
		for _, part := range parts[:len(parts)-1] {
			if at[part] == nil {
				at[part] = map[string]any{}
			}
			at = at[part].(map[string]any)
		}
		at[parts[len(parts)-1]] = value
		l.from[key] = from
	}
	return l.v.MergeConfigMap(nested)
}

func (l *loader) env(Input) error {
	for _, f := range schema {
		text := os.Getenv(f.env())
		if text == "" {
			continue
		}
		if _, err := convertText(text, f.typ); err != nil {
			return fmt.Errorf("configs: %s: %s %w", f.env(), f.key, err)
		}
		if err := l.v.BindEnv(f.key, f.env()); err != nil {
			return err
		}
		l.from[f.key] = "env " + f.env()
	}
	return nil
}

func (l *loader) sets(in Input) error {
	for _, set := range in.Sets {
		key, text, ok := strings.Cut(set, "=")
		if !ok {
			return fmt.Errorf("configs: --set %q: must be KEY=VALUE", set)
		}
		f, name, ok := locate(strings.TrimSpace(key))
		if !ok {
			return unknown("--set", key)
		}
		value, err := l.setting(f, name, text)
		if err != nil {
			return fmt.Errorf("configs: --set: %s %w", key, err)
		}
		l.v.Set(f.key, value)
		l.from[f.key] = "--set"
	}
	return nil
}

// locate returns the field of a key, and for data.val.books the field data.val and the name books in it.
func locate(key string) (f field, name string, ok bool) {
	if f, ok = find(key); ok {
		return f, "", true
	}
	for _, f := range schema {
		if name, ok := strings.CutPrefix(key, f.key+"."); ok && f.isMap() && name != "" {
			return f, name, true
		}
	}
	return f, "", false
}

// setting is the new value of a field: that of the text, or the map as it was with one name set.
func (l *loader) setting(f field, name, text string) (any, error) {
	if name == "" {
		return convertText(text, f.typ)
	}
	v, err := convertText(text, f.typ.Elem())
	if err != nil {
		return nil, err
	}
	m := reflect.MakeMap(f.typ)
	was := l.v.Get(f.key)
	if env, ok := was.(string); ok { // a value of the environment, which was checked before
		was, _ = convertText(env, f.typ)
	}
	for old := reflect.ValueOf(was).MapRange(); old.Next(); {
		m.SetMapIndex(old.Key(), old.Value())
	}
	m.SetMapIndex(reflect.ValueOf(name), reflect.ValueOf(v))
	return m.Interface(), nil
}

func (l *loader) over(in Input) error {
	for _, document := range in.Over {
		values, preset, err := flatten("the arm", document)
		if err != nil {
			return err
		}
		if preset != "" {
			return fmt.Errorf("configs: the arm: preset %s: an arm sets keys over the base", preset)
		}
		for key, value := range values {
			l.v.Set(key, value)
			l.from[key] = "arm"
		}
	}
	return nil
}

// Parse reads a file of one YAML document. An empty one is nil.
func Parse(name string, text []byte) (*yaml.Node, error) {
	d := yaml.NewDecoder(bytes.NewReader(text))
	var document, more yaml.Node
	switch err := d.Decode(&document); {
	case errors.Is(err, io.EOF):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("configs: %s: %s", name, strings.ReplaceAll(err.Error(), "\n", " "))
	}
	if err := d.Decode(&more); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("configs: %s: must hold one YAML document", name)
	}
	if len(document.Content) != 1 {
		return nil, nil
	}
	return document.Content[0], nil
}

// flatten reads a run as far as it is written, by key, and the preset that it names.
func flatten(name string, n *yaml.Node) (values map[string]any, preset string, err error) {
	values = map[string]any{}
	if n == nil || n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" {
		return values, "", nil
	}
	err = each(name, "", n, func(key string, line int, value *yaml.Node) error {
		where := fmt.Sprintf("%s:%d", name, line)
		f, ok := find(key)
		switch {
		case key == "preset":
			v, err := convert(value, reflect.TypeFor[string]())
			if err != nil {
				return fmt.Errorf("configs: %s: preset %w", where, err)
			}
			preset = v.(string)
			return nil
		case !ok:
			return unknown(where, key)
		}
		v, err := convert(value, f.typ)
		if err != nil {
			return fmt.Errorf("configs: %s: %s %w", where, key, err)
		}
		values[key] = v
		return nil
	})
	return values, preset, err
}

// each visits the keys of a mapping and of the sections in it.
func each(name, prefix string, n *yaml.Node, visit func(key string, line int, value *yaml.Node) error) error {
	n = follow(n)
	if n.Kind != yaml.MappingNode {
		where := strings.TrimSuffix(prefix, ".")
		if where == "" {
			where = "the run"
		}
		return fmt.Errorf("configs: %s:%d: %s must be a mapping, not %s", name, n.Line, where, show(n))
	}
	var seen []string
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, value := follow(n.Content[i]), n.Content[i+1]
		key := prefix + k.Value
		if k.Kind != yaml.ScalarNode {
			return fmt.Errorf("configs: %s:%d: a key must be a word, not %s", name, k.Line, show(k))
		}
		if slices.Contains(seen, key) {
			return fmt.Errorf("configs: %s:%d: %s stands there twice", name, k.Line, quoteOdd(key))
		}
		seen = append(seen, key)
		var err error
		if isSection(key) {
			if v := follow(value); v.Kind == yaml.ScalarNode && v.ShortTag() == "!!null" {
				continue // a section without a key
			}
			err = each(name, key+".", value, visit)
		} else {
			err = visit(key, k.Line, value)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
