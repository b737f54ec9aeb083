package safetensors

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func values(x ...float32) func() ([]float32, error) {
	return func() ([]float32, error) { return x, nil }
}

func TestRoundTrip(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.safetensors")
	nan := float32(math.NaN())
	err := Write(path, map[string]string{"kind": "gta-4"}, []Tensor{
		{"b", F32, []int{2, 3}, values(1, -2, 3.5, float32(math.Inf(1)), nan, 1e-40)},
		{"a", BF16, []int{4}, values(1, 1.00390625, 1.01171875, nan)}, // ties to even: down, then up
		{"empty", F32, []int{0, 7}, values()},
		{"scalar", F32, nil, values(9)},
	})
	if err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(path); err != nil || bytes.Contains(text, []byte("null")) {
		t.Errorf("a scalar's shape is null (%v)", err)
	}
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if got := f.Names(); !slices.Equal(got, []string{"a", "b", "empty", "scalar"}) || f.Metadata["kind"] != "gta-4" {
		t.Errorf("names %v, metadata %v", got, f.Metadata)
	}
	b, info, err := f.Float32("b")
	if err != nil || !slices.Equal(info.Shape, []int{2, 3}) {
		t.Fatal(info, err)
	}
	for i, want := range []float32{1, -2, 3.5, float32(math.Inf(1)), nan, 1e-40} {
		if math.Float32bits(b[i]) != math.Float32bits(want) {
			t.Errorf("b[%d] is %v, not %v", i, b[i], want)
		}
	}
	a, _, err := f.Float32("a")
	if err != nil || a[0] != 1 || a[1] != 1 || a[2] != 1.015625 || a[3] == a[3] {
		t.Errorf("a is %v (%v)", a, err)
	}
	if _, _, err := f.Float32("c"); err == nil || !strings.Contains(err.Error(), "no tensor is named c") {
		t.Errorf("a missing tensor: %v", err)
	}
}

func file(header, data string) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(b, header...), data...)
}

func TestBadFiles(t *testing.T) {
	for name, c := range map[string]struct {
		file []byte
		want string
	}{
		"empty": {nil, "too few for a header"},
		"long":  {binary.LittleEndian.AppendUint64(nil, 1<<40), "a header of 1099511627776 bytes"},
		"json":  {file("[1]", ""), "no JSON object"},
		"type":  {file(`{"a":{"dtype":"Q7","shape":[1],"data_offsets":[0,1]}}`, "x"), `type "Q7" is not known`},
		"shape": {file(`{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}`, "xxxx"), "is not possible"},
		"overflow": {file(`{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,4]}}`, "xxxx"),
			"is not possible"},
		"size":      {file(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}`, "xxxx"), "which takes 8"},
		"truncated": {file(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}`, "xxxx"), "bytes 0 to 8 of 4"},
		"hole":      {file(`{"a":{"dtype":"U8","shape":[2],"data_offsets":[2,4]}}`, "xxxx"), "belong to no tensor"},
		"tail":      {file(`{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}`, "xxxx"), "end at byte 2 of 4"},
		"overlap": {
			file(`{"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},"b":{"dtype":"U8","shape":[3],"data_offsets":[1,4]}}`,
				"xxxx"), "overlaps"},
		"metadata": {file(`{"__metadata__":{"a":1}}`, ""), "metadata must be strings"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Read("f", bytes.NewReader(c.file), int64(len(c.file)))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

// TestFailedWriteLeavesTheOld: a value that cannot be had keeps the file that was there, and nothing beside it.
func TestFailedWriteLeavesTheOld(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "m.safetensors")
	if err := Write(path, nil, []Tensor{{"a", F32, []int{1}, values(1)}}); err != nil {
		t.Fatal(err)
	}
	old, _ := os.ReadFile(path)
	gone := errors.New("the device is gone")
	for _, bad := range []Tensor{
		{"a", F32, []int{1}, func() ([]float32, error) { return nil, gone }},
		{"a", F32, []int{2}, values(1)},
		{"a", I64, []int{1}, values(1)},
	} {
		if err := Write(path, nil, []Tensor{bad}); err == nil || !strings.Contains(err.Error(), "m.safetensors") {
			t.Errorf("%v: error %v", bad, err)
		}
	}
	now, _ := os.ReadFile(path)
	entries, _ := os.ReadDir(dir)
	if !bytes.Equal(old, now) || len(entries) != 1 {
		t.Errorf("the old file changed, or %d entries stand beside it", len(entries)-1)
	}
}

func FuzzRead(f *testing.F) {
	f.Add(file(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`, "xxxx"))
	f.Add(file(`{"__metadata__":{"a":"b"},"b":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}`, "xxxx"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := Read("f", bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		total := 0
		for _, name := range s.Names() {
			data, _, err := s.Bytes(name)
			if err != nil {
				t.Fatalf("a checked file cannot be read: %v", err)
			}
			total += len(data)
		}
		if total > len(b) {
			t.Fatalf("%d bytes of tensors in a file of %d", total, len(b))
		}
	})
}
