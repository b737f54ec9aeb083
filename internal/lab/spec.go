package lab

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"headroom/configs"
)

// spec is a comparison as it stands in a file.
type spec struct {
	Name     string    `yaml:"name"`
	Base     yaml.Node `yaml:"base"` // a run, or the name of a file or preset
	Baseline string    `yaml:"baseline"`
	Seeds    []uint64  `yaml:"seeds"`
	Arms     yaml.Node `yaml:"arms"` // in the order of the table
	Vary     []string  `yaml:"vary"`
}

// vary is what arms may change where the file does not say.
var vary = []string{"attention.*", "model.mlp"}

// fit is what names a comparison and its arms: they become folders.
var fit = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

// Open reads a comparison from a file. sets override keys of its base; its runs go to out, or to runs/NAME.
func Open(file, out string, sets []string) (*Compare, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	c, err := parse(text, filepath.Dir(file), sets)
	if err != nil {
		return nil, fmt.Errorf("%w (%s)", err, file)
	}
	if c.Dir = out; out == "" {
		c.Dir = filepath.Join("runs", c.Name)
	}
	return c, nil
}

// parse resolves a comparison; a base that is a file lies in dir.
func parse(text []byte, dir string, sets []string) (*Compare, error) {
	s := spec{Vary: vary}
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(&s); err != nil {
		return nil, fmt.Errorf("lab: compare: %s", strings.Join(strings.Fields(err.Error()), " "))
	}
	if err := s.validate(); err != nil {
		return nil, err
	}
	base, err := s.input(dir, sets)
	if err != nil {
		return nil, err
	}
	plain, err := configs.Load(base)
	if err != nil {
		return nil, fmt.Errorf("base: %w", err)
	}
	c := &Compare{Name: s.Name, Baseline: s.Baseline, Seeds: s.Seeds}
	for i := 0; i+1 < len(s.Arms.Content); i += 2 {
		name := s.Arms.Content[i].Value
		base.Arm = s.Arms.Content[i+1]
		arm, err := configs.Load(base)
		if err == nil {
			err = arm.Validate()
		}
		if err != nil {
			return nil, fmt.Errorf("arm %s: %w", name, err)
		}
		c.Arms = append(c.Arms, Arm{name, arm.Run})
	}
	return c, c.check(plain.Run, s.Vary)
}

func (s *spec) validate() error {
	if !fit.MatchString(s.Name) {
		return fmt.Errorf("lab: compare: name must be letters, digits, points and dashes, not %q", s.Name)
	}
	if s.Arms.Kind != yaml.MappingNode || len(s.Arms.Content) < 4 {
		return errors.New("lab: compare: arms must name at least two arms with what each changes")
	}
	var names []string
	for i := 0; i < len(s.Arms.Content); i += 2 {
		name := s.Arms.Content[i].Value
		if !fit.MatchString(name) || slices.Contains(names, name) {
			return fmt.Errorf("lab: compare: an arm's name must be its own, of letters, digits, points and dashes, not %q", name)
		}
		names = append(names, name)
	}
	if !slices.Contains(names, s.Baseline) {
		return fmt.Errorf("lab: compare: baseline must be one of the arms %s, not %q", strings.Join(names, ", "), s.Baseline)
	}
	if sorted := slices.Compact(slices.Sorted(slices.Values(s.Seeds))); len(sorted) != len(s.Seeds) || len(sorted) == 0 {
		return fmt.Errorf("lab: compare: seeds must be a list of at least one, each once, not %v", s.Seeds)
	}
	return configs.CheckPatterns("compare: vary", s.Vary)
}

// input is the base as a source of values.
func (s *spec) input(dir string, sets []string) (in configs.Input, err error) {
	in.Sets = sets
	switch {
	case s.Base.Kind == yaml.MappingNode:
		in.Document = &s.Base
	case s.Base.Kind != yaml.ScalarNode || s.Base.Value == "":
		return in, errors.New("lab: compare: base must be a run, or the name of a file or preset")
	case slices.Contains(configs.Presets(), s.Base.Value):
		in.Preset = s.Base.Value
	case filepath.IsAbs(s.Base.Value):
		in.File = s.Base.Value
	default:
		in.File = filepath.Join(dir, s.Base.Value)
	}
	return in, nil
}
