package train

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"headroom/internal/disk"
)

// noSum stands for the checksum of state.json in the file itself while the checksum is computed.
var noSum = strings.Repeat("0", 2*sha256.Size)

// write stores a state with its own checksum in it.
func (s State) write(path string) error {
	s.Sum = noSum
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	text = append(text, '\n')
	sum := sha256.Sum256(text)
	return disk.Replace(path, bytes.Replace(text, []byte(noSum), []byte(hex.EncodeToString(sum[:])), 1))
}

// Seal gives a directory of weights that no training wrote the checksums of its files, so that Check holds it against
// them.
func Seal(dir string) error {
	var s State
	var err error
	if s.Files, s.SHA256, err = flush(dir); err == nil {
		err = s.write(filepath.Join(dir, stateFile))
	}
	if err != nil {
		return fmt.Errorf("train: %w", err)
	}
	return nil
}

// readState reads a checkpoint's state and holds its own checksum against it.
func readState(dir string) (State, error) {
	var s State
	path := filepath.Join(dir, stateFile)
	text, err := os.ReadFile(path)
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(text, &s); err != nil {
		return s, fmt.Errorf("%s is damaged: %w", path, err)
	}
	sum := sha256.Sum256(bytes.Replace(text, []byte(s.Sum), []byte(noSum), 1))
	if sealed := s.Sum != "" || s.SHA256 != nil; sealed && hex.EncodeToString(sum[:]) != s.Sum {
		return s, fmt.Errorf("%s is damaged: its SHA-256 is not the one that it was written with", path)
	}
	return s, nil
}

// sizes compares the sizes of files with those that were written.
func (s State) sizes(dir string, files []string) error {
	for _, name := range files {
		path := filepath.Join(dir, name)
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		if info.Size() != s.Files[name] {
			return fmt.Errorf("%s is damaged: it has %d bytes, not the %d that were written", path, info.Size(), s.Files[name])
		}
	}
	return nil
}

// whole reads the state of a checkpoint whose files all have their sizes.
func whole(dir string) (State, error) {
	s, err := readState(dir)
	if err == nil {
		err = s.sizes(dir, slices.Sorted(maps.Keys(s.Files)))
	}
	return s, err
}

// Check holds files of a checkpoint against the sizes and checksums that they were written with. A checkpoint of an
// older version has none, which is a warning. Weights that were copied without their state have none either.
func Check(dir string, files ...string) error {
	s, err := readState(dir)
	if errors.Is(err, fs.ErrNotExist) && alone(dir) {
		return nil
	}
	if err == nil {
		err = s.check(dir, files)
	}
	if err != nil {
		return fmt.Errorf("train: %w", err)
	}
	return nil
}

// check compares files with their recorded sizes and checksums.
func (s State) check(dir string, names []string) error {
	if err := s.sizes(dir, names); err != nil {
		return err
	}
	if s.SHA256 == nil {
		slog.Warn("the checkpoint has no checksums, for an older version wrote it: damage to it would not be noticed",
			"checkpoint", dir)
		return nil
	}
	for _, name := range names {
		path := filepath.Join(dir, name)
		sum, err := disk.Sum(path)
		if err != nil {
			return err
		}
		if want := s.SHA256[name]; sum != want {
			return fmt.Errorf("%s is damaged: its SHA-256 is %.12s…, not the %.12s… that was written", path, sum, want)
		}
	}
	return nil
}

// alone says that a directory has weights but no state.
func alone(dir string) bool {
	_, state := os.Lstat(filepath.Join(dir, stateFile))
	_, moments := os.Lstat(filepath.Join(dir, momentsFile))
	return errors.Is(state, fs.ErrNotExist) && errors.Is(moments, fs.ErrNotExist)
}
