package train

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// An event is what a reader finds in a record.
type event struct {
	time    float64
	step    int
	version string
	session bool
	scalars map[string]float32
}

// readEvents reads a file by the format's published rules: it was not held against TensorBoard itself.
func readEvents(t *testing.T, path string) (all []event) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	unmask := func(m uint32) uint32 { m -= 0xa282ead8; return m>>17 | m<<15 }
	sum := func(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(0x82f63b78)) }
	for len(b) > 0 {
		n := binary.LittleEndian.Uint64(b)
		data, tail := b[12:12+n], b[12+n:]
		if got := unmask(binary.LittleEndian.Uint32(b[8:])); got != sum(b[:8]) {
			t.Fatalf("%s: checksum of a length is %x", path, got)
		}
		if got := unmask(binary.LittleEndian.Uint32(tail)); got != sum(data) {
			t.Fatalf("%s: checksum of a record is %x", path, got)
		}
		all, b = append(all, readEvent(t, data)), tail[4:]
	}
	return all
}

func readEvent(t *testing.T, data []byte) event {
	e := event{scalars: map[string]float32{}}
	fields(t, data, func(n protowire.Number, number uint64, inner []byte) {
		switch n {
		case 1:
			e.time = math.Float64frombits(number)
		case 2:
			e.step = int(number)
		case 3:
			e.version = string(inner)
		case 7:
			fields(t, inner, func(n protowire.Number, number uint64, _ []byte) { e.session = n == 1 && number == 1 })
		case 5:
			fields(t, inner, func(_ protowire.Number, _ uint64, value []byte) {
				tag := ""
				fields(t, value, func(n protowire.Number, number uint64, text []byte) {
					if n == 1 {
						tag = string(text)
					} else {
						e.scalars[tag] = math.Float32frombits(uint32(number))
					}
				})
			})
		}
	})
	return e
}

// fields walks a message.
func fields(t *testing.T, b []byte, each func(n protowire.Number, number uint64, inner []byte)) {
	for len(b) > 0 {
		n, typ, size := protowire.ConsumeTag(b)
		var number uint64
		var inner []byte
		b = b[max(size, 0):]
		switch typ {
		case protowire.VarintType:
			number, size = protowire.ConsumeVarint(b)
		case protowire.Fixed64Type:
			number, size = protowire.ConsumeFixed64(b)
		case protowire.Fixed32Type:
			var short uint32
			short, size = protowire.ConsumeFixed32(b)
			number = uint64(short)
		case protowire.BytesType:
			inner, size = protowire.ConsumeBytes(b)
		}
		if size < 0 {
			t.Fatalf("field %d: %v", n, protowire.ParseError(size))
		}
		each(n, number, inner)
		b = b[size:]
	}
}

// TestRecord holds a record against bytes worked out by hand from the format: the version record that every event file
// begins with, at time 0.
func TestRecord(t *testing.T) {
	if got := crc32.Checksum([]byte("123456789"), castagnoli); got != 0xe3069283 { // the check value of CRC-32C
		t.Errorf("CRC-32C is %08x", got)
	}
	dir := t.TempDir()
	e, err := openEvents(dir, 0, time.Unix(0, 0))
	if err != nil {
		t.Fatal(err)
	}
	if err := e.close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(e.file.Name())
	if err != nil {
		t.Fatal(err)
	}
	want := "\x09\x00\x00\x00\x00\x00\x00\x00\x00\x10\x00\x1a\x0dbrain.Event:2"
	if n := binary.LittleEndian.Uint64(b); int(n) != len(want) || string(b[12:12+n]) != want {
		t.Errorf("the first record is %q", b)
	}
}

// TestEvents: a run that is stopped and goes on leaves two files, of which the second begins where the first counts no
// more.
func TestEvents(t *testing.T) {
	dir, tokens := t.TempDir(), shard(t, 2000)
	c := tinyConfig()
	c.Schedule = "constant" // may be trained for longer
	c.Steps = 5
	train(t, tiny(t, dir, tokens, c))
	c.Steps = 10
	r := tiny(t, dir, tokens, c)
	r.Resume = true
	train(t, r)
	files, err := filepath.Glob(filepath.Join(dir, "events.out.tfevents.*"))
	if err != nil || len(files) != 2 {
		t.Fatalf("got %v, %v", files, err)
	}
	steps := lines(t, dir)
	for i, path := range files {
		all := readEvents(t, path)
		if len(all) != 2+5 || all[0].version != "brain.Event:2" || !all[1].session || all[1].step != 5*i+1 {
			t.Fatalf("%s: got %+v", path, all)
		}
		for j, e := range all[2:] {
			want := steps[5*i+j]
			if e.step != want.Step || want.Memory == 0 || time.Since(time.Unix(int64(e.time), 0)) > time.Hour {
				t.Errorf("got %+v for %+v", e, want)
			}
			for _, s := range want.scalars() {
				if e.scalars[s.tag] != float32(s.value) {
					t.Errorf("step %d: %s is %v, not %v", e.step, s.tag, e.scalars[s.tag], s.value)
				}
			}
			if _, ok := e.scalars["eval/part/perplexity"]; ok != (len(want.Eval) > 0) {
				t.Errorf("step %d: evaluations %v", e.step, fmt.Sprint(e.scalars))
			}
		}
	}
}
