package ranks

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// JobVariable names the environment variable that carries a job's token to its ranks.
const JobVariable = "HEADROOM_JOB"

// Spawn starts the processes of a place that stands for several, as this program with the same arguments and flags that
// say who they are, and waits for them. The first of them speaks for all on standard output. When one fails, the others
// are given a few seconds to say why and to end, and when ctx ends, they are told to.
func Spawn(ctx context.Context, p Place, args []string, out, log *os.File) error {
	if p.Master == "127.0.0.1:0" {
		l, err := net.Listen("tcp", p.Master)
		if err != nil {
			return fmt.Errorf("ranks: %w", err)
		}
		p.Master = l.Addr().String()
		l.Close()
	}
	job := p.Job
	if job == "" && p.Spawn == p.Size { // all ranks are started here, so a random token will do
		job = rand.Text()
	}
	children := make([]*exec.Cmd, p.Spawn)
	for i := range children {
		c := exec.Command(os.Args[0], slices.Concat(args, []string{
			"--rank", strconv.Itoa(p.Rank + i), "--world-size", strconv.Itoa(p.Size), "--local-rank", strconv.Itoa(i),
			"--master", p.Master})...)
		c.Env = append(os.Environ(), JobVariable+"="+job)
		c.Stderr = log
		if i == 0 {
			c.Stdout = out
		}
		// a terminal's Ctrl-C comes to this process, which passes it on
		c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM, Setpgid: true}
		children[i] = c
	}
	return watch(ctx, children, p.Rank)
}

// watch runs children until all have ended.
func watch(ctx context.Context, children []*exec.Cmd, rank int) error {
	type end struct {
		i   int
		err error
	}
	ends := make(chan end, len(children))
	tell := func(sig syscall.Signal) {
		for _, c := range children {
			if c.Process != nil {
				c.Process.Signal(sig) // it may have ended
			}
		}
	}
	var group sync.WaitGroup
	defer group.Wait()
	started := 0
	var failure error
	for i, c := range children {
		if err := c.Start(); err != nil {
			failure = fmt.Errorf("ranks: starting rank %d: %w", rank+i, err)
			tell(syscall.SIGKILL)
			break
		}
		started++
		group.Go(func() { ends <- end{i, c.Wait()} })
	}
	stop := context.AfterFunc(ctx, func() { tell(syscall.SIGTERM) })
	defer stop()
	for range started {
		e := <-ends
		if e.err == nil || failure != nil {
			continue
		}
		failure = fmt.Errorf("ranks: rank %d ended: %w", rank+e.i, e.err)
		if exit := (*exec.ExitError)(nil); errors.As(e.err, &exit) && exit.ExitCode() > 0 {
			failure = &Exit{Code: exit.ExitCode()}
		}
		late := time.AfterFunc(silence+5*time.Second, func() { tell(syscall.SIGKILL) })
		defer late.Stop()
	}
	return failure
}

// An Exit is the code of a child that has said itself what was wrong.
type Exit struct{ Code int }

func (e *Exit) Error() string { return fmt.Sprintf("ranks: a rank ended with exit code %d", e.Code) }
