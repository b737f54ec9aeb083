// Package corpus finds the text that tests read when it is there: a folder shared/data beside the repository.
package corpus

import (
	"os"
	"path/filepath"
	"testing"
)

// Path returns the path of a file of the shared corpus, and skips the test where there is none.
func Path(tb testing.TB, name string) string {
	tb.Helper()
	dir, err := os.Getwd()
	if err != nil {
		tb.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
		if parent := filepath.Dir(dir); parent != dir {
			dir = parent
			continue
		}
		tb.Fatal("corpus: no go.mod above the test")
	}
	path := filepath.Join(filepath.Dir(dir), "shared", "data", name)
	if _, err := os.Stat(path); err != nil {
		tb.Skipf("corpus: %v", err)
	}
	return path
}
