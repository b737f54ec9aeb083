package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"headroom/configs"
)

// A Compare is a comparison that is ready to run: every arm is resolved and differs from the base of its size in
// nothing but what it may. Its directory holds it as plan.yaml, from which other processes can do a part of it.
type Compare struct {
	Name     string       `yaml:"name"`
	Command  []string     `yaml:"command,flow,omitempty"` // that made the plan
	Dir      string       `yaml:"-"`                      // runs lie in Dir/[SIZE/]ARM/[lr-RATE/]seed-N
	Baseline string       `yaml:"baseline"`
	Seeds    []uint64     `yaml:"seeds"`
	LR       []float64    `yaml:"lr,omitempty"`       // peak learning rates to try on each arm; none: each arm's own
	Added    []AddedRate  `yaml:"lr_added,omitempty"` // in the order in which they were
	Extend   bool         `yaml:"-"`                  // add rates to arms whose optimum is not inside
	LRSeeds  int          `yaml:"lr_seeds,omitempty"` // the first seeds try them all, the others train at the best
	Match    string       `yaml:"match,omitempty"`    // what MLP widths were fitted to: parameters or flops
	Decode   []DecodeCase `yaml:"decode,omitempty"`   // batches and contexts at which decoding is timed
	// a directory that keeps the results of finished runs, without weights
	Results string `yaml:"results,omitempty"`
	Of      string `yaml:"of,omitempty"`    // an arm that this compares with itself; see Itself
	Texts   []Text `yaml:"texts,omitempty"` // that its runs read
	Arms    []Arm  `yaml:"arms"`            // of one size after the other

	lent   []Run // runs of lender whose results a comparison with itself takes
	lender *Compare
}

// An Arm is one variant of the base, at one of its sizes.
type Arm struct {
	Size, Name string // the size is empty where there is but one
	Config     configs.Run
	Start      uint64 // added to the seed that weights start from
}

const planName = "plan.yaml"

// storedArm is an arm in plan.yaml.
type storedArm struct {
	Size   string    `yaml:"size,omitempty"`
	Name   string    `yaml:"name"`
	Start  uint64    `yaml:"start,omitempty"`
	Config yaml.Node `yaml:"config"`
}

// MarshalYAML writes the arm's configuration as its run directories have it.
func (a Arm) MarshalYAML() (any, error) {
	document, err := configs.Parse(a.Name, []byte(a.Config.YAML()))
	if err != nil {
		return nil, err
	}
	return storedArm{a.Size, a.Name, a.Start, *document}, nil
}

// UnmarshalYAML reads what MarshalYAML wrote.
func (a *Arm) UnmarshalYAML(n *yaml.Node) (err error) {
	var s storedArm
	if err := n.Decode(&s); err != nil {
		return err
	}
	a.Size, a.Name, a.Start = s.Size, s.Name, s.Start
	a.Config, err = configs.Restored(&s.Config)
	return err
}

// store keeps the plan beside the runs, unless these are of another comparison.
func (c *Compare) store() error {
	if err := c.settle(); err != nil {
		return err
	}
	c.Command = os.Args
	return c.save()
}

// save is store of a comparison that is held against its runs already.
func (c *Compare) save() error {
	text, err := yaml.Marshal(c)
	if err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	if err := os.MkdirAll(c.Dir, 0o777); err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	if err := replace(filepath.Join(c.Dir, planName), text); err != nil || c.Results == "" {
		return err
	}
	return bring(c.Dir, c.Results, []string{planName})
}

// Planned reads the comparison that a directory belongs to.
func Planned(dir string) (*Compare, error) {
	path := filepath.Join(dir, planName)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("lab: %s holds no comparison: there is no %s", dir, planName)
	}
	if err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	c := &Compare{Dir: dir}
	if err := yaml.Unmarshal(text, c); err != nil {
		return nil, fmt.Errorf("lab: %s is damaged or of another version: %s", path,
			strings.Join(strings.Fields(err.Error()), " "))
	}
	if len(c.Arms) == 0 || len(c.Seeds) == 0 || c.LRSeeds > len(c.Seeds) ||
		!slices.ContainsFunc(c.Arms, func(a Arm) bool { return a.Name == c.Baseline }) {
		return nil, fmt.Errorf("lab: %s is damaged or of another version: it lacks arms, seeds or the baseline", path)
	}
	return c, nil
}

// A Task is a part of a comparison that can be done on its own: a run, or an arm's decode speed.
type Task struct {
	Arm    int // in Compare.Arms
	Seed   uint64
	LR     float64 // 0 is the arm's own or, where rates are tried, the best of them
	Decode bool
}

// Stages are the tasks in the order in which they can be done: those of a stage need only what stands in the stages
// before. Every arm gets its first seed before any gets its second.
func (c *Compare) Stages() (stages [][]Task) {
	rates, tried := c.LR, c.LRSeeds
	if len(rates) == 0 {
		rates, tried = []float64{0}, len(c.Seeds)
	}
	var sweep, rest, speed []Task // rates are added at the end of the sweep, so that its tasks keep their numbers
	for _, seed := range c.Seeds[:tried] {
		for _, lr := range rates {
			for arm := range c.Arms {
				sweep = append(sweep, Task{Arm: arm, Seed: seed, LR: lr})
			}
		}
	}
	for _, more := range c.Added {
		for _, seed := range c.Seeds[:tried] {
			sweep = append(sweep, Task{Arm: slices.IndexFunc(c.Arms, more.of), Seed: seed, LR: more.LR})
		}
	}
	for _, seed := range c.Seeds[tried:] {
		for arm := range c.Arms {
			rest = append(rest, Task{Arm: arm, Seed: seed})
		}
	}
	if len(c.Decode) > 0 {
		for arm := range c.Arms {
			speed = append(speed, Task{Arm: arm, Decode: true})
		}
	}
	return slices.DeleteFunc([][]Task{sweep, rest, speed}, func(s []Task) bool { return len(s) == 0 })
}

// home is the directory of an arm's runs.
func (c *Compare) home(a Arm) string { return filepath.Join(c.Dir, a.Size, a.Name) }

// at is the run of an arm with a seed and, where rates are tried, one of them.
func (c *Compare) at(a Arm, seed uint64, lr float64) Run {
	r := Run{Config: a.Config, Resume: true, texts: c.Texts, Products: filepath.Join(c.Dir, productsName)}
	if len(c.LR) > 0 {
		r.Config.Train.LR = lr
	} else {
		lr = 0
	}
	r.Dir = filepath.Join(c.Dir, runPath(a.label(), lr, seed))
	r.Config.Train.Seed, r.Config.Data.Seed = seed+a.Start, seed
	return r
}

// runPath is where a run lies in its comparison; a rate of 0 is one that was not tried among others.
func runPath(arm string, lr float64, seed uint64) string {
	name := fmt.Sprintf("seed-%d", seed)
	if lr > 0 {
		return filepath.Join(arm, "lr-"+strconv.FormatFloat(lr, 'g', -1, 64), name)
	}
	return filepath.Join(arm, name)
}

// label names an arm with its size.
func (a Arm) label() string {
	if a.Size == "" {
		return a.Name
	}
	return a.Size + "/" + a.Name
}
