// Package train trains one model: the loop, its learning-rate schedule, its checkpoints and its log.
//
// A run is a directory:
//
//	config.yaml      the resolved configuration (written by the caller)
//	env.json         one entry per start: program, revision, Go, hardware
//	metrics.jsonl    one line per optimizer step
//	checkpoints/
//	  step-00000100/ model.safetensors, state.safetensors, state.json
//	  latest, best   links to one of them, replaced in one move
//
// A checkpoint directory is there whole or not at all: it is written under a temporary name, flushed to the disk and
// renamed. A run that resumes from one continues bit for bit as if it had never stopped (on the same machine, with the
// same program and number of cores): weights, moments, the order of the data and the step counter all come back.
package train
