package data

import (
	"path/filepath"
	"strings"
)

// SamePath says that two paths name the same file or folder: as they stand, from the directory of this process, or
// where one is whole and ends in the other, from the directory that it was written in.
func SamePath(a, b string) bool {
	if a == b {
		return true
	}
	if a == "" || b == "" || IsURL(a) || IsURL(b) {
		return false
	}
	x, errX := filepath.Abs(a)
	y, errY := filepath.Abs(b)
	if errX == nil && errY == nil && x == y {
		return true
	}
	if filepath.IsAbs(b) {
		a, b = b, a
	}
	b = filepath.Clean(b)
	return filepath.IsAbs(a) && filepath.IsLocal(b) && b != "." &&
		strings.HasSuffix(filepath.Clean(a), string(filepath.Separator)+b)
}
