package data

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// A docHash is the first 16 bytes of a document's SHA-256: among a billion documents two that differ are taken for one
// with a chance of 2^-69.
type docHash [16]byte

func hashDocument(text []byte) docHash {
	sum := sha256.Sum256(text)
	return docHash(sum[:16])
}

// hashTextFile hashes a text file's content, which its blocks alone do not show.
func hashTextFile(ctx context.Context, path string) (h docHash, err error) {
	sum := sha256.New()
	err = openPacked(path, io.Discard, func(r io.Reader) error {
		buf := make([]byte, blockBytes)
		for {
			n, err := r.Read(buf)
			sum.Write(buf[:n])
			switch {
			case err == io.EOF:
				return ctx.Err()
			case err != nil:
				return fmt.Errorf("data: %s: %w", path, err)
			case ctx.Err() != nil:
				return ctx.Err()
			}
		}
	})
	copy(h[:], sum.Sum(nil))
	return h, err
}

// A document is one in a result: its hash, its ids and what they count.
type document struct {
	hash       docHash
	start, end int // of its ids
	Totals
}

// A seen set tells a document's first coming from all later ones, in the order of the input, at about 40 bytes of
// memory each. It is nil where duplicates are kept.
type seen struct {
	known  map[docHash]struct{}
	stored int64     // hashes in the file
	fresh  []docHash // those after them
}

// openSeen begins with the first n hashes that an unfinished run stored.
func openSeen(dir string, n int64) (*seen, error) {
	s := &seen{known: map[docHash]struct{}{}, stored: n}
	if n == 0 {
		return s, nil
	}
	path := filepath.Join(dir, seenName)
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("data: %w", err)
	}
	if int64(len(text)) < n*16 {
		return nil, fmt.Errorf("data: %s: %d bytes cannot hold %d document hashes", path, len(text), n)
	}
	for i := range n {
		s.known[docHash(text[i*16:])] = struct{}{}
	}
	return s, nil
}

func (s *seen) len() int64 {
	if s == nil {
		return 0
	}
	return s.stored + int64(len(s.fresh))
}

// filter takes out of a result the documents that have come before. dropping says whether the text file under way is
// one.
func (s *seen) filter(r *result, dropping *bool) {
	if s == nil {
		return
	}
	if r.goesOn {
		if *dropping {
			r.ids, r.Totals = nil, Totals{}
		}
		return
	}
	kept := r.ids[:0]
	r.Totals = Totals{}
	for _, d := range r.documents {
		_, again := s.known[d.hash]
		if *dropping = again; again {
			r.duplicates++
			continue
		}
		s.known[d.hash] = struct{}{}
		s.fresh = append(s.fresh, d.hash)
		kept = append(kept, r.ids[d.start:d.end]...)
		r.add(d.Totals)
	}
	r.ids = kept
}

// store brings the hashes in the file up to the first n.
func (s *seen) store(dir string, n int64) (err error) {
	if s == nil {
		return nil
	}
	f, err := os.OpenFile(filepath.Join(dir, seenName), os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return fmt.Errorf("data: %w", err)
	}
	defer f.Close()
	count := int(n - s.stored)
	buf := make([]byte, 0, 16*count)
	for _, h := range s.fresh[:count] {
		buf = append(buf, h[:]...)
	}
	if _, err = f.WriteAt(buf, s.stored*16); err == nil {
		err = f.Sync()
	}
	if err != nil {
		return fmt.Errorf("data: writing %s: %w", f.Name(), err)
	}
	s.fresh, s.stored = append([]docHash(nil), s.fresh[count:]...), n
	return nil
}
