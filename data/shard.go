package data

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"headroom/internal/disk"
)

// A shard is llm.c's: 256 int32 of header (magic, version, count of tokens, zeros), then the tokens, all little-endian.
const (
	headerBytes = 256 * 4
	magic16     = 20240520 // version 1, tokens uint16
	magic32     = 20240801 // version 7, tokens uint32
	version16   = 1
	version32   = 7
)

// metaName is the file that Prepare writes last: where it lies, all is there.
const metaName = "meta.json"

// Meta describes a folder of shards.
type Meta struct {
	Tokenizer string `json:"tokenizer"`
	Vocab     int    `json:"vocab"`
	EndOfText int32  `json:"end_of_text"`
	Begin     *int32 `json:"begin,omitempty"`        // before each document; end-of-text where it is left out
	Invalid   int    `json:"invalid_utf8,omitempty"` // texts with bytes that are no UTF-8
	Skipped   int    `json:"skipped"`                // bad jsonl lines that were left out
	Source    string `json:"source,omitempty"`       // checksum of the text, where the caller of Prepare knew it

	Duplicates int `json:"duplicates,omitempty"` // documents left out because their text had come before
	Totals
	Shards []Shard `json:"shards"`
}

// Begins is the token before each document.
func (m *Meta) Begins() int32 {
	if m.Begin != nil {
		return *m.Begin
	}
	return m.EndOfText
}

// Totals counts tokens (end-of-text included) and the text they stand for. Bytes and words are of the text alone, as
// bits per byte and word perplexity need them.
type Totals struct {
	Tokens    int64 `json:"tokens"`
	Documents int64 `json:"documents"`
	Bytes     int64 `json:"bytes"`
	Words     int64 `json:"words"` // separated by white space
}

func (t *Totals) add(u Totals) {
	t.Tokens += u.Tokens
	t.Documents += u.Documents
	t.Bytes += u.Bytes
	t.Words += u.Words
}

// A Shard describes one file. Tokens are exact; a stretch of text of up to about a megabyte that goes on in the next
// shard is counted in the shard where it begins, so that the sums over all shards are exact.
type Shard struct {
	File   string `json:"file"`
	SHA256 string `json:"sha256"`
	Totals
}

// A sink is what a shard is written to: a file, or in tests one that fails.
type sink interface {
	io.Writer
	io.WriterAt
	Sync() error
	Close() error
}

func createFile(path string) (sink, error) {
	return os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
}

// A writer spreads tokens over shards with temporary names; commit gives them their own.
type writer struct {
	dir, name string
	limit     int64
	wide      bool
	create    func(path string) (sink, error)

	inputs      []string
	fingerprint func(files int) (string, error)
	// hears of each shard that is full, and how many ids of the present write lie in it or before
	full func(ids int) error

	meta Meta
	file sink
	out  *bufio.Writer
	buf  []byte
}

func (w *writer) final(i int) string { return fmt.Sprintf("%s_%06d.bin", w.name, i) }

func (w *writer) temporary(file string) string {
	return filepath.Join(w.dir, "."+file+".tmp")
}

// found returns where a finished shard lies: a run may have died between two renames.
func (w *writer) found(file string) string {
	path := filepath.Join(w.dir, file)
	if _, err := os.Stat(path); err == nil {
		return path
	}
	return w.temporary(file)
}

// write appends the tokens of a stretch of text, which t counts.
func (w *writer) write(ids []int32, t Totals) error {
	t.Tokens = 0
	for written := 0; len(ids) > 0; {
		if w.file == nil {
			if err := w.begin(); err != nil {
				return err
			}
		}
		s := &w.meta.Shards[len(w.meta.Shards)-1]
		s.add(t)
		t = Totals{}
		n := min(int64(len(ids)), w.limit-s.Tokens)
		w.buf = w.buf[:0]
		for _, id := range ids[:n] {
			if w.wide {
				w.buf = binary.LittleEndian.AppendUint32(w.buf, uint32(id))
			} else {
				w.buf = binary.LittleEndian.AppendUint16(w.buf, uint16(id))
			}
		}
		if _, err := w.out.Write(w.buf); err != nil {
			return w.failed(err)
		}
		s.Tokens += n
		ids, written = ids[n:], written+int(n)
		if s.Tokens == w.limit {
			if err := w.end(); err != nil {
				return err
			}
			if err := w.full(written); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *writer) failed(err error) error {
	file := w.meta.Shards[len(w.meta.Shards)-1].File
	return fmt.Errorf("data: writing %s: %w", filepath.Join(w.dir, file), err)
}

func (w *writer) begin() error {
	w.meta.Shards = append(w.meta.Shards, Shard{File: w.final(len(w.meta.Shards))})
	file, err := w.create(w.temporary(w.meta.Shards[len(w.meta.Shards)-1].File))
	if err != nil {
		return w.failed(err)
	}
	w.file, w.out = file, bufio.NewWriterSize(file, 1<<20)
	if _, err := w.out.Write(make([]byte, headerBytes)); err != nil {
		return w.failed(err)
	}
	return nil
}

// end completes the open shard: its header, which waited for the count, its way to the disk, and its checksum.
func (w *writer) end() error {
	if w.file == nil {
		return nil
	}
	s := &w.meta.Shards[len(w.meta.Shards)-1]
	header := make([]byte, 12)
	magic, version := uint32(magic16), uint32(version16)
	if w.wide {
		magic, version = magic32, version32
	}
	binary.LittleEndian.PutUint32(header[0:], magic)
	binary.LittleEndian.PutUint32(header[4:], version)
	binary.LittleEndian.PutUint32(header[8:], uint32(s.Tokens))
	err := w.out.Flush()
	if err == nil {
		_, err = w.file.WriteAt(header, 0)
	}
	if err == nil {
		err = w.file.Sync()
	}
	err = errors.Join(err, w.file.Close())
	w.file = nil
	if err == nil {
		s.SHA256, err = disk.Sum(w.temporary(s.File))
	}
	if err != nil {
		return w.failed(err)
	}
	return nil
}

// commit names the finished shards and writes meta.json after them.
func (w *writer) commit() error {
	m := w.meta
	for _, s := range m.Shards {
		m.add(s.Totals)
	}
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return fmt.Errorf("data: %w", err)
	}
	for _, s := range m.Shards {
		if err := os.Rename(w.found(s.File), filepath.Join(w.dir, s.File)); err != nil {
			return fmt.Errorf("data: %w", err)
		}
	}
	if err := w.replace(metaName, append(text, '\n')); err != nil {
		return fmt.Errorf("data: writing %s: %w", filepath.Join(w.dir, metaName), err)
	}
	w.meta = m
	os.Remove(filepath.Join(w.dir, progressName))
	os.Remove(filepath.Join(w.dir, seenName))
	dir, err := os.Open(w.dir)
	if err != nil {
		return fmt.Errorf("data: %w", err)
	}
	defer dir.Close()
	if err := dir.Sync(); err != nil {
		return fmt.Errorf("data: %s: %w", w.dir, err)
	}
	return nil
}

// abandon removes the shard that is not finished, keeps those that are recorded, and returns how many these are.
func (w *writer) abandon() int {
	if w.file != nil {
		w.file.Close()
	}
	u, err := readUnfinished(w.dir)
	if u == nil || err != nil {
		u = new(unfinished)
	}
	kept := len(u.Meta.Shards)
	if kept < len(w.meta.Shards) {
		for _, s := range w.meta.Shards[kept:] {
			os.Remove(w.temporary(s.File))
		}
	}
	if kept == 0 {
		w.forget(nil)
	}
	return kept
}

// forget removes what an unfinished run left.
func (w *writer) forget(shards []Shard) {
	for _, s := range shards {
		os.Remove(w.found(s.File))
	}
	os.Remove(filepath.Join(w.dir, metaName))
	os.Remove(filepath.Join(w.dir, progressName))
	os.Remove(filepath.Join(w.dir, seenName))
}
