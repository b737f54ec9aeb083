package lab

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"headroom/internal/graph"
	"headroom/internal/graph/graphtest"
	"headroom/internal/ranks"
)

// A member is one rank's device. Its group may not end, as NCCL's may not where something of it is still under way.
type member struct {
	*graph.CPU
	group  graph.Group
	stuck  bool
	closed bool
}

func (m *member) Join([]byte, int, int) (graph.Group, error) { return endless{m.group, m.stuck}, nil }

func (m *member) Close() error {
	m.closed = true
	return m.CPU.Close()
}

type endless struct {
	graph.Group
	stuck bool
}

func (e endless) Close() error {
	if e.stuck {
		return errors.New("it has not ended")
	}
	return e.Group.Close()
}

// members makes the devices of two ranks, which openDevice then hands out by their number.
func members(t *testing.T, stuck bool) (all [2]*member) {
	for rank, group := range graphtest.Loopback(2) {
		all[rank] = &member{CPU: graph.NewCPU(), group: group, stuck: stuck}
	}
	was := openDevice
	t.Cleanup(func() { openDevice = was })
	openDevice = func(_, _ string, ordinal int) (graph.Backend, error) { return all[ordinal], nil }
	return all
}

// together runs both ranks of a job and returns what each says.
func together(t *testing.T, r Run) (errs [2]error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	master := l.Addr().String()
	l.Close()
	var all sync.WaitGroup
	for rank := range errs {
		all.Go(func() {
			place := ranks.Place{Rank: rank, Size: 2, Local: rank, Master: master, Job: "test"}
			team, err := ranks.Meet(context.Background(), place, ranks.Same{}, func() ([]byte, error) { return []byte{1}, nil })
			if err == nil {
				r := r
				r.Team = &Team{Team: team}
				_, err = r.Do(context.Background())
			}
			errs[rank] = err
		})
	}
	all.Wait()
	return errs
}

// TestTeamLeaves: ranks that end in order close their devices. Where the group does not end, the run still has its
// result, and no device is closed, which could wait for ever.
func TestTeamLeaves(t *testing.T) {
	for _, stuck := range []bool{false, true} {
		for _, shard := range []string{"optimizer", "weights"} {
			dir := shards(t)
			devices := members(t, stuck)
			r := Run{Dir: filepath.Join(dir, "run"), Config: load(t, tiny(dir), "train.shard="+shard)}
			if errs := together(t, r); errs[0] != nil || errs[1] != nil {
				t.Fatalf("stuck %v, %s: %v", stuck, shard, errs)
			}
			if _, err := os.Stat(filepath.Join(r.Dir, resultName)); err != nil {
				t.Error(err)
			}
			for rank, d := range devices {
				if d.closed == stuck {
					t.Errorf("stuck %v, %s: rank %d closed its device: %v", stuck, shard, rank, d.closed)
				}
			}
		}
	}
}

// TestTeamFailsToOpen: a rank that cannot open its run leaves its device as it is, since others may be waiting on it.
func TestTeamFailsToOpen(t *testing.T) {
	dir := shards(t)
	c := load(t, tiny(dir))
	c.Data.Val = map[string]string{"missing": filepath.Join(dir, "missing")}
	for _, team := range []*Team{nil, {Team: &ranks.Team{}}} {
		devices := members(t, false)
		if _, err := open(c, team, nothingKnown); err == nil {
			t.Fatal("a set that is not there was opened")
		}
		if closed := devices[0].closed; closed != (team == nil) {
			t.Errorf("alone %v: the device was closed: %v", team == nil, closed)
		}
	}
}
