package serve

import "slices"

// A queue holds jobs by client and gives the next of the client that got the fewest tokens, so that one with many
// requests does not keep others waiting (the virtual token counter of "Fairness in Serving Large Language Models",
// arXiv 2401.00588). The zero queue is empty.
type queue struct {
	waiting int
	clients map[string]*client
}

type client struct {
	jobs   []*job
	inWork int
	served int // tokens of its prompts and answers; a new client starts with the smallest count among those that are there
}

func (q *queue) push(j *job) {
	c := q.clients[j.client]
	if c == nil {
		c = &client{}
		first := true
		for _, other := range q.clients {
			if first || other.served < c.served {
				c.served, first = other.served, false
			}
		}
		if q.clients == nil {
			q.clients = map[string]*client{}
		}
		q.clients[j.client] = c
	}
	c.jobs = append(c.jobs, j)
	q.waiting++
}

// pop takes the next job, nil where none waits, and charges its client for the prompt. The job is in work until done.
func (q *queue) pop() *job {
	var next *client
	for _, c := range q.clients {
		if len(c.jobs) > 0 && (next == nil || c.served < next.served || c.served == next.served &&
			c.jobs[0].arrived.Before(next.jobs[0].arrived)) {
			next = c
		}
	}
	if next == nil {
		return nil
	}
	j := next.jobs[0]
	next.jobs[0] = nil
	next.jobs = next.jobs[1:]
	next.inWork++
	next.served += len(j.request.Prompt)
	q.waiting--
	return j
}

// charge counts new tokens to a job in work.
func (q *queue) charge(j *job, tokens int) { q.clients[j.client].served += tokens }

// done records that a job has left the engine.
func (q *queue) done(j *job) {
	q.clients[j.client].inWork--
	q.tidy(j.client)
}

// drop removes the waiting jobs for which the predicate is true.
func (q *queue) drop(which func(*job) bool) {
	for name, c := range q.clients {
		n := len(c.jobs)
		c.jobs = slices.DeleteFunc(c.jobs, which)
		q.waiting -= n - len(c.jobs)
		q.tidy(name)
	}
}

// tidy forgets a client without jobs.
func (q *queue) tidy(name string) {
	if c := q.clients[name]; len(c.jobs)+c.inWork == 0 {
		delete(q.clients, name)
	}
}
