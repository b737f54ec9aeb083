package watch

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"go.yaml.in/yaml/v3"

	"headroom/train"
)

// A State says whether a run trains, has ended or has failed.
type State string

// The states. A run that has written no step for a minute and left neither a result nor a failure is Silent: it
// evaluates, waits or is dead.
const (
	Running  State = "running"
	Finished State = "finished"
	Failed   State = "failed"
	Silent   State = "silent"
)

const silence = time.Minute

// A run is one directory with a metrics.jsonl.
type run struct {
	dir    string
	offset int64 // bytes of metrics.jsonl that have been read
	tokens int64 // tokens trained on up to the last step
	series series
	status Status
}

// Status is all that is known of a run except its curves.
type Status struct {
	ID       string             `json:"id"` // the directory
	State    State              `json:"state"`
	Reason   string             `json:"reason,omitempty"` // why it failed, or why a file cannot be read
	Step     int                `json:"step"`
	Steps    int                `json:"steps,omitempty"` // steps of the whole run; 0 where the configuration does not say
	Loss     float64            `json:"loss"`            // smoothed over about twenty steps
	LR       float64            `json:"lr"`
	GradNorm float64            `json:"grad_norm"`
	Speed    float64            `json:"tokens_per_second"` // smoothed, too
	Memory   int                `json:"memory_bytes"`
	Left     float64            `json:"left_s,omitempty"` // seconds to the end at that speed
	Eval     map[string]float64 `json:"eval,omitempty"`   // the last perplexity by set
}

// follow reads what has been appended since the last time. A run that went back to a checkpoint is read again from its
// beginning.
func (r *run) follow(now time.Time) (changed bool) {
	before := r.status
	f, err := os.Open(filepath.Join(r.dir, "metrics.jsonl"))
	if err != nil {
		r.status.State, r.status.Reason = Failed, err.Error()
		return before.Reason != r.status.Reason
	}
	defer f.Close()
	info, err := f.Stat()
	if err == nil && info.Size() < r.offset {
		r.begin()
	}
	grew, torn := false, false
	if err == nil {
		if grew, torn = r.read(f); torn {
			r.begin()
			grew, _ = r.read(f)
		}
		if grew || r.status.Steps == 0 {
			r.plan()
		}
		r.look(now, info.ModTime())
	}
	return grew || torn || before.State != r.status.State || before.Steps != r.status.Steps
}

func (r *run) begin() {
	r.offset = 0
	r.series.reset()
	r.status = Status{ID: r.status.ID}
}

// read parses whole lines. torn says that they do not continue those before, so that the file must be read anew.
func (r *run) read(f *os.File) (grew, torn bool) {
	if _, err := f.Seek(r.offset, io.SeekStart); err != nil {
		return false, false
	}
	for lines := bufio.NewReader(f); ; {
		text, err := lines.ReadBytes('\n')
		if err != nil {
			return grew, false // the last line may not have been written to its end yet
		}
		var l train.Line
		if json.Unmarshal(text, &l) != nil || l.Step <= r.status.Step {
			if first := r.offset == 0; first {
				r.status.Reason = "metrics.jsonl is damaged or of another version"
				return grew, false
			}
			return grew, true
		}
		r.offset += int64(len(text))
		r.take(l)
		grew = true
	}
}

func (r *run) take(l train.Line) {
	s := &r.status
	smooth := func(was, is float64) float64 {
		if s.Step == 0 {
			return is
		}
		return was + (is-was)/20
	}
	s.Loss, s.Speed = smooth(s.Loss, l.Loss), smooth(s.Speed, l.TokensSec)
	s.Step, s.LR, s.GradNorm, s.Memory, s.Reason = l.Step, l.LR, l.GradNorm, l.Memory, ""
	for _, e := range l.Eval {
		if s.Eval == nil {
			s.Eval = map[string]float64{}
		}
		s.Eval[e.Set] = e.Perplexity
		r.series.evals = append(r.series.evals, Eval{l.Step, l.Tokens, e.Set, e.Perplexity})
	}
	r.tokens = l.Tokens
	r.series.add(Point{float64(l.Step), float64(l.Tokens), l.Loss, l.LR, l.GradNorm, l.TokensSec, float64(l.Memory)})
}

// plan reads the number of steps of the whole run from its configuration.
func (r *run) plan() {
	var c struct {
		Train struct {
			Steps                      int
			Tokens                     float64
			Batch, Accumulate, Context int
		}
		Model struct{ Context int }
	}
	text, err := os.ReadFile(filepath.Join(r.dir, "config.yaml"))
	if err != nil || yaml.Unmarshal(text, &c) != nil {
		return
	}
	if c.Train.Context == 0 {
		c.Train.Context = c.Model.Context
	}
	r.status.Steps = c.Train.Steps
	if step := max(1, c.Train.Batch) * max(1, c.Train.Accumulate) * c.Train.Context; c.Train.Steps == 0 && step > 0 {
		r.status.Steps = int(c.Train.Tokens) / step
	}
}

// look sets the run's state by the files beside its metrics.
func (r *run) look(now, wrote time.Time) {
	var failed struct{ Reason string }
	r.status.Left = 0
	text, err := os.ReadFile(filepath.Join(r.dir, "failed.json"))
	switch {
	case newer(filepath.Join(r.dir, "result.json"), wrote):
		r.status.State = Finished
	case err == nil && newer(filepath.Join(r.dir, "failed.json"), wrote):
		_ = json.Unmarshal(text, &failed)
		r.status.State, r.status.Reason = Failed, failed.Reason
	case now.Sub(wrote) > silence:
		r.status.State = Silent
	default:
		r.status.State = Running
		if s := &r.status; s.Steps > s.Step && s.Step > 0 && s.Speed > 0 {
			s.Left = float64(s.Steps-s.Step) * float64(r.tokens) / float64(s.Step) / s.Speed
		}
	}
}

// newer says that a file is there and was written at that time or later.
func newer(path string, then time.Time) bool {
	info, err := os.Stat(path)
	return err == nil && !info.ModTime().Before(then)
}

// find lists the directories below a root that hold a metrics.jsonl. Directories that cannot be read are passed over.
func find(root string) (dirs []string, err error) {
	if _, err := os.Stat(root); err != nil {
		return nil, err
	}
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil && errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case d.IsDir() && d.Name() == "checkpoints":
			return fs.SkipDir
		case d.Name() == "metrics.jsonl":
			dirs = append(dirs, filepath.Dir(path))
		}
		return nil
	})
	slices.Sort(dirs)
	return dirs, err
}
