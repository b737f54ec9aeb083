package data

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"
)

type parquetRow struct {
	ID   int64    `parquet:"id"`
	Text *string  `parquet:"text,optional,zstd"`
	Tags []string `parquet:"tags,list"`
	Meta struct {
		Body string `parquet:"body,snappy,dict"`
	} `parquet:"meta"`
}

// parquetFile has n rows in groups of at most so many; every tenth has no text.
func parquetFile(t testing.TB, n int, group int64) []byte {
	t.Helper()
	var b bytes.Buffer
	w := parquet.NewGenericWriter[parquetRow](&b, parquet.MaxRowsPerRowGroup(group), parquet.PageBufferSize(4000))
	for i := range n {
		r := parquetRow{ID: int64(i), Tags: []string{"a", "b"}}
		r.Meta.Body = fmt.Sprint("body ", i%7)
		if i%10 > 0 {
			text := fmt.Sprintf("row %d of the file, with words %x. ", i, i*i*7919)
			r.Text = &text
		}
		if _, err := w.Write([]parquetRow{r}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestPrepareParquet(t *testing.T) {
	dir := write(t, map[string]string{"a.parquet": string(parquetFile(t, 1000, 300)), "b.txt": "plain"})
	var want strings.Builder
	for i := range 1000 {
		if i%10 > 0 {
			fmt.Fprintf(&want, "%srow %d of the file, with words %x. ", endOfText, i, i*i*7919)
		}
	}
	want.WriteString(endOfText + "plain")
	out := t.TempDir()
	m, err := Prepare(context.Background(), Options{Tokenizer: "gpt2", Out: out, Inputs: []string{dir}})
	if err != nil || m.Documents != 901 || all(t, out) != want.String() {
		t.Errorf("%+v, %v", m, err)
	}
	out = t.TempDir()
	m, err = Prepare(context.Background(),
		Options{Tokenizer: "gpt2", Out: out, Inputs: []string{filepath.Join(dir, "*.parquet")},
			TextField: "meta.body", Dedup: true})
	if err != nil || m.Documents != 7 || m.Duplicates != 993 ||
		!strings.HasPrefix(all(t, out), endOfText+"body 0"+endOfText+"body 1") {
		t.Errorf("%+v, %v", m, err)
	}
	file := filepath.Join(dir, "a.parquet") // stretches of rows add up to the row group
	var text strings.Builder
	for first := int64(0); first < 300; first += 7 {
		r := &rows{1, first, min(7, 300-first)}
		if err := r.texts(file, "text", func(b []byte) { text.WriteString(endOfText + string(b)) }); err != nil {
			t.Fatal(err)
		}
	}
	if text.Len() < 9000 || !strings.Contains(want.String(), text.String()) {
		t.Errorf("stretches: %d bytes", text.Len())
	}
}

// TestParquetDottedColumn: a dot may stand in the name of a column, and not only between those of nested ones.
func TestParquetDottedColumn(t *testing.T) {
	var b bytes.Buffer
	type row struct {
		Text string `parquet:"a.b"`
	}
	if err := parquet.Write(&b, []row{{"one"}, {"two"}}); err != nil {
		t.Fatal(err)
	}
	out := t.TempDir()
	dir := write(t, map[string]string{"d.pq": b.String()})
	m, err := Prepare(t.Context(), Options{Tokenizer: "bytes", Out: out, Inputs: []string{dir}, TextField: "a.b"})
	if err != nil || m.Documents != 2 || all(t, out) != endOfText+"one"+endOfText+"two" {
		t.Errorf("%+v, %v", m, err)
	}
}

func TestParquetRefuses(t *testing.T) {
	good := parquetFile(t, 1000, 300)
	f, err := parquet.OpenFile(bytes.NewReader(good), int64(len(good)))
	if err != nil {
		t.Fatal(err)
	}
	damaged := bytes.Clone(good)
	page := f.Metadata().RowGroups[2].Columns[1].MetaData // of text
	for i := range page.TotalCompressedSize / 2 {
		damaged[page.DataPageOffset+page.TotalCompressedSize/4+i] ^= 0x5a
	}
	lying := bytes.Clone(good)
	lying[len(lying)-5] = 0x7f // a footer of 2 GB
	dir := write(t, map[string]string{"lying.parquet": string(lying), "good.parquet": string(good),
		"damaged.parquet": string(damaged), "cut.parquet": string(good[:len(good)/2]), "none.parquet": "text"})
	for _, test := range []struct{ file, field, want string }{
		{"damaged.parquet", "text", "damaged.parquet: row group 2, column \"text\": "},
		{"cut.parquet", "text", "cut.parquet: no parquet file: "},
		{"none.parquet", "text", "none.parquet: no parquet file: "},
		{"lying.parquet", "text", "its footer is said to have"},
		{"good.parquet", "body", `good.parquet: no column "body": has id, text, tags.list.element, meta.body`},
		{"good.parquet", "id", `good.parquet: column "id" must be one string a row, not INT`},
		{"good.parquet", "tags.list.element", `column "tags.list.element" must be one string a row`},
	} {
		out := t.TempDir()
		_, err := Prepare(context.Background(),
			Options{Tokenizer: "bytes", Out: out, Inputs: []string{filepath.Join(dir, test.file)}, TextField: test.field})
		if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want %s", test.file, err, test.want)
		}
	}
}

func FuzzParquet(f *testing.F) {
	good := parquetFile(f, 60, 20)
	f.Add(good)
	for i := 8; i < len(good); i += len(good) / 9 {
		bad := bytes.Clone(good)
		bad[i] ^= 0xff
		f.Add(bad)
	}
	path := filepath.Join(f.TempDir(), "x.parquet")
	f.Fuzz(func(t *testing.T, file []byte) {
		if err := os.WriteFile(path, file, 0o644); err != nil {
			t.Fatal(err)
		}
		_ = readParquet(context.Background(), path, "text", new(bytes.Buffer), func(b block) error {
			_, err := b.documents("text", false, func([]byte, bool) {})
			return err
		})
	})
}
