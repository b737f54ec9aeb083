package load

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"
)

// A Plan is one load.
type Plan struct {
	Concurrency    int     // closed loop: requests at once
	Rate           float64 // open loop: requests a second; one of both is 0
	Requests       int     // requests that are measured
	Warm           int     // requests before them that are not measured
	Prompt, Output Lengths
	Seed           uint64
	FirstLimit     time.Duration // a request is good when its first token comes within this,
	GapLimit       time.Duration // and its others follow in this on average; 0 is no limit
	Progress       func(done, of int)
}

// Check names what is wrong with a plan.
func (p Plan) Check() error {
	switch {
	case (p.Concurrency > 0) == (p.Rate > 0):
		return errors.New("load: a load has either a concurrency or a rate above 0")
	case p.Concurrency < 0 || p.Concurrency > 1<<16 || p.Rate < 0 || p.Rate > 1e6:
		return fmt.Errorf("load: a concurrency of %d or a rate of %v is not possible", p.Concurrency, p.Rate)
	case p.Requests < 1 || p.Warm < 0:
		return fmt.Errorf("load: at least one request must be measured, not %d", p.Requests)
	case len(p.Prompt) == 0 || len(p.Output) == 0:
		return errors.New("load: prompts and outputs must have lengths")
	}
	return nil
}

// A task is a request to send.
type task struct {
	prompt []int32
	tokens int
	due    time.Time
	warm   bool
}

// Run puts a load on a server. It ends early, with what was measured so far, only when ctx does.
func (t *Target) Run(ctx context.Context, p Plan) (Result, error) {
	if err := p.Check(); err != nil {
		return Result{}, err
	}
	if longest := p.Prompt.Longest() + p.Output.Longest(); t.context > 0 && longest > t.context {
		return Result{},
			fmt.Errorf("load: prompts of up to %d tokens and answers of up to %d are longer than the context of %s, which is %d",
				p.Prompt.Longest(), p.Output.Longest(), t.Model, t.context)
	}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1 << 16, DisableCompression: true}}
	defer client.CloseIdleConnections()
	var wait, warming sync.WaitGroup
	var mu sync.Mutex
	var all []outcome
	done := 0
	send := func(x task) {
		o := t.complete(ctx, client, x.prompt, x.tokens, x.due)
		if x.warm {
			defer warming.Done()
		}
		mu.Lock()
		defer mu.Unlock()
		if !x.warm && ctx.Err() == nil {
			all = append(all, o)
		}
		if done++; p.Progress != nil {
			p.Progress(done, p.Requests+p.Warm)
		}
	}
	tasks := make(chan task)
	for range p.Concurrency {
		wait.Go(func() {
			for x := range tasks {
				x.due = time.Now()
				send(x)
			}
		})
	}
	var began time.Time
	r := rand.New(rand.NewPCG(p.Seed, 0))
	due := time.Now()
	for i := range p.Warm + p.Requests {
		if i == p.Warm {
			warming.Wait() // or their time would count, and their tokens would not
			began = time.Now()
			due = began
		}
		x := task{prompt: make([]int32, p.Prompt.draw(r)), tokens: p.Output.draw(r), warm: i < p.Warm}
		for j := range x.prompt {
			x.prompt[j] = r.Int32N(int32(t.Vocab))
		}
		if x.warm {
			warming.Add(1)
		}
		if p.Concurrency > 0 {
			select {
			case tasks <- x:
				continue
			case <-ctx.Done():
			}
			break
		}
		due = due.Add(time.Duration(r.ExpFloat64() / p.Rate * float64(time.Second)))
		select {
		case <-time.After(time.Until(due)):
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			break
		}
		x.due = due
		wait.Go(func() { send(x) })
	}
	close(tasks)
	wait.Wait()
	result := p.summarise(all, time.Since(began))
	result.Model = t.Model
	if len(all) == 0 {
		return result, fmt.Errorf("load: nothing was measured: %w", context.Cause(ctx))
	}
	return result, nil
}
