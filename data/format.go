package data

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A layout says how a file holds documents.
type layout string

const (
	asText    layout = "text" // one document
	asLines   layout = "JSON lines"
	asParquet layout = "parquet"
)

// A format is what a file is read as: its layout, its compression, and whether that was known by its content rather
// than by its name.
type format struct {
	layout  layout
	packed  packed
	guessed bool
}

func (f format) String() string {
	if f.packed == "" {
		return string(f.layout)
	}
	return fmt.Sprintf("%s in %s", f.layout, f.packed)
}

// lineNames are the endings of JSON lines, and textless the endings that tell nothing of a file's content. Files with
// all other endings are text.
var (
	lineNames    = []string{".jsonl", ".ndjson", ".jsonlines"}
	parquetNames = []string{".parquet", ".pq"}
	silentNames  = []string{"", ".json", ".data", ".dat", ".part"}
)

// formatOf finds out what a file is. Compression and parquet are known by their first bytes, JSON lines by a name that
// is usual for them, in letters of any size, or, where the name says nothing, by a first line that is an object with
// the field. Where a field was asked for by name, content counts everywhere, and a name that says nothing must be JSON
// lines.
func formatOf(path, field string, asked bool) (f format, err error) {
	file, err := os.Open(path)
	if err != nil {
		return f, fmt.Errorf("data: %w", err)
	}
	defer file.Close()
	in := bufio.NewReaderSize(file, 64)
	head, _ := in.Peek(8) // a shorter file begins with no such bytes
	if f.packed, err = packingOf(head); err != nil {
		return f, fmt.Errorf("data: %s: %w", path, err)
	}
	ext, claimed := nameOf(path)
	if claimed != "" && claimed != f.packed && len(head) > 0 {
		return f, fmt.Errorf("data: %s: it is no %s file, as its name says", path, claimed)
	}
	switch {
	case bytes.HasPrefix(head, []byte("PAR1")), slices.Contains(parquetNames, ext) && f.packed == "":
		f.layout = asParquet
		return f, nil
	case slices.Contains(lineNames, ext):
		f.layout = asLines
		return f, nil
	}
	f.layout = asText
	if silent(ext) || asked {
		err = unpacked(in, f.packed, func(r io.Reader) error {
			found, err := isLines(r, field)
			if found {
				f.layout, f.guessed = asLines, true
			}
			return err
		})
		if err != nil {
			return f, fmt.Errorf("data: %s: %w", path, err)
		}
	}
	if asked && silent(ext) && f.layout == asText {
		return f, fmt.Errorf("data: %s: its first line is no JSON object with field %q; texts are read without a field",
			path, field)
	}
	return f, nil
}

// nameOf gives the ending of a file's name, without that of a compression, in small letters, and the compression that
// it names.
func nameOf(path string) (ext string, claimed packed) {
	name := strings.ToLower(filepath.Base(path))
	ext = filepath.Ext(name)
	if p, ok := packedNames[ext]; ok {
		return filepath.Ext(strings.TrimSuffix(name, ext)), p
	}
	return ext, ""
}

// silent says that an ending tells nothing of a file's content: no ending, those of numbered parts, and .json, which
// may hold one document or many.
func silent(ext string) bool {
	return slices.Contains(silentNames, ext) || strings.Trim(ext, ".0123456789-of") == ""
}

// mostSniffed is the longest first line by which JSON lines are recognised.
const mostSniffed = 16 << 20

// isLines says whether a first line is a JSON object with the field, and no line of one object that takes several.
func isLines(r io.Reader, field string) (bool, error) {
	in := bufio.NewReader(io.LimitReader(r, mostSniffed))
	for {
		line, err := in.ReadBytes('\n')
		if err != nil && err != io.EOF {
			return false, err
		}
		if line = bytes.TrimSpace(line); len(line) == 0 && err == nil {
			continue
		}
		var object map[string]json.RawMessage
		if json.Unmarshal(line, &object) != nil {
			return false, nil
		}
		_, found := object[field]
		return found, nil
	}
}

// An input is a file and what it is read as.
type input struct {
	path string
	format
}

// recognize finds the formats of files and reports them: one by one where the content decided, and as a count for the
// others.
func (p *progress) recognize(files []string, field field) (inputs []input, err error) {
	counts, guesses := map[string]int{}, 0
	var order []string
	for _, path := range files {
		f, err := formatOf(path, field.name, field.asked)
		if err != nil {
			return nil, err
		}
		inputs = append(inputs, input{path, f})
		if f.guessed {
			if guesses++; guesses <= mostNamed {
				p.say("%s is taken for %s, by its content", path, f)
			}
		}
		if counts[f.String()]++; counts[f.String()] == 1 {
			order = append(order, f.String())
		}
	}
	if guesses > mostNamed {
		p.say("and %d more by their content", guesses-mostNamed)
	}
	for i, what := range order {
		order[i] = fmt.Sprintf("%d of %s", counts[what], what)
	}
	p.say("files: %s", strings.Join(order, ", "))
	return inputs, nil
}

// mostNamed is the most files that are named one by one.
const mostNamed = 8

// passed names the files of folders that are not read.
func (p *progress) passed(files []string) {
	if len(files) == 0 {
		return
	}
	shown := files[:min(len(files), mostNamed)]
	more := ""
	if n := len(files) - len(shown); n > 0 {
		more = fmt.Sprintf(" and %d more", n)
	}
	p.say("passed over, as hidden or no text: %s%s", strings.Join(shown, ", "), more)
}

var errPacked = errors.New("compressed in a way that is not read here: unpack it first")
