package disk

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestWrite: a write that fails half way leaves the file before it, and nothing else.
func TestWrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.json")
	if err := ReplaceJSON(path, []int{1}); err != nil {
		t.Fatal(err)
	}
	full := errors.New("no space left")
	err := Write(path, func(w io.Writer) error {
		_, err := io.WriteString(w, strings.Repeat("x", 3<<20)) // beyond the buffer
		return errors.Join(err, full)
	})
	if !errors.Is(err, full) {
		t.Errorf("%v", err)
	}
	text, err := os.ReadFile(path)
	if err != nil || string(text) != "[\n  1\n]\n" {
		t.Errorf("%q, %v", text, err)
	}
	if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) != 1 {
		t.Errorf("left %v, %v", left, err)
	}
	if err := Replace(filepath.Join(path, "b"), nil); err == nil {
		t.Error("a file below a file")
	}
	if err := ReplaceJSON(path, func() {}); err == nil {
		t.Error("a function as JSON")
	}
}

// TestReplace: what replaces a file has the mode of a new one, and its text.
func TestReplace(t *testing.T) {
	dir := t.TempDir()
	path, plain := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	if err := errors.Join(os.WriteFile(path, []byte("old, and longer"), 0o600), os.WriteFile(plain, nil, 0o666),
		Replace(path, []byte("new"))); err != nil {
		t.Fatal(err)
	}
	a, err := os.Stat(path)
	b, err2 := os.Stat(plain)
	if err != nil || err2 != nil || a.Mode() != b.Mode() || a.Size() != 3 {
		t.Errorf("%v %v, %v %v", a, b, err, err2)
	}
}

// TestSum: a file that changes without a change of its size or its time has another sum.
func TestSum(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a")
	if err := os.WriteFile(path, []byte("abc"), 0o666); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	const abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
	if sum, err := Sum(path); err != nil || sum != abc {
		t.Errorf("%s, %v", sum, err)
	}
	if err := errors.Join(os.WriteFile(path, []byte("abd"), 0o666),
		os.Chtimes(path, info.ModTime(), info.ModTime())); err != nil {
		t.Fatal(err)
	}
	if sum, err := Sum(path); err != nil || sum == abc {
		t.Errorf("%s, %v", sum, err)
	}
	if _, err := Sum(path + "x"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
}
