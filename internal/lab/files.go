package lab

import (
	"encoding/json"
	"fmt"
	"os"
)

// writeFile writes a value as JSON, in one move.
func writeFile(path string, v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	return replace(path, append(text, '\n'))
}

// replace writes a file in one move.
func replace(path string, text []byte) error {
	tmp := path + ".tmp"
	defer os.Remove(tmp) // nothing is there by then, unless a step failed
	if err := os.WriteFile(tmp, text, 0o666); err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	return nil
}
