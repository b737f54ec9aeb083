package watch

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// A Watcher follows all runs under some directories. It reads files only: nothing that trains waits for it.
type Watcher struct {
	roots []string

	mu   sync.Mutex
	runs []*run
	news chan struct{} // closed when something changes
}

// New looks for the runs that are there; later ones are found as they come. Every root must exist.
func New(roots []string) (*Watcher, error) {
	w := &Watcher{news: make(chan struct{})}
	for _, root := range roots {
		w.roots = append(w.roots, filepath.Clean(root))
	}
	return w, w.poll(time.Now())
}

// Follow reads all runs again and again until ctx ends.
func (w *Watcher) Follow(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	warned := false
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			err := w.poll(now)
			if err != nil && !warned {
				slog.Warn("watch", "reason", err)
			}
			warned = err != nil
		}
	}
}

func (w *Watcher) poll(now time.Time) error {
	var dirs []string
	for _, root := range w.roots {
		found, err := find(root)
		if err != nil {
			return fmt.Errorf("watch: %w", err)
		}
		dirs = append(dirs, found...)
	}
	slices.Sort(dirs)
	dirs = slices.Compact(dirs)
	w.mu.Lock()
	defer w.mu.Unlock()
	changed := false
	known := map[string]*run{}
	for _, r := range w.runs {
		known[r.dir] = r
	}
	changed = len(known) > len(dirs)
	w.runs = w.runs[:0]
	for _, dir := range dirs {
		r := known[dir]
		if r == nil {
			r = &run{dir: dir, status: Status{ID: w.name(dir)}}
			changed = true
		}
		changed = r.follow(now) || changed
		w.runs = append(w.runs, r)
	}
	if changed {
		close(w.news)
		w.news = make(chan struct{})
	}
	return nil
}

// name is the path of a run below its root, with the root before it where there are several.
func (w *Watcher) name(dir string) string {
	if rest, ok := strings.CutPrefix(dir, w.roots[0]+string(filepath.Separator)); ok && len(w.roots) == 1 {
		return filepath.ToSlash(rest)
	}
	return filepath.ToSlash(dir)
}

// Statuses are the statuses of all runs by name, with a channel that is closed when one changes.
func (w *Watcher) Statuses() (all []Status, news <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.runs {
		all = append(all, r.status)
	}
	return all, w.news
}

// An update brings a reader's copy of a run up to date: its points replace those from a given one on.
type update struct {
	Status
	From   int     `json:"from"`
	Points []Point `json:"points"`
	Evals  []Eval  `json:"evals"` // all of them
}

// A cursor is what a reader knows of a run.
type cursor struct {
	run         *run
	born, known int
	status      string
}

// updates are the updates that a reader lacks, with the names of all runs.
func (w *Watcher) updates(cursors map[string]cursor) (all []update, names []string, news <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.runs {
		c, s := cursors[r.status.ID], &r.series
		if c.run != r || c.born != s.born {
			c = cursor{run: r, born: s.born}
		}
		names = append(names, r.status.ID)
		status := fmt.Sprint(r.status)
		if c.status != status {
			from := max(0, c.known-1) // the last point may have changed
			all = append(all, update{r.status, from, append([]Point{}, s.points[from:]...), append([]Eval{}, s.evals...)})
			c.known, c.status = len(s.points), status
		}
		cursors[r.status.ID] = c
	}
	return all, names, w.news
}
