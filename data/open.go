package data

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"golang.org/x/sys/unix"
)

// Tokens is a sequence of tokens in mapped shards, one after the other. It may be read by several goroutines at once.
type Tokens struct {
	Meta  *Meta // nil where the shards came without meta.json
	vocab int
	parts []part
	ends  []int64 // the sum of tokens up to and with each part

	remote *remote // nil where the shards are files here
}

// A part is one mapped shard.
type part struct {
	path   string
	mapped []byte
	tokens []byte
	width  int // bytes of a token
}

// OpenOptions says how shards are read.
type OpenOptions struct {
	Vocab      int  // ids must lie below it; 0: what meta.json says, any id without one
	Headerless bool // a file without llm.c's magic is plain uint16 tokens, as nanoGPT writes them
}

// Open maps the shards that path names: a folder, a glob, one file, or the URL of a folder (see Folder), whose shards
// are brought here while those before are read. Headers and sizes are checked here. Ids are checked against the
// vocabulary where they are read, which costs nothing, whereas a pass over all of them here would read every shard from
// the disk; Verify makes that pass.
func Open(path string, o OpenOptions) (*Tokens, error) {
	if IsURL(path) {
		return openRemote(path, o)
	}
	files, meta, err := shardFiles(path)
	if err != nil {
		return nil, err
	}
	t, err := newTokens(path, meta, o)
	if err != nil {
		return nil, err
	}
	for i, file := range files {
		p, err := mapShard(file, o.Headerless)
		if err != nil {
			t.Close()
			return nil, err
		}
		t.parts = append(t.parts, p)
		t.ends = append(t.ends, t.Len()+p.len())
		if meta != nil && meta.Shards[i].Tokens != p.len() {
			t.Close()
			return nil, fmt.Errorf("data: %s: holds %d tokens, %s says %d", file, p.len(), metaName, meta.Shards[i].Tokens)
		}
	}
	return t, nil
}

func newTokens(path string, meta *Meta, o OpenOptions) (*Tokens, error) {
	t := &Tokens{Meta: meta, vocab: o.Vocab}
	if meta == nil {
		return t, nil
	}
	if o.Vocab > 0 && meta.Vocab > o.Vocab {
		return nil, fmt.Errorf("data: %s: made with %s of %d ids, but the vocabulary has %d", path, meta.Tokenizer,
			meta.Vocab, o.Vocab)
	}
	if t.vocab == 0 {
		t.vocab = meta.Vocab
	}
	return t, nil
}

// shardFiles lists the files that path names, and their meta.json where path is a folder that has one.
func shardFiles(path string) (files []string, meta *Meta, err error) {
	info, err := os.Stat(path)
	switch {
	case err == nil && !info.IsDir():
		return []string{path}, nil, nil
	case err == nil:
		if meta, err = ReadMeta(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, nil, err
		}
		if meta != nil {
			for _, s := range meta.Shards {
				files = append(files, filepath.Join(path, s.File))
			}
			return files, meta, nil
		}
		path = filepath.Join(path, "*.bin")
	case !strings.ContainsAny(path, "*?["):
		return nil, nil, fmt.Errorf("data: %w", err)
	}
	files, err = filepath.Glob(path)
	if err != nil {
		return nil, nil, fmt.Errorf("data: glob %q: %w", path, err)
	}
	if len(files) == 0 {
		return nil, nil, fmt.Errorf("data: %s: no shards", path)
	}
	return files, nil, nil
}

// ReadMeta reads the meta.json of a folder of shards.
func ReadMeta(dir string) (*Meta, error) {
	path := filepath.Join(dir, metaName)
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("data: %w", err)
	}
	return parseMeta(path, text)
}

func parseMeta(path string, text []byte) (*Meta, error) {
	var m Meta
	if err := json.Unmarshal(text, &m); err != nil {
		return nil, fmt.Errorf("data: %s: %w", path, err)
	}
	if m.Vocab < 1 || len(m.Shards) == 0 {
		return nil, fmt.Errorf("data: %s: must name a vocabulary and at least one shard, has %d ids and %d shards", path,
			m.Vocab, len(m.Shards))
	}
	for _, s := range m.Shards {
		if s.File != filepath.Base(s.File) {
			return nil, fmt.Errorf("data: %s: shard %q must lie in the same folder", path, s.File)
		}
	}
	return &m, nil
}

func mapShard(path string, headerless bool) (part, error) {
	f, err := os.Open(path)
	if err != nil {
		return part{}, fmt.Errorf("data: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return part{}, fmt.Errorf("data: %w", err)
	}
	if info.Size() == 0 || !info.Mode().IsRegular() {
		return part{}, fmt.Errorf("data: %s: empty, must be a shard", path)
	}
	mapped, err := unix.Mmap(int(f.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return part{}, fmt.Errorf("data: mapping %s: %w", path, err)
	}
	p, err := parseShard(mapped, headerless)
	if err != nil {
		return part{}, errors.Join(fmt.Errorf("data: %s: %w", path, err), unix.Munmap(mapped))
	}
	p.path = path
	return p, nil
}

// parseShard checks a shard's header against its size.
func parseShard(mapped []byte, headerless bool) (part, error) {
	p := part{mapped: mapped, width: 2}
	var magic, version uint32
	if len(mapped) >= 8 {
		magic, version = binary.LittleEndian.Uint32(mapped), binary.LittleEndian.Uint32(mapped[4:])
	}
	switch {
	case magic == magic16 && version == version16:
	case magic == magic32 && version == version32:
		p.width = 4
	case magic == magic16 || magic == magic32:
		return part{}, fmt.Errorf("version %d of magic %d is unknown", version, magic)
	case headerless:
		if len(mapped)%2 != 0 || len(mapped) == 0 {
			return part{}, fmt.Errorf("%d bytes are no whole number of uint16 tokens", len(mapped))
		}
		p.tokens = mapped
		return p, nil
	default:
		return part{}, fmt.Errorf("magic %d is neither %d nor %d: no token shard (nanoGPT's files, which have no header, "+
			"are read with data.headerless: true)", magic, magic16, magic32)
	}
	if len(mapped) < headerBytes {
		return part{}, fmt.Errorf("truncated: %d bytes, the header alone has %d", len(mapped), headerBytes)
	}
	tokens := int64(int32(binary.LittleEndian.Uint32(mapped[8:])))
	if want := headerBytes + tokens*int64(p.width); tokens < 0 || int64(len(mapped)) != want {
		return part{}, fmt.Errorf("truncated or damaged: %d bytes, a header of %d tokens asks for %d",
			len(mapped), tokens, want)
	}
	if tokens == 0 {
		return part{}, errors.New("holds no tokens")
	}
	p.tokens = mapped[headerBytes:]
	return p, nil
}

func (p *part) len() int64 { return int64(len(p.tokens) / p.width) }

// read copies the tokens from a position on and returns how many, and the first id that is not below limit (-1: none).
func (p *part) read(dst []int32, at int64, limit uint32) (n int, bad int) {
	n, bad = int(min(int64(len(dst)), p.len()-at)), -1
	for i := range n {
		var id uint32
		if p.width == 2 {
			id = uint32(binary.LittleEndian.Uint16(p.tokens[2*(at+int64(i)):]))
		} else {
			id = binary.LittleEndian.Uint32(p.tokens[4*(at+int64(i)):])
		}
		if id >= limit && bad < 0 {
			bad = i
		}
		dst[i] = int32(id)
	}
	return n, bad
}

// Len returns the number of tokens.
func (t *Tokens) Len() int64 {
	if len(t.ends) == 0 {
		return 0
	}
	return t.ends[len(t.ends)-1]
}

// Read fills dst with the tokens from position at on, across shards.
func (t *Tokens) Read(dst []int32, at int64) error {
	if at < 0 || at+int64(len(dst)) > t.Len() {
		panic(fmt.Sprintf("data: Read: tokens %d to %d of %d", at, at+int64(len(dst)), t.Len()))
	}
	limit := uint32(1 << 31)
	if t.vocab > 0 {
		limit = uint32(t.vocab)
	}
	i := sort.Search(len(t.ends), func(i int) bool { return t.ends[i] > at })
	for len(dst) > 0 {
		if err := t.ready(i); err != nil {
			return err
		}
		p := &t.parts[i]
		local := at - (t.ends[i] - p.len())
		n, bad := p.read(dst, local, limit)
		if bad >= 0 {
			return fmt.Errorf("data: %s: token %d has id %d, beyond the vocabulary of %d", p.path, local+int64(bad),
				uint32(dst[bad]), limit)
		}
		dst, at, i = dst[n:], at+int64(n), i+1
	}
	return nil
}

// Verify reads every shard once: all ids lie in the vocabulary, and the checksums of meta.json hold.
func (t *Tokens) Verify() error {
	buf := make([]int32, 1<<16)
	for at := int64(0); at < t.Len(); at += int64(len(buf)) {
		buf = buf[:min(int64(len(buf)), t.Len()-at)]
		if err := t.Read(buf, at); err != nil {
			return err
		}
	}
	_, err := t.Sum()
	return err
}

// Close unmaps the shards; nothing may read them afterwards.
func (t *Tokens) Close() error {
	var errs []error
	if t.remote != nil {
		errs = append(errs, t.remote.close())
	}
	for _, p := range t.parts {
		if p.mapped == nil { // it was never fetched
			continue
		}
		if err := unix.Munmap(p.mapped); err != nil {
			errs = append(errs, fmt.Errorf("data: %s: %w", p.path, err))
		}
	}
	t.parts, t.ends = nil, nil
	return errors.Join(errs...)
}
