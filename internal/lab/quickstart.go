package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"headroom/attention"
	"headroom/configs"
)

// HeldOut are the packages of the Go distribution that the quickstart never trains on. None has a twin elsewhere in it,
// as text/template has in html/template.
var HeldOut = []string{"archive/zip", "encoding/json", "net/url", "text/tabwriter"}

// Quickstart prepares the sources and documentation of the Go distribution and compares four kinds of attention on
// them, with as many parameters each. The short form is for CI: one seed, few steps.
type Quickstart struct {
	Dir   string
	Short bool
	Log   io.Writer // where preparing tells how far it is
}

// Compare makes the data ready and resolves the comparison.
func (q Quickstart) Compare(ctx context.Context) (*Compare, error) {
	root, version, err := goRoot(ctx)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(q.Dir, version)
	sets, err := q.prepare(ctx, root, filepath.Join(dir, "data"))
	if err != nil {
		return nil, err
	}
	c := &Compare{Name: "quickstart", Dir: filepath.Join(dir, "runs"), Baseline: "gqa-4", Seeds: []uint64{1, 2},
		Match: "parameters"}
	in := configs.Input{Preset: "quickstart", Sets: []string{"data.train=" + filepath.Join(dir, "data", "train")}}
	for _, set := range sets {
		in.Sets = append(in.Sets, "data.val."+set+"="+filepath.Join(dir, "data", set))
	}
	if q.Short {
		c.Dir, c.Seeds = filepath.Join(dir, "short"), []uint64{1}
		in.Sets = append(in.Sets, "train.steps=100", "train.warmup=10", "eval.tokens=16384")
	}
	base, err := configs.Load(in)
	if err != nil {
		return nil, err
	}
	for _, kind := range []string{"gqa-4", "gta-4", "mla", "gla-2"} {
		arm := in
		if arm.Sets, err = Short(kind, in.Sets); err != nil {
			return nil, err
		}
		if latent, err := cachesLatents(kind); err != nil {
			return nil, err
		} else if latent {
			arm.Sets = append(arm.Sets, "attention.rope_dim=16") // half a head, as in the paper
		}
		resolved, err := configs.Load(arm)
		if err != nil {
			return nil, err
		}
		c.Arms = append(c.Arms, Arm{Name: kind, Config: resolved.Run})
	}
	if err := check(base.Run, c.Arms, vary); err != nil {
		return nil, err
	}
	return c, match(c.Arms, c.Baseline, c.Match)
}

// cachesLatents says whether a kind by its name, as gla-2, caches latents.
func cachesLatents(name string) (bool, error) {
	kind, _, err := attention.Parse(name)
	if err != nil {
		return false, err
	}
	d, err := kind.Describe()
	return d.Cache == attention.Latent, err
}

// prepare makes shards of the distribution's text, unless they are there, and names the validation sets.
func (q Quickstart) prepare(ctx context.Context, root, dir string) (sets []string, err error) {
	files, err := distribution(root)
	if err != nil {
		return nil, err
	}
	for _, set := range []string{"train", "packages", "specification"} {
		if len(files[set]) == 0 && set == "specification" {
			continue // some packagings leave the documentation out
		}
		if set != "train" {
			sets = append(sets, set)
		}
		if err := makeShards(ctx, "bytes", filepath.Join(dir, set), files[set], q.Log); err != nil {
			return nil, err
		}
	}
	return sets, nil
}

// distribution lists the files of each set: the sources of the standard library but for the held-out packages with the
// documentation but for the language specification; those packages; and the specification.
func distribution(root string) (map[string][]string, error) {
	src := filepath.Join(root, "src")
	files := map[string][]string{}
	err := filepath.WalkDir(src, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if slices.Contains([]string{"cmd", "vendor", "testdata"}, d.Name()) {
				return fs.SkipDir
			}
			return nil
		}
		if filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") || !d.Type().IsRegular() {
			return nil
		}
		in, err := filepath.Rel(src, path)
		set := "train"
		if slices.ContainsFunc(HeldOut, func(p string) bool { return strings.HasPrefix(filepath.ToSlash(in), p+"/") }) {
			set = "packages"
		}
		files[set] = append(files[set], path)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("lab: quickstart: %w", err)
	}
	if len(files["train"]) == 0 || len(files["packages"]) == 0 {
		return nil, fmt.Errorf("lab: quickstart: %s lacks the sources of the standard library", src)
	}
	docs, err := filepath.Glob(filepath.Join(root, "doc", "*.[hm][td]*"))
	if err != nil {
		return nil, err
	}
	for _, path := range docs {
		switch name := filepath.Base(path); {
		case name == "go_spec.html":
			files["specification"] = append(files["specification"], path)
		case !strings.HasSuffix(name, "_spec.html"): // an older edition says the same as the newest
			files["train"] = append(files["train"], path)
		}
	}
	return files, nil
}

// goRoot asks the go command where its distribution lies, and its version.
func goRoot(ctx context.Context) (root, version string, err error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOROOT", "GOVERSION").Output()
	if err != nil {
		return "", "", fmt.Errorf("lab: quickstart: go env GOROOT: %w", err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(lines) != 2 || lines[0] == "" {
		return "", "", errors.New("lab: quickstart: go env GOROOT names no distribution")
	}
	if _, err := os.Stat(lines[0]); err != nil {
		return "", "", fmt.Errorf("lab: quickstart: %w", err)
	}
	return lines[0], strings.ReplaceAll(lines[1], " ", "-"), nil
}
