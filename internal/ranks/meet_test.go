package ranks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	patience, beatEvery, silence = time.Minute, 20*time.Millisecond, 2*time.Second // a busy machine is no lost rank
	if os.Getenv("RANKS_TEST_CHILD") != "" {
		os.Exit(child())
	}
	os.Exit(m.Run())
}

func free(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// gather meets as several ranks at once, the changes applied to each.
func gather(t *testing.T, size int, change func(rank int, p *Place, s *Same)) (teams []*Team, errs []error) {
	teams, errs = make([]*Team, size), make([]error, size)
	master := free(t)
	var group sync.WaitGroup
	for rank := range size {
		p, s := Place{Rank: rank, Size: size, Master: master, Job: "job"}, Same{Config: "c", Build: "b"}
		if change != nil {
			change(rank, &p, &s)
		}
		group.Go(func() {
			teams[rank], errs[rank] = Meet(t.Context(), p, s, func() ([]byte, error) { return []byte("id"), nil })
		})
	}
	group.Wait()
	return teams, errs
}

func TestMeet(t *testing.T) {
	teams, errs := gather(t, 3, nil)
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	for _, team := range teams {
		if string(team.ID) != "id" {
			t.Errorf("rank %d got %q", team.Rank, team.ID)
		}
	}
	time.Sleep(4 * beatEvery)
	teams[2].Close() // in order: nobody is lost
	time.Sleep(2 * silence)
	for _, team := range teams[:2] {
		select {
		case err := <-team.Lost():
			t.Error(err)
		default:
		}
		team.Close()
	}
}

func TestMeetRefuses(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(rank int, p *Place, s *Same)
		want   string
	}{
		{"config", func(rank int, p *Place, s *Same) { s.Config = fmt.Sprint(rank / 2) },
			"rank 2 has another configuration: hash 1, rank 0 has 0"},
		{"build", func(rank int, p *Place, s *Same) { s.Build = fmt.Sprint(rank / 2) },
			"rank 2 runs another build: 1, rank 0 runs 0"},
		{"twice", func(rank int, p *Place, s *Same) { p.Rank = min(p.Rank, 1) }, "came twice"},
		{"size", func(rank int, p *Place, s *Same) { p.Size += rank / 2 }, "rank 2 counts 4 ranks, rank 0 counts 3"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, errs := gather(t, 3, c.change)
			for rank, err := range errs {
				if err == nil || rank == 0 && !strings.Contains(err.Error(), c.want) {
					t.Errorf("rank %d: %v, want %q", rank, err, c.want)
				}
			}
		})
	}
}

func TestStrangersAreTurnedAway(t *testing.T) {
	master := free(t)
	same := Same{"c", "b"}
	var group sync.WaitGroup
	group.Go(func() {
		for range 50 {
			if conn, err := net.Dial("tcp", master); err == nil {
				fmt.Fprintln(conn, "GET / HTTP/1.1")
				io.Copy(io.Discard, conn)
				conn.Close()
				break
			}
			time.Sleep(5 * time.Millisecond)
		}
		if _, err := Meet(t.Context(), Place{Rank: 1, Size: 2, Master: master, Job: "other"}, same, nil); err == nil ||
			!strings.Contains(err.Error(), "another job") {
			t.Errorf("another job's rank: %v", err)
		}
		team, err := Meet(t.Context(), Place{Rank: 1, Size: 2, Master: master, Job: "job"}, same, nil)
		if err != nil {
			t.Error(err)
			return
		}
		team.Close()
	})
	team, err := Meet(t.Context(), Place{Size: 2, Master: master, Job: "job"}, same,
		func() ([]byte, error) { return nil, nil })
	if err != nil {
		t.Fatal(err)
	}
	group.Wait()
	team.Close()
}

func TestMeetGivesUp(t *testing.T) {
	defer func(was time.Duration) { patience = was }(patience)
	patience = time.Second
	_, err := Meet(t.Context(), Place{Size: 2, Master: free(t)}, Same{}, nil)
	if err == nil || !strings.Contains(err.Error(), "not all 2 ranks came within 1s") {
		t.Error(err)
	}
	_, err = Meet(t.Context(), Place{Rank: 1, Size: 2, Master: free(t)}, Same{}, nil)
	if err == nil || !strings.Contains(err.Error(), "rank 0 did not answer at 127.0.0.1:") {
		t.Error(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, err = Meet(t.Context(), Place{Size: 2, Master: l.Addr().String()}, Same{}, nil)
	if err == nil || !strings.Contains(err.Error(),
		"address already in use; another --master or MASTER_PORT chooses another port") {
		t.Error(err)
	}
}

func lost(t *testing.T, team *Team, want string) {
	t.Helper()
	select {
	case err := <-team.Lost():
		if !strings.Contains(err.Error(), want) {
			t.Errorf("rank %d: %v, want %q", team.Rank, err, want)
		}
	case <-time.After(time.Minute):
		t.Errorf("rank %d noticed nothing, want %q", team.Rank, want)
	}
}

func TestLostRanks(t *testing.T) {
	for _, c := range []struct {
		name, want string
		harm       func(team *Team)
	}{
		{"gone", "rank 2 is gone: ", func(team *Team) { team.peers[0].conn.Close() }},
		{"hangs", "rank 2 hangs: no sign of life for 2s", func(team *Team) { close(team.done) }},
		{"fails", "rank 2 failed: no memory", func(team *Team) { team.Fail(errors.New("no memory")) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			teams, errs := gather(t, 3, nil)
			if err := errors.Join(errs...); err != nil {
				t.Fatal(err)
			}
			c.harm(teams[2])
			lost(t, teams[0], c.want)
			lost(t, teams[1], c.want)
			teams[0].Close()
			teams[1].Close()
		})
	}
}

// child is a rank that Spawn started.
func child() int {
	var p Place
	args := os.Args[1:]
	fmt.Sscan(args[len(args)-7], &p.Rank)
	fmt.Sscan(args[len(args)-5], &p.Size)
	p.Master, p.Job = args[len(args)-1], os.Getenv(JobVariable)
	team, err := Meet(context.Background(), p, Same{}, func() ([]byte, error) { return []byte("x"), nil })
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if os.Getenv("RANKS_TEST_CHILD") == "die" {
		if p.Rank == 1 {
			os.Exit(7)
		}
		err := <-team.Lost()
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println("rank", p.Rank, args[0])
	team.Close()
	return 0
}

func TestSpawn(t *testing.T) {
	spawn := func(how string) (out, log string, err error) {
		var files [2]*os.File
		for i := range files {
			if files[i], err = os.CreateTemp(t.TempDir(), ""); err != nil {
				t.Fatal(err)
			}
			defer files[i].Close()
		}
		t.Setenv("RANKS_TEST_CHILD", how)
		err = Spawn(t.Context(), Place{Size: 3, Spawn: 3, Master: "127.0.0.1:0"}, []string{"train"}, files[0], files[1])
		var text [2][]byte
		for i, f := range files {
			text[i], _ = os.ReadFile(f.Name())
		}
		return string(text[0]), string(text[1]), err
	}
	if out, log, err := spawn("live"); err != nil || out != "rank 0 train\n" {
		t.Errorf("%q, %v, %s", out, err, log)
	}
	_, log, err := spawn("die")
	if exit := (*Exit)(nil); !errors.As(err, &exit) || !strings.Contains(log, "rank 1 is gone") {
		t.Errorf("%v, %s", err, log)
	}
}
