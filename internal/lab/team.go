package lab

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"headroom/configs"
	"headroom/internal/build"
	"headroom/internal/device"
	"headroom/internal/graph"
	"headroom/internal/ranks"
	"headroom/train"
)

// A Team is the processes that train one model together. A nil Team is one process alone.
type Team struct {
	*ranks.Team
	group graph.Group
}

// Meet joins the other ranks of a job that trains with this configuration.
func Meet(ctx context.Context, p ranks.Place, c configs.Run) (*Team, error) {
	slog.Info("ranks", "rank", p.Rank, "of", p.Size, "device", p.Local, "from", p.Source)
	if c.Train.Device != "cuda" {
		return nil, fmt.Errorf("lab: several ranks need one GPU each: train.device must be cuda, not %s", c.Train.Device)
	}
	t, err := ranks.Meet(ctx, p, ranks.Same{Config: c.Hash(), Build: build.ID()}, device.NewCommID)
	if err != nil {
		return nil, err
	}
	return &Team{Team: t}, nil
}

// Rank is this process's.
func (t *Team) Rank() int {
	if t == nil {
		return 0
	}
	return t.Team.Rank
}

// Ranks is how many there are.
func (t *Team) Ranks() int {
	if t == nil {
		return 1
	}
	return t.Size
}

// device is the GPU of this process.
func (t *Team) device() int {
	if t == nil {
		return 0
	}
	return t.Local
}

// join makes the group of all ranks' devices, nil for a process alone.
func (t *Team) join(b graph.Backend) (g graph.Group, err error) {
	if t == nil {
		return nil, nil
	}
	t.group, err = b.Join(t.ID, t.Team.Rank, t.Size)
	return t.group, err
}

// guard runs work that needs all ranks. When a rank is lost, it aborts the collectives that wait for it, and its error
// names the rank and the checkpoint to resume from.
func (t *Team) guard(dir string, run func() error) error {
	if t == nil {
		return run()
	}
	done := make(chan error, 1)
	go func() { done <- run() }()
	select {
	case err := <-done:
		if err != nil {
			t.Fail(err)
		}
		return err
	case err := <-t.Lost():
		if t.group != nil {
			go t.group.Abort()
		}
		select {
		case <-done: // the work has ended with an error that follows from the abort
		case <-time.After(5 * time.Second):
		}
		where := "no checkpoint was saved"
		if path, s, bad := train.Latest(dir); bad != nil {
			where = bad.Error()
		} else if path != "" {
			where = fmt.Sprintf("the last checkpoint is %s, step %d: --resume goes on from there", path, s.Step)
		}
		return &Failed{fmt.Errorf("%w; %s", err, where)}
	}
}

// leave ends the team in order when all collective work is done. It says whether the group has ended.
func (t *Team) leave() bool {
	err := t.group.Close()
	if err != nil {
		slog.Warn("leaving the group", "error", err)
	}
	t.Close()
	return err == nil
}
