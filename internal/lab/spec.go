package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
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
	// its name, and that of its folder of runs
	Name string `yaml:"name"`
	// the run that all arms change: a run, or the name of a file or preset
	Base yaml.Node `yaml:"base"`
	// the arm that the others are compared with
	Baseline string `yaml:"baseline"`
	// every arm trains once with each
	Seeds []uint64 `yaml:"seeds"`
	// names of sizes, with what each changes in the base; all arms are trained at each
	Sizes yaml.Node `yaml:"sizes"`
	// names of arms, in the order of the table, with what each changes in the base
	Arms yaml.Node `yaml:"arms"`
	// keys that arms may change: attention.* and model.mlp where nothing is said
	Vary []string `yaml:"vary"`
	// learning rates to try; every arm is compared at its best
	LR []float64 `yaml:"lr"`
	// how many of the first seeds try all rates; the others train at the best; 0 is all seeds
	LRSeeds int `yaml:"lr_seeds"`
	// what MLP widths are fitted to, so that arms equal the baseline in it: parameters or flops
	Match string `yaml:"match"`
	// BATCHxCONTEXT at which decoding is timed too
	Decode []string `yaml:"decode"`
}

// vary are the keys that arms may change where the file does not say.
var vary = []string{"attention.*", "model.mlp"}

// fit is the pattern of names of comparisons and arms, which become folders.
var fit = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

// An Order is what a comparison is opened from.
type Order struct {
	Name   string            // a file, or a preset of comparisons
	Out    string            // where its runs go; empty is runs/NAME
	Sets   []string          // override keys of the base
	Texts  map[string]string // by set: text to make shards of, instead of those that the base names; see prepare
	Decode []string          // instead of the comparison's own cases
	Keep   string            // a directory for the results of finished runs, without weights; empty for none
	Extend bool              // add learning rates to arms whose optimum is not inside
	Dry    bool              // prepare nothing
	Log    io.Writer         // where the progress of preparing goes
}

// Open reads a comparison, prepares texts where there are some, and resolves every arm.
func Open(ctx context.Context, o Order) (*Compare, error) {
	text, dir := configs.Comparison(o.Name), "."
	if text == nil {
		var err error
		if text, err = os.ReadFile(o.Name); errors.Is(err, fs.ErrNotExist) && filepath.Ext(o.Name) == "" {
			return nil, fmt.Errorf("lab: %s is neither a file nor one of the comparisons %s", o.Name,
				strings.Join(configs.Comparisons(), ", "))
		} else if err != nil {
			return nil, fmt.Errorf("lab: %w", err)
		}
		dir = filepath.Dir(o.Name)
	}
	c, err := o.open(ctx, text, dir)
	if err != nil {
		return nil, fmt.Errorf("%w (%s)", err, o.Name)
	}
	return c, nil
}

// open resolves a comparison; a base that is a file lies in dir.
func (o Order) open(ctx context.Context, text []byte, dir string) (*Compare, error) {
	s := spec{Vary: vary}
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(&s); err != nil {
		return nil, fmt.Errorf("lab: compare: %s", strings.Join(strings.Fields(err.Error()), " "))
	}
	if len(o.Decode) > 0 {
		s.Decode = o.Decode
	}
	if err := s.validate(); err != nil {
		return nil, err
	}
	if o.Out == "" {
		o.Out = filepath.Join("runs", s.Name)
	}
	base, err := s.input(dir, o.Sets)
	if err != nil {
		return nil, err
	}
	plain, err := configs.Load(base)
	if err != nil {
		return nil, fmt.Errorf("base: %w", err)
	}
	made, err := o.prepare(ctx, plain.Run)
	if err != nil {
		return nil, err
	}
	base.Sets = append(made, base.Sets...)
	c := &Compare{Name: s.Name, Dir: o.Out, Baseline: s.Baseline, Seeds: s.Seeds, LR: s.LR, LRSeeds: s.LRSeeds,
		Match: s.Match, Results: o.Keep, Extend: o.Extend}
	if err := c.extensible(); err != nil {
		return nil, err
	}
	if len(c.LR) > 0 && c.LRSeeds == 0 {
		c.LRSeeds = len(c.Seeds)
	}
	if c.Decode, err = DecodeCases(s.Decode); err != nil {
		return nil, err
	}
	if s.Sizes.Kind == 0 {
		if err := c.add("", base, &s); err != nil {
			return nil, err
		}
		return c, c.measurable()
	}
	for i := 0; i+1 < len(s.Sizes.Content); i += 2 {
		sized := base
		sized.Over = []*yaml.Node{s.Sizes.Content[i+1]}
		if err := c.add(s.Sizes.Content[i].Value, sized, &s); err != nil {
			return nil, fmt.Errorf("size %s: %w", s.Sizes.Content[i].Value, err)
		}
	}
	return c, c.measurable()
}

// measurable says that every arm is measured, and on the same sets, so that none is without a figure when all are
// trained.
func (c *Compare) measurable() error {
	first := c.Arms[0]
	for _, arm := range c.Arms {
		if err := distinct(arm.Config); err != nil {
			return err
		}
		if len(reported(arm.Config)) == 0 {
			return fmt.Errorf("lab: compare: arm %s is measured on nothing: data.val must name at least one set, as in data: "+
				"{val: {books: shards/val}}", arm.label())
		}
		for _, of := range []func(configs.Run) []string{reported, selection} {
			if a, b := of(first.Config), of(arm.Config); !slices.Equal(a, b) {
				return fmt.Errorf("lab: compare: all arms must be measured on the same sets, but %s is on %s and %s on %s",
					first.label(), strings.Join(a, ", "), arm.label(), strings.Join(b, ", "))
			}
		}
	}
	return nil
}

// add resolves the arms at one size.
func (c *Compare) add(size string, base configs.Input, s *spec) error {
	plain, err := configs.Load(base)
	if err != nil {
		return err
	}
	var arms []Arm
	for i := 0; i+1 < len(s.Arms.Content); i += 2 {
		name, in := s.Arms.Content[i].Value, base
		in.Over = append(slices.Clone(base.Over), s.Arms.Content[i+1])
		arm, err := configs.Load(in)
		if err == nil {
			err = arm.Validate()
		}
		if err != nil {
			return fmt.Errorf("arm %s: %w", name, err)
		}
		arms = append(arms, Arm{Size: size, Name: name, Config: arm.Run})
	}
	if err := check(plain.Run, arms, s.Vary); err != nil {
		return err
	}
	if err := match(arms, s.Baseline, s.Match); err != nil {
		return err
	}
	c.Arms = append(c.Arms, arms...)
	return nil
}

// check refuses arms that differ from the base in more than they may, by name of arm and key.
func check(base configs.Run, arms []Arm, vary []string) error {
	var wrong []string
	for _, arm := range arms {
		for _, change := range configs.Changes(base, arm.Config) {
			if !configs.Matches(change.Key, vary) {
				wrong = append(wrong, fmt.Sprintf("arm %s changes %s from %s to %s, which vary (%s) does not allow",
					arm.Name, change.Key, change.From, change.To, strings.Join(vary, ", ")))
			}
		}
	}
	if len(wrong) > 0 {
		return fmt.Errorf("lab: compare: %s", strings.Join(wrong, "; "))
	}
	return nil
}

func (s *spec) validate() error {
	if !fit.MatchString(s.Name) {
		return fmt.Errorf("lab: compare: name must be letters, digits, points and dashes, not %q", s.Name)
	}
	arms, err := names("arm", s.Arms)
	if err != nil {
		return err
	}
	if len(arms) < 2 {
		return errors.New("lab: compare: arms must name at least two arms with what each changes")
	}
	if !slices.Contains(arms, s.Baseline) {
		return fmt.Errorf("lab: compare: baseline must be one of the arms %s, not %q", strings.Join(arms, ", "), s.Baseline)
	}
	if _, err := names("size", s.Sizes); err != nil {
		return err
	}
	if sorted := slices.Compact(slices.Sorted(slices.Values(s.Seeds))); len(sorted) != len(s.Seeds) || len(sorted) == 0 {
		return fmt.Errorf("lab: compare: seeds must be a list of at least one, each once, not %v", s.Seeds)
	}
	if sorted := slices.Compact(slices.Sorted(slices.Values(s.LR))); len(sorted) != len(s.LR) || len(sorted) > 0 &&
		!(sorted[0] > 0) {
		return fmt.Errorf("lab: compare: lr must be a list of positive learning rates, each once, not %v", s.LR)
	}
	if s.LRSeeds < 0 || s.LRSeeds > len(s.Seeds) {
		return fmt.Errorf("lab: compare: lr_seeds must be from 0 to the %d seeds, not %d", len(s.Seeds), s.LRSeeds)
	}
	if s.LRSeeds > 0 && len(s.LR) == 0 {
		return errors.New("lab: compare: lr_seeds needs a list lr of learning rates")
	}
	if !slices.Contains([]string{"", "parameters", "flops"}, s.Match) {
		return fmt.Errorf("lab: compare: match must be parameters or flops, not %q", s.Match)
	}
	return configs.CheckPatterns("compare: vary", s.Vary)
}

// names are the keys of a mapping of arms or sizes, which become folders.
func names(what string, n yaml.Node) (all []string, err error) {
	if n.Kind != 0 && n.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("lab: compare: %ss must be names with what each changes", what)
	}
	for i := 0; i < len(n.Content); i += 2 {
		name := n.Content[i].Value
		if !fit.MatchString(name) || slices.Contains(all, name) {
			return nil, fmt.Errorf("lab: compare: %s's name must be its own, of letters, digits, points and dashes, not %q",
				map[string]string{"arm": "an arm", "size": "a size"}[what], name)
		}
		all = append(all, name)
	}
	return all, nil
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
