package data

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
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
	Skipped   int    `json:"skipped"` // bad jsonl lines that were left out
	Totals
	Shards []Shard `json:"shards"`
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

	meta Meta
	file sink
	out  *bufio.Writer
	buf  []byte
}

func (w *writer) final(i int) string { return fmt.Sprintf("%s_%06d.bin", w.name, i) }

func (w *writer) temporary(file string) string {
	return filepath.Join(w.dir, fmt.Sprintf(".%s.%d.tmp", file, os.Getpid()))
}

// write appends the tokens of a stretch of text, which t counts.
func (w *writer) write(ids []int32, t Totals) error {
	t.Tokens = 0
	for len(ids) > 0 {
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
		ids = ids[n:]
		if s.Tokens == w.limit {
			if err := w.end(); err != nil {
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
		s.SHA256, err = hashFile(w.temporary(s.File))
	}
	if err != nil {
		return w.failed(err)
	}
	return nil
}

func hashFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// commit names the shards and writes meta.json after them.
func (w *writer) commit() error {
	if err := w.end(); err != nil {
		return err
	}
	for _, s := range w.meta.Shards {
		w.meta.add(s.Totals)
	}
	text, err := json.MarshalIndent(w.meta, "", "  ")
	if err != nil {
		return fmt.Errorf("data: %w", err)
	}
	if err := w.writeMeta(append(text, '\n')); err != nil {
		return fmt.Errorf("data: writing %s: %w", filepath.Join(w.dir, metaName), err)
	}
	for _, file := range w.files() {
		if err := os.Rename(w.temporary(file), filepath.Join(w.dir, file)); err != nil {
			return fmt.Errorf("data: %w", err)
		}
	}
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

func (w *writer) writeMeta(text []byte) error {
	f, err := w.create(w.temporary(metaName))
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// files lists what the writer makes, meta.json last.
func (w *writer) files() []string {
	var files []string
	for _, s := range w.meta.Shards {
		files = append(files, s.File)
	}
	return append(files, metaName)
}

// abandon removes every trace of an unfinished writer.
func (w *writer) abandon() {
	if w.file != nil {
		w.file.Close()
	}
	for _, file := range w.files() {
		os.Remove(w.temporary(file))
		os.Remove(filepath.Join(w.dir, file)) // named already, when a later rename failed
	}
}
