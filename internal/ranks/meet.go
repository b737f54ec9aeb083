package ranks

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// Times of the rendezvous and of what follows it.
var (
	patience  = 2 * time.Minute  // for all ranks to connect
	beatEvery = time.Second      // a sign of life
	silence   = 15 * time.Second // after which a rank counts as hung
)

// Same must be equal on all ranks of a job.
type Same struct {
	Config string `json:"config"` // a hash of the run
	Build  string `json:"build"`  // of the program
}

// A frame is one line of JSON between rank 0 and another.
type frame struct {
	Job   string `json:"job,omitempty"`
	Rank  int    `json:"rank"`
	Size  int    `json:"size,omitempty"`
	Same  *Same  `json:"same,omitempty"`
	ID    []byte `json:"id,omitempty"`    // from rank 0, when all are there
	Error string `json:"error,omitempty"` // why the job ends
	Bye   bool   `json:"bye,omitempty"`   // an orderly end
}

// A Team is the ranks that met. Rank 0 holds a connection to each of the others, over which both give signs of life.
type Team struct {
	Place
	ID []byte // made by rank 0, the same on all ranks

	mu    sync.Mutex
	peers []*peer // of rank 0: the others, by rank-1; of the others: rank 0 alone
	lost  chan error
	once  sync.Once
	done  chan struct{}
}

type peer struct {
	rank int
	conn net.Conn
	in   *bufio.Scanner
	left bool // it said goodbye
}

func newPeer(conn net.Conn, rank int) *peer {
	in := bufio.NewScanner(conn)
	in.Buffer(nil, 1<<16)
	return &peer{rank: rank, conn: conn, in: in}
}

func (p *peer) send(f frame) error {
	line, err := json.Marshal(f)
	if err != nil {
		return err
	}
	p.conn.SetWriteDeadline(time.Now().Add(silence))
	_, err = p.conn.Write(append(line, '\n'))
	return err
}

func (p *peer) receive(deadline time.Time) (f frame, err error) {
	p.conn.SetReadDeadline(deadline)
	if !p.in.Scan() {
		if err = p.in.Err(); err == nil {
			err = errors.New("the connection was closed")
		}
		return f, err
	}
	if err := json.Unmarshal(p.in.Bytes(), &f); err != nil {
		return f, fmt.Errorf("not a rank of headroom: %w", err)
	}
	return f, nil
}

// Meet brings the ranks of a job together: rank 0 listens at Master, checks that all who come are of this job and share
// what they must, and hands out what id returns. It is called by every rank, and id on rank 0 alone.
func Meet(ctx context.Context, p Place, same Same, id func() ([]byte, error)) (*Team, error) {
	t := &Team{Place: p, lost: make(chan error, 1), done: make(chan struct{})}
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("not all %d ranks came within %v", p.Size, patience))
	defer cancel()
	meet := t.join
	if p.Rank == 0 {
		meet = t.host
	}
	if err := meet(ctx, same, id); err != nil {
		for _, peer := range t.peers {
			if peer != nil {
				if p.Rank == 0 {
					peer.send(frame{Error: err.Error()}) // the peer may have ended already
				}
				peer.conn.Close()
			}
		}
		return nil, fmt.Errorf("ranks: rank %d of %d: %w", p.Rank, p.Size, err)
	}
	for _, peer := range t.peers {
		go t.listen(peer)
	}
	go t.beat()
	return t, nil
}

// host waits for the others as rank 0.
func (t *Team) host(ctx context.Context, same Same, id func() ([]byte, error)) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", t.Master)
	if err != nil {
		return fmt.Errorf("listening for the others: %w; another --master or MASTER_PORT chooses another port", err)
	}
	defer listener.Close()
	stop := context.AfterFunc(ctx, func() { listener.Close() })
	defer stop()
	t.peers = make([]*peer, t.Size-1)
	for came := 0; came < t.Size-1; {
		conn, err := listener.Accept()
		if err != nil {
			return errors.Join(context.Cause(ctx), err)
		}
		p := newPeer(conn, 0)
		f, err := p.receive(time.Now().Add(silence))
		if err != nil || f.Job != t.Job || f.Same == nil { // the connection is from another program or another job
			p.send(frame{Error: "this is the rendezvous of another job"})
			conn.Close()
			continue
		}
		if err := t.admit(f, same); err != nil {
			p.send(frame{Error: err.Error()})
			conn.Close()
			return err
		}
		p.rank, t.peers[f.Rank-1] = f.Rank, p
		came++
	}
	if t.ID, err = id(); err != nil {
		return err
	}
	for _, p := range t.peers {
		if err := p.send(frame{ID: t.ID}); err != nil {
			return fmt.Errorf("rank %d: %w", p.rank, err)
		}
	}
	return nil
}

// admit returns an error where a rank cannot take part.
func (t *Team) admit(f frame, same Same) error {
	switch {
	case f.Size != t.Size:
		return fmt.Errorf("rank %d counts %d ranks, rank 0 counts %d", f.Rank, f.Size, t.Size)
	case f.Rank < 1 || f.Rank >= t.Size || t.peers[f.Rank-1] != nil:
		return fmt.Errorf("rank %d of %d came twice or does not exist", f.Rank, t.Size)
	case f.Same.Build != same.Build:
		return fmt.Errorf("rank %d runs another build: %s, rank 0 runs %s", f.Rank, f.Same.Build, same.Build)
	case f.Same.Config != same.Config:
		return fmt.Errorf("rank %d has another configuration: hash %s, rank 0 has %s", f.Rank, f.Same.Config, same.Config)
	}
	return nil
}

// join connects to rank 0, and tries again while that does not listen yet.
func (t *Team) join(ctx context.Context, same Same, _ func() ([]byte, error)) error {
	var dialer net.Dialer
	for wait := 10 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		conn, err := dialer.DialContext(ctx, "tcp", t.Master)
		if err == nil {
			t.peers = []*peer{newPeer(conn, 0)}
			break
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("rank 0 did not answer at %s: %w", t.Master, errors.Join(context.Cause(ctx), err))
		case <-time.After(wait):
		}
	}
	zero := t.peers[0]
	if err := zero.send(frame{Job: t.Job, Rank: t.Rank, Size: t.Size, Same: &same}); err != nil {
		return err
	}
	deadline, _ := ctx.Deadline()
	f, err := zero.receive(deadline)
	switch {
	case err != nil:
		return fmt.Errorf("waiting for the others: %w", err)
	case f.Error != "":
		return errors.New(f.Error)
	}
	t.ID = f.ID
	return nil
}

// Lost receives the reason once, when a rank is gone, hangs, or ended the job.
func (t *Team) Lost() <-chan error { return t.lost }

// listen reads a peer's frames until it ends.
func (t *Team) listen(p *peer) {
	for {
		f, err := p.receive(time.Now().Add(silence))
		var timeout net.Error
		switch {
		case f.Bye:
			t.mu.Lock()
			p.left = true
			t.mu.Unlock()
			return
		case f.Error != "":
			t.lose(errors.New(f.Error))
			return
		case errors.As(err, &timeout) && timeout.Timeout():
			t.lose(fmt.Errorf("rank %d hangs: no sign of life for %v", p.rank, silence))
			return
		case err != nil:
			t.lose(fmt.Errorf("rank %d is gone: %w", p.rank, err))
			return
		}
	}
}

// lose ends the job on this rank and, where this is rank 0, on all others.
func (t *Team) lose(err error) {
	select {
	case <-t.done: // the job has ended already
		return
	default:
	}
	t.once.Do(func() {
		t.tell(frame{Error: err.Error()})
		t.lost <- fmt.Errorf("ranks: rank %d of %d: %w", t.Rank, t.Size, err)
	})
}

// tell sends a frame to every peer that is still there.
func (t *Team) tell(f frame) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, p := range t.peers {
		if !p.left {
			p.send(f) // listen notices peers that have ended
		}
	}
}

func (t *Team) beat() {
	for {
		select {
		case <-t.done:
			return
		case <-time.After(beatEvery):
			t.tell(frame{Rank: t.Rank})
		}
	}
}

// Fail tells the other ranks why this one ends.
func (t *Team) Fail(err error) {
	t.tell(frame{Rank: t.Rank, Error: fmt.Sprintf("rank %d failed: %v", t.Rank, err)})
}

// Close leaves the job in order, so that the other ranks do not take this one for lost.
func (t *Team) Close() {
	close(t.done)
	t.tell(frame{Rank: t.Rank, Bye: true})
	for _, p := range t.peers {
		p.conn.Close()
	}
}
