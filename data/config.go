package data

import "fmt"

// Config is the data part of a run.
type Config struct {
	// folder, glob, file or URL of shards to train on, or several with weights: a:0.7,b:0.3
	Train string `mapstructure:"train" yaml:"train"`
	// validation sets by name, each a folder, glob, file or URL of shards
	Val map[string]string `mapstructure:"val" yaml:"val"`
	// the tokenizer that the shards were made with, which is checked: bytes, gpt2, cl100k, o200k or the path of a
	// tokenizer.json
	Tokenizer string `mapstructure:"tokenizer" yaml:"tokenizer"`
	// files without llm.c's header are read as plain uint16 ids, as nanoGPT writes them
	Headerless bool `mapstructure:"headerless" yaml:"headerless"`
	// what attention does with the documents of a row, in training and evaluation: none reads across their borders, mask
	// stays within its own
	Documents string `mapstructure:"documents" yaml:"documents"`
	// seed of the order of training windows
	Seed uint64 `mapstructure:"seed" yaml:"seed"`
}

// Default returns the data part of a run that names no data yet.
func Default() Config { return Config{Tokenizer: "gpt2", Documents: NoMask, Seed: 1} }

// Validate reports the first value that breaks a rule.
func (c Config) Validate() error {
	if c.Train == "" {
		return fmt.Errorf("data: train is %q: must name a folder or file of shards", c.Train)
	}
	if _, err := ParseMixture(c.Train); err != nil {
		return err
	}
	for name, path := range c.Val {
		if name == "" || path == "" {
			return fmt.Errorf("data: val has %q: %q: must name a set and its folder or file of shards", name, path)
		}
	}
	if _, err := NewTokenizer(c.Tokenizer); err != nil {
		return err
	}
	if c.Documents != NoMask && c.Documents != DocumentMask {
		return fmt.Errorf("data: documents must be %s or %s, not %q", NoMask, DocumentMask, c.Documents)
	}
	return nil
}
