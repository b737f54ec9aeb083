package configs

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"headroom/data"
)

// Absolute is the run with absolute paths, as its run directory keeps it.
func (r Run) Absolute() Run {
	return r.paths(func(_, path string) string {
		if whole, err := filepath.Abs(path); err == nil {
			return whole
		}
		return path
	})
}

// Relative is the run with paths below the working directory made relative, as it is published.
func (r Run) Relative() Run {
	here, err := os.Getwd()
	if err != nil {
		return r
	}
	return r.paths(func(_, path string) string {
		if below, err := filepath.Rel(here, path); filepath.IsAbs(path) && err == nil && filepath.IsLocal(below) {
			return below
		}
		return path
	})
}

// like is the run with the paths of another run where both name the same file.
func (r Run) like(other Run) Run {
	named := map[string]string{}
	other.paths(func(place, path string) string {
		named[place] = path
		return path
	})
	return r.paths(func(place, path string) string {
		if there := named[place]; data.SamePath(path, there) {
			return there
		}
		return path
	})
}

// paths is the run with every path to a file or folder changed. Its place is its key, and for one of several its name
// or number. URLs and the names of tokenizers stay.
func (r Run) paths(change func(place, path string) string) Run {
	one := func(place string, path *string) {
		if *path != "" && !data.IsURL(*path) {
			*path = change(place, *path)
		}
	}
	many := func(place string, paths *map[string]string) {
		if *paths == nil {
			return
		}
		all := map[string]string{}
		for name, path := range *paths {
			one(place+"."+name, &path)
			all[name] = path
		}
		*paths = all
	}
	one("train.from", &r.Train.From)
	if strings.HasSuffix(r.Data.Tokenizer, ".json") {
		one("data.tokenizer", &r.Data.Tokenizer)
	}
	many("data.val", &r.Data.Val)
	many("eval.sets", &r.Eval.Sets)
	many("eval.select", &r.Eval.Select)
	many("eval.tasks", &r.Eval.Tasks)
	if parts, err := data.ParseMixture(r.Data.Train); err == nil {
		for i := range parts {
			one("data.train."+strconv.Itoa(i), &parts[i].Path)
		}
		r.Data.Train = mixture(r.Data.Train, parts)
	}
	return r
}

// mixture writes a mixture as data.train has it. It leaves the text as it is where a path has a comma, since the text
// would be read as other paths.
func mixture(text string, parts []data.Part) string {
	all := make([]string, len(parts))
	for i, p := range parts {
		all[i] = p.Path + ":" + strconv.FormatFloat(p.Weight, 'g', -1, 64)
	}
	for _, written := range []string{parts[0].Path, strings.Join(all, ",")} {
		if back, err := data.ParseMixture(written); err == nil && slices.Equal(back, parts) {
			return written
		}
	}
	return text
}
