package data

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/parquet-go/parquet-go"
)

// parquetBytes is the amount of unpacked text of a row group that a worker gets at a time, by the sizes in the file's
// footer.
const parquetBytes = 16 << 20

// rows are some rows of a row group.
type rows struct {
	group        int
	first, count int64
}

// readParquet hands over the row groups of a parquet file in order, large ones in several stretches of rows. Workers
// read and unpack them, so that row groups are read in parallel.
func readParquet(ctx context.Context, path, column string, counted io.Writer, emit func(block) error) error {
	f, close, err := openParquet(path, column)
	if err != nil {
		return err
	}
	defer close()
	for i, group := range f.RowGroups() {
		size := f.Metadata().RowGroups[i].TotalCompressedSize
		share := parquetBytes / float64(max(1, f.Metadata().RowGroups[i].TotalByteSize))
		step := max(1, int64(min(1, share)*float64(group.NumRows())))
		for first := int64(0); first < group.NumRows(); first += step {
			if err := ctx.Err(); err != nil {
				return err
			}
			r := &rows{i, first, min(step, group.NumRows()-first)}
			if err := emit(block{file: path, line: 1, rows: r}); err != nil {
				return err
			}
		}
		if p, ok := counted.(*progress); ok {
			p.advance(size)
		}
	}
	return nil
}

// openParquet opens a file and makes sure that it has a column of strings.
func openParquet(path, column string) (_ *parquet.File, close func() error, err error) {
	defer func() {
		if p := recover(); p != nil { // the library trusts some of what it reads
			err = fmt.Errorf("data: %s: damaged parquet file: %v", path, p)
		}
		if err != nil && close != nil {
			close()
		}
	}()
	file, err := os.Open(path)
	if err != nil {
		return nil, nil, fmt.Errorf("data: %w", err)
	}
	close = file.Close
	info, err := file.Stat()
	if err != nil {
		return nil, close, fmt.Errorf("data: %w", err)
	}
	if err := checkFooter(file, info.Size()); err != nil {
		return nil, close, fmt.Errorf("data: %s: no parquet file: %w", path, err)
	}
	f, err := parquet.OpenFile(file, info.Size(), parquet.SkipBloomFilters(true))
	if err != nil {
		return nil, close, fmt.Errorf("data: %s: no parquet file: %w", path, err)
	}
	leaf, ok := lookup(f, column)
	if !ok {
		var names []string
		for _, c := range f.Schema().Columns() {
			names = append(names, strings.Join(c, "."))
		}
		return nil, close, fmt.Errorf("data: %s: no column %q: has %s", path, column, strings.Join(names, ", "))
	}
	if kind := leaf.Node.Type().Kind(); kind != parquet.ByteArray || leaf.MaxRepetitionLevel > 0 {
		return nil, close, fmt.Errorf("data: %s: column %q must be one string a row, not %s", path, column, leaf.Node.Type())
	}
	return f, close, nil
}

// lookup finds a column by its name, which may have a dot in it, or by the path of a nested one.
func lookup(f *parquet.File, column string) (parquet.LeafColumn, bool) {
	if leaf, ok := f.Schema().Lookup(column); ok {
		return leaf, true
	}
	return f.Schema().Lookup(strings.Split(column, ".")...)
}

// checkFooter checks the length of the footer that a file states, because the library allocates whatever length is
// stated.
func checkFooter(file io.ReaderAt, size int64) error {
	var end [8]byte
	if size < 12 {
		return fmt.Errorf("it has %d bytes", size)
	}
	if _, err := file.ReadAt(end[:], size-8); err != nil {
		return err
	}
	if n := int64(binary.LittleEndian.Uint32(end[:])); n > size-12 {
		return fmt.Errorf("its footer is said to have %d of %d bytes", n, size)
	}
	return nil
}

// texts hands over the text of each row; rows without one are passed over.
func (r *rows) texts(path, column string, add func(text []byte)) (err error) {
	f, close, err := openParquet(path, column)
	if err != nil {
		return err
	}
	defer close()
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%v", p)
		}
		if err != nil {
			err = fmt.Errorf("data: %s: row group %d, column %q: %w", path, r.group, column, err)
		}
	}()
	leaf, _ := lookup(f, column)
	pages := f.RowGroups()[r.group].ColumnChunks()[leaf.ColumnIndex].Pages()
	defer pages.Close()
	if err := pages.SeekToRow(r.first); err != nil {
		return err
	}
	values := make([]parquet.Value, 256)
	for left := r.count; left > 0; {
		page, err := pages.ReadPage()
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = fmt.Errorf("%d rows are missing", left)
			}
			return err
		}
		for in := page.Values(); left > 0; {
			n, err := in.ReadValues(values)
			for _, v := range values[:min(int64(n), left)] {
				if !v.IsNull() && len(v.ByteArray()) > 0 {
					add(v.ByteArray())
				}
			}
			left -= int64(n)
			if err == io.EOF || err == nil && n == 0 {
				break
			}
			if err != nil {
				return err
			}
		}
		parquet.Release(page)
	}
	return nil
}
