package data

import (
	"bufio"
	"bytes"
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
)

const (
	blockBytes = 1 << 20 // bytes that a worker gets at a time
	sniffBytes = 8000    // where a zero byte shows that a file is no text
)

// expand returns the files that inputs name, in the order of the inputs: a file as it is, the sorted matches of a glob
// (dir/**/*.go also looks below), and all visible text files below a folder. skipped are the other files of folders.
func expand(inputs []string) (files, skipped []string, err error) {
	for _, input := range inputs {
		info, statErr := os.Stat(input)
		switch {
		case statErr == nil && info.IsDir():
			found, hidden, err := walk(input, "*")
			if err != nil {
				return nil, nil, err
			}
			before := len(files)
			for _, path := range found {
				if isBinary(path) {
					skipped = append(skipped, path)
				} else {
					files = append(files, path)
				}
			}
			if skipped = append(skipped, hidden...); len(files) == before {
				return nil, nil, fmt.Errorf("data: %s: no text file in this folder", input)
			}
		case statErr == nil:
			files = append(files, input)
		case !strings.ContainsAny(input, "*?["):
			return nil, nil, fmt.Errorf("data: %w", statErr)
		default:
			found, err := glob(input)
			if err != nil {
				return nil, nil, err
			}
			files = append(files, found...)
		}
	}
	if len(files) == 0 {
		return nil, nil, errors.New("data: no input: name at least one file, folder or glob")
	}
	return files, skipped, nil
}

// glob returns the files that match a pattern; a ** between slashes stands for any number of folders, none included.
func glob(pattern string) (files []string, err error) {
	slash := string(filepath.Separator)
	if strings.HasSuffix(pattern, slash+"**") {
		pattern += slash + "*"
	}
	root, name, deep := strings.Cut(pattern, "**"+slash)
	if deep {
		if root != "" && !strings.HasSuffix(root, slash) {
			return nil, fmt.Errorf("data: glob %q: ** must stand alone between slashes", pattern)
		}
		var roots []string
		if roots, err = filepath.Glob(filepath.Clean(root + ".")); err == nil {
			for _, root := range roots {
				below, _, walked := walk(root, name)
				files, err = append(files, below...), errors.Join(err, walked)
			}
		}
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

// walk returns the visible regular files at any depth below the folder root whose last names match, in lexical order,
// and what is hidden. A link to a folder is followed where it is root itself.
func walk(root, match string) (files, hidden []string, err error) {
	slash := string(filepath.Separator)
	if _, err := filepath.Match(match, ""); err != nil {
		return nil, nil, err
	}
	if info, err := os.Stat(root); err != nil || !info.IsDir() {
		return nil, nil, err // a file has no files below it
	}
	pattern, root := append([]string{"**"}, strings.Split(match, slash)...), root+slash
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if path != root && strings.HasPrefix(d.Name(), ".") {
			hidden = append(hidden, path)
			if d.IsDir() {
				return filepath.SkipDir
			}
			return nil
		}
		if !d.Type().IsRegular() {
			return nil
		}
		names, err := filepath.Rel(root, path)
		if err == nil && matches(pattern, strings.Split(names, slash)) {
			files = append(files, path)
		}
		return err
	})
	return files, hidden, err
}

// matches says whether the names of a path match those of a valid pattern one by one.
func matches(pattern, path []string) bool {
	switch {
	case len(pattern) == 0:
		return len(path) == 0
	case pattern[0] == "**":
		return matches(pattern[1:], path) || len(path) > 0 && matches(pattern, path[1:])
	case len(path) == 0:
		return false
	}
	ok, _ := filepath.Match(pattern[0], path[0])
	return ok && matches(pattern[1:], path[1:])
}

// isBinary reports whether a file that is neither compressed nor parquet has a zero byte early on.
func isBinary(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false // reading it later gives the error
	}
	defer f.Close()
	head := make([]byte, sniffBytes)
	n, _ := io.ReadFull(f, head)
	head = head[:n]
	if p, err := packingOf(head); p != "" || err != nil || bytes.HasPrefix(head, []byte("PAR1")) {
		return err != nil
	}
	return bytes.IndexByte(head, 0) >= 0
}

// A field is where the text stands in a line of JSON, or a parquet file's column, and whether somebody asked for it by
// name.
type field struct {
	name  string
	asked bool
}

// fieldOf is the field of a name, which may be empty.
func fieldOf(name string) field {
	if name == "" {
		return field{"text", false}
	}
	return field{name, true}
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

// readBlocks calls emit with the blocks of a file in order. With whole a text file is one block, with hashed the first
// block of a text file has its hash.
func readBlocks(ctx context.Context, in input, field field, whole, hashed bool, counted io.Writer,
	emit func(block) error) (err error) {
	path := in.path
	var hash docHash
	send := func(b block) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		b.file, b.hash = path, hash
		return emit(b)
	}
	switch in.layout {
	case asParquet:
		return readParquet(ctx, path, field.name, counted, send)
	case asLines:
		return openPacked(path, counted, func(r io.Reader) error { return readLines(path, r, send) })
	}
	if hashed {
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
		for n < len(buf) && err == nil { // io.ReadFull would turn the error of a truncated gzip file into its own
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

// parseLine returns the text of one jsonl line; ok is false for an empty line, and where the text is null.
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
	switch {
	case !found:
		return "", false, fmt.Errorf("no field %q", field)
	case string(raw) == "null": // no text, as in a parquet file
		return "", false, nil
	}
	if raw[0] != '"' {
		return "", false, fmt.Errorf("field %q must be a string", field)
	}
	if err := json.Unmarshal(raw, &text); err != nil {
		return "", false, fmt.Errorf("field %q: %w", field, err)
	}
	return text, true, nil
}
