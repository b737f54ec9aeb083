package data

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/klauspost/compress/zstd"
)

const (
	blockBytes = 1 << 20 // what one worker gets at a time
	sniffBytes = 8000    // where a zero byte shows that a file is no text
)

// expand returns the files that inputs name, in the order of the inputs: a file as it is, the sorted matches of a glob
// (dir/**/*.go also looks below), and all visible text files below a folder. skipped counts binary files in folders.
func expand(inputs []string) (files []string, skipped int, err error) {
	for _, input := range inputs {
		info, statErr := os.Stat(input)
		switch {
		case statErr == nil && info.IsDir():
			found, err := walk(input, "*")
			if err != nil {
				return nil, 0, err
			}
			text := slices.DeleteFunc(slices.Clone(found), isBinary)
			if len(text) == 0 {
				return nil, 0, fmt.Errorf("data: %s: no text file in this folder", input)
			}
			skipped += len(found) - len(text)
			files = append(files, text...)
		case statErr == nil:
			files = append(files, input)
		case !strings.ContainsAny(input, "*?["):
			return nil, 0, fmt.Errorf("data: %w", statErr)
		default:
			found, err := glob(input)
			if err != nil {
				return nil, 0, err
			}
			files = append(files, found...)
		}
	}
	if len(files) == 0 {
		return nil, 0, errors.New("data: no input: name at least one file, folder or glob")
	}
	return files, skipped, nil
}

// glob returns the files that match a pattern; a ** between slashes stands for any number of folders.
func glob(pattern string) (files []string, err error) {
	root, name, deep := strings.Cut(pattern, "**"+string(filepath.Separator))
	if deep {
		files, err = walk(filepath.Clean(root+"."), name)
	} else {
		files, err = filepath.Glob(pattern)
		files = slices.DeleteFunc(files, func(path string) bool {
			info, err := os.Stat(path)
			return err != nil || info.IsDir()
		})
	}
	if err != nil {
		return nil, fmt.Errorf("data: glob %q: %w", pattern, err)
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("data: glob %q matches no file", pattern)
	}
	return files, nil
}

// walk returns the visible regular files below root whose name matches, in lexical order.
func walk(root, match string) (files []string, err error) {
	if _, err := filepath.Match(match, ""); err != nil {
		return nil, err
	}
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if path != root && strings.HasPrefix(d.Name(), ".") {
			if d.IsDir() {
				return filepath.SkipDir
			}
			return nil
		}
		if ok, _ := filepath.Match(match, d.Name()); ok && d.Type().IsRegular() {
			files = append(files, path)
		}
		return nil
	})
	return files, err
}

func isParquet(path string) bool { return strings.HasSuffix(path, ".parquet") }

// isBinary reports whether a file that is not compressed has a zero byte early on.
func isBinary(path string) bool {
	if _, packed := packing(path); packed != "" || isParquet(path) {
		return false
	}
	f, err := os.Open(path)
	if err != nil {
		return false // reading it will say why
	}
	defer f.Close()
	head := make([]byte, sniffBytes)
	n, _ := io.ReadFull(f, head)
	return bytes.IndexByte(head[:n], 0) >= 0
}

// packing splits a file name into the name without its compression and the compression.
func packing(path string) (name, packed string) {
	for _, ext := range []string{".gz", ".zst", ".bz2"} {
		if name, ok := strings.CutSuffix(path, ext); ok {
			return name, ext
		}
	}
	return path, ""
}

// A block is a piece of input that one worker tokenizes: lines of a jsonl file, or a stretch of a text file.
type block struct {
	file  string
	line  int  // of a jsonl file's first line here, from 1; 0 for text
	first bool // a text file's first block: a document begins
	last  bool // a text file's last block: a document ends
	hash  docHash
	rows  *rows // of a parquet file, instead of data
	data  []byte
}

// openPacked hands use what a file holds once unpacked. counted sees every byte as it is read from disk.
func openPacked(path string, counted io.Writer, use func(io.Reader) error) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("data: %w", err)
	}
	defer f.Close()
	var r io.Reader = io.TeeReader(f, counted)
	switch _, packed := packing(path); packed {
	case ".gz":
		z, err := gzip.NewReader(r)
		if err != nil {
			return fmt.Errorf("data: %s: %w", path, err)
		}
		defer z.Close()
		r = z
	case ".zst":
		z, err := zstd.NewReader(r, zstd.WithDecoderMaxWindow(2<<30), zstd.WithDecoderMaxMemory(8<<30))
		if err != nil {
			return fmt.Errorf("data: %s: %w", path, err)
		}
		defer z.Close()
		r = z
	case ".bz2":
		r = bzip2.NewReader(r)
	}
	return use(r)
}

// readBlocks hands the blocks of a file to emit in order; whole asks for text files in one
// block, hashed for their hash in the first. field is parquet's column.
func readBlocks(ctx context.Context, path, field string, whole, hashed bool, counted io.Writer, emit func(block) error) error {
	var hash docHash
	send := func(b block) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		b.file, b.hash = path, hash
		return emit(b)
	}
	name, _ := packing(path)
	if isParquet(path) {
		return readParquet(ctx, path, field, counted, send)
	}
	if strings.HasSuffix(name, ".jsonl") {
		return openPacked(path, counted, func(r io.Reader) error { return readLines(path, r, send) })
	}
	if hashed {
		var err error
		if hash, err = hashTextFile(ctx, path); err != nil {
			return err
		}
	}
	return openPacked(path, counted, func(r io.Reader) error { return readText(path, r, whole, send) })
}

// readLines cuts a jsonl stream into blocks of whole lines.
func readLines(path string, r io.Reader, emit func(block) error) error {
	in := bufio.NewReaderSize(r, blockBytes)
	b := block{line: 1}
	for line := 1; ; {
		part, err := in.ReadSlice('\n')
		b.data = append(b.data, part...)
		if err == bufio.ErrBufferFull {
			continue // a line longer than the buffer
		}
		if err != nil && err != io.EOF {
			return fmt.Errorf("data: %s:%d: %w", path, line, err)
		}
		line++
		if len(b.data) >= blockBytes/2 || err == io.EOF && len(b.data) > 0 {
			if err := emit(b); err != nil {
				return err
			}
			b = block{line: line}
		}
		if err == io.EOF {
			return nil
		}
	}
}

// readText cuts a text stream into blocks between which no pre-token of any of our tokenizers reaches, or not at all.
func readText(path string, r io.Reader, whole bool, emit func(block) error) error {
	first := true
	var rest []byte
	for {
		buf := make([]byte, len(rest)+max(len(rest), blockBytes))
		n := copy(buf, rest)
		var err error
		for n < len(buf) && err == nil { // io.ReadFull would hide a truncated gzip file, whose error is its own
			var m int
			m, err = r.Read(buf[n:])
			n += m
		}
		if err != nil && err != io.EOF {
			return fmt.Errorf("data: %s: %w", path, err)
		}
		buf = buf[:n]
		if first && bytes.IndexByte(buf[:min(len(buf), sniffBytes)], 0) >= 0 {
			return fmt.Errorf("data: %s: holds a zero byte, so it is no text", path)
		}
		cut := len(buf)
		if err == nil && whole {
			cut = 0
		} else if err == nil {
			cut = cutText(buf)
		}
		rest = buf[cut:]
		if cut > 0 {
			if err := emit(block{first: first, last: err != nil, data: buf[:cut]}); err != nil {
				return err
			}
			first = false
		}
		if err != nil {
			return nil
		}
	}
}

// cutText returns the last place where text may be cut, 0 where there is none: between a letter and a space before a
// letter, or behind a lone line end between two runes that are no space. There every pattern ends a pre-token and
// begins the next.
func cutText(text []byte) int {
	letter := func(b byte) bool { return 'a' <= b|0x20 && b|0x20 <= 'z' }
	for i := len(text) - 2; i > 0; i-- {
		switch text[i] {
		case ' ':
			if letter(text[i-1]) && letter(text[i+1]) {
				return i
			}
		case '\n':
			before, _ := utf8.DecodeLastRune(text[:i])
			after, _ := utf8.DecodeRune(text[i+1:])
			// o200k reads line ends and slashes behind a punctuation mark as one
			if !unicode.IsSpace(before) && !unicode.IsSpace(after) && after != '/' && utf8.FullRune(text[i+1:]) {
				return i + 1
			}
		}
	}
	return 0
}

// parseLine returns the text of one jsonl line; ok is false for an empty line.
func parseLine(line []byte, field string) (text string, ok bool, err error) {
	if len(bytes.TrimSpace(line)) == 0 {
		return "", false, nil
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(line, &object); err != nil {
		var wrong *json.UnmarshalTypeError
		if errors.As(err, &wrong) {
			return "", false, fmt.Errorf("must be a JSON object, not %s", wrong.Value)
		}
		return "", false, fmt.Errorf("no JSON: %w", err)
	}
	raw, found := object[field]
	if !found {
		return "", false, fmt.Errorf("no field %q", field)
	}
	if raw[0] != '"' {
		return "", false, fmt.Errorf("field %q must be a string", field)
	}
	if err := json.Unmarshal(raw, &text); err != nil {
		return "", false, fmt.Errorf("field %q: %w", field, err)
	}
	return text, true, nil
}
