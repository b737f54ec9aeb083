package graph

// Boundary marks x as the input of a block, and returns it. With Recompute set, a trainer keeps only boundaries from
// forward to backward and runs each block's forward pass again just before its gradient: the memory of one block
// instead of all, for about a third more arithmetic. The results are the same bits.
func (b *Builder) Boundary(x *Node) *Node {
	if !b.failed() {
		b.boundaries = append(b.boundaries, x)
	}
	return x
}

// recompute rewrites the steps so that values made between two boundaries and read after the forward pass, which ends
// with node end, are made again before their first such reader.
func (p *planner) recompute(boundaries []*Node, end int64) {
	kept := map[*value]bool{}
	for _, n := range boundaries {
		kept[p.of[n][0].root()] = true
	}
	segment := func(id int64) int { // which block a forward step belongs to, -1 before the first and after the last
		k := -1
		for i, n := range boundaries {
			if id > n.ID() {
				k = i
			}
		}
		if k == len(boundaries)-1 {
			return -1
		}
		return k
	}
	forward := map[int][]*step{}
	home := map[*value]int{} // the block whose steps make a value
	for _, s := range p.steps {
		if s.id > end {
			break
		}
		if k := segment(s.id); k >= 0 {
			forward[k] = append(forward[k], s)
			for _, v := range s.out {
				if v = v.root(); !kept[v] {
					home[v] = k
				}
			}
		}
	}
	again := map[*value]*value{} // what backward reads instead
	done := map[int]bool{}
	var steps []*step
	for _, s := range p.steps {
		if s.id > end {
			for i, v := range s.in {
				k, ok := home[v.root()]
				if !ok {
					continue
				}
				if !done[k] {
					done[k] = true
					steps = append(steps, p.replay(forward[k], home, k, end, again)...)
				}
				s.in[i] = again[v.root()]
			}
		}
		steps = append(steps, s)
	}
	p.steps = steps
}

// replay copies the steps of block k that lead to values read after node end, onto values of their own.
func (p *planner) replay(block []*step, home map[*value]int, k int, end int64,
	again map[*value]*value) (steps []*step) {
	needed := map[*value]bool{}
	for v, of := range home {
		if of == k && v.lastUse() > end {
			needed[v] = true
		}
	}
	run := make([]bool, len(block))
	for i := len(block) - 1; i >= 0; i-- {
		for _, v := range block[i].out {
			run[i] = run[i] || needed[v.root()]
		}
		if run[i] {
			for _, v := range block[i].in {
				needed[v.root()] = true
			}
		}
	}
	copyOf := func(v *value) *value {
		v = v.root()
		if home[v] != k || !has(home, v) {
			return v
		}
		if again[v] == nil {
			c := p.newValue(v.len, v.dtype)
			c.uses = v.uses
			again[v] = c
		}
		return again[v]
	}
	for i, s := range block {
		if !run[i] {
			continue
		}
		c := &step{id: s.id, attr: s.attr, outputs: s.outputs, accumulate: s.accumulate}
		for _, v := range s.in {
			c.in = append(c.in, copyOf(v))
		}
		for j, v := range s.out {
			c.out = append(c.out, copyOf(v))
			c.out[j].written(c, j)
		}
		steps = append(steps, c)
	}
	return steps
}

func has(m map[*value]int, v *value) bool {
	_, ok := m[v]
	return ok
}
