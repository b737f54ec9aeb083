package lab

import (
	"fmt"

	"headroom/internal/disk"
)

// writeFile writes a value as JSON, whole or not at all.
func writeFile(path string, v any) error {
	if err := disk.ReplaceJSON(path, v); err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	return nil
}

// replace writes a file whole or not at all.
func replace(path string, text []byte) error {
	if err := disk.Replace(path, text); err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	return nil
}
