package data

import "fmt"

// Config is the data part of a run.
type Config struct {
	Train      string            `mapstructure:"train" yaml:"train"`           // folder, glob, file or URL of shards; or several with weights: a:0.7,b:0.3
	Val        map[string]string `mapstructure:"val" yaml:"val"`               // by name: folder, glob, file or URL of shards
	Tokenizer  string            `mapstructure:"tokenizer" yaml:"tokenizer"`   // what the shards were made with, to be checked
	Headerless bool              `mapstructure:"headerless" yaml:"headerless"` // files without llm.c's header are plain uint16 ids, as nanoGPT writes them
	Seed       uint64            `mapstructure:"seed" yaml:"seed"`             // of the order of training windows
}

// Default returns the data part of a run that names no data yet.
func Default() Config { return Config{Tokenizer: "gpt2", Seed: 1} }

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
	return nil
}
