package data

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"headroom/internal/disk"
)

// While shards are made, their folder holds the position to resume at in progressName, which is rewritten whenever a
// shard is complete, and for the removal of duplicates seenName, with 16 bytes a document.
const (
	progressName = ".prepare.json"
	seenName     = ".prepare.seen"
)

// A position is where Prepare goes on: at a block of a file, of whose ids some lie in finished shards already. The
// counts are those before the block, which is counted when it is read again.
type position struct {
	File       int   `json:"file"`
	Block      int   `json:"block"`
	IDs        int   `json:"ids"` // kept ids of the block that are written
	Skipped    int   `json:"skipped"`
	Invalid    int   `json:"invalid_utf8,omitempty"`
	Duplicates int   `json:"duplicates"`
	Seen       int64 `json:"seen"`     // document hashes
	Dropping   bool  `json:"dropping"` // the block goes on a text file that is a duplicate
}

// unfinished is what progressName holds.
type unfinished struct {
	Input    string   `json:"input"` // see fingerprint
	Files    int      `json:"files"` // that Input covers
	All      bool     `json:"all"`   // all shards are written, and only to be renamed
	Position position `json:"position"`
	Meta     Meta     `json:"meta"`
}

// fingerprint names the options that decide the bytes of shards, and the files by path, size and time of change.
func fingerprint(o *Options, tok *Tokenizer, files []string) (string, error) {
	h := sha256.New()
	fmt.Fprintf(h, "%q %q %d %d %d %q %q %v %v %d\n", tok.Name, tok.sum, tok.Vocab, tok.Begin, tok.EndOfText, o.Name,
		o.TextField, o.SkipBad, o.Dedup, o.ShardTokens)
	for _, file := range files {
		info, err := os.Stat(file)
		if err != nil {
			return "", fmt.Errorf("data: %w", err)
		}
		fmt.Fprintf(h, "%q %d %d\n", file, info.Size(), info.ModTime().UnixNano())
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// lockFolder keeps a second Prepare out of a folder until the file is closed or the process ends.
func lockFolder(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("data: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("data: %s: another prepare writes here (%w)", dir, err)
	}
	return f, nil
}

// readUnfinished returns what a killed or failed run left in a folder; nil where it left nothing.
func readUnfinished(dir string) (*unfinished, error) {
	text, err := os.ReadFile(filepath.Join(dir, progressName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("data: %w", err)
	}
	u := new(unfinished)
	if err := json.Unmarshal(text, u); err != nil {
		return nil, fmt.Errorf("data: %s is damaged (%v): remove it and the .tmp files beside it",
			filepath.Join(dir, progressName), err)
	}
	return u, nil
}

// usable is nil where an unfinished run can be resumed, and otherwise says why not. It can where the options are the
// same, the files are the same as far as they were read, and finished shards have their checksums.
func (u *unfinished) usable(o *Options, tok *Tokenizer, files []string, w *writer) error {
	if u.Files > len(files) || u.All && u.Files != len(files) || u.Position.File >= u.Files {
		return errors.New("its inputs were others")
	}
	input, err := fingerprint(o, tok, files[:u.Files])
	if err != nil {
		return err
	}
	if input != u.Input {
		return errors.New("its inputs or options were others")
	}
	for _, s := range u.Meta.Shards {
		sum, err := disk.Sum(w.found(s.File))
		if err != nil {
			return err
		}
		if sum != s.SHA256 {
			return fmt.Errorf("its shard %s has changed", s.File)
		}
	}
	return nil
}

// save records the finished shards and where to go on.
func (w *writer) save(p position, all bool) error {
	u := unfinished{Files: p.File + 1, All: all, Position: p, Meta: w.meta}
	if all {
		u.Files = len(w.inputs)
	}
	var err error
	if u.Input, err = w.fingerprint(u.Files); err != nil {
		return err
	}
	text, err := json.Marshal(u)
	if err != nil {
		return fmt.Errorf("data: %w", err)
	}
	if err := w.replace(progressName, append(text, '\n')); err != nil {
		return fmt.Errorf("data: writing %s: %w", filepath.Join(w.dir, progressName), err)
	}
	return nil
}

// replace writes a small file of the folder whole, or leaves the one before it.
func (w *writer) replace(name string, text []byte) error {
	tmp := w.temporary(name)
	f, err := w.create(tmp)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(tmp, filepath.Join(w.dir, name))
	}
	if err != nil {
		os.Remove(tmp)
	}
	return err
}
