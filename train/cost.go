package train

// Pauses counts the evaluations and checkpoints of a run that nothing interrupts, from the most that there may be:
// every evaluation may be the best so far, which is saved.
func (c Config) Pauses(evaluates bool) (evaluations, saves int) {
	for step := 1; step <= c.Steps; step++ {
		last := step == c.Steps
		evaluated := evaluates && c.EvalEvery > 0 && (last || step%c.EvalEvery == 0)
		if evaluated {
			evaluations++
		}
		if last || evaluated || c.SaveEvery > 0 && step%c.SaveEvery == 0 {
			saves++
		}
	}
	return evaluations, saves
}
