package data

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/klauspost/compress/zstd"
)

// packed is a compression; empty is none.
type packed string

var packedNames = map[string]packed{
	".gz": "gzip", ".gzip": "gzip", ".zst": "zstd", ".zstd": "zstd", ".bz2": "bzip2", ".bzip2": "bzip2",
}

// packingOf knows a compression by a file's first bytes.
func packingOf(head []byte) (packed, error) {
	for _, m := range []struct {
		mark string
		p    packed
	}{{"\x1f\x8b", "gzip"}, {"\x28\xb5\x2f\xfd", "zstd"}, {"BZh", "bzip2"}} {
		if bytes.HasPrefix(head, []byte(m.mark)) {
			return m.p, nil
		}
	}
	for mark, name := range map[string]string{"\xfd7zXZ\x00": "xz", "PK\x03\x04": "zip", "7z\xbc\xaf": "7z"} {
		if bytes.HasPrefix(head, []byte(mark)) {
			return "", fmt.Errorf("a %s file, %w", name, errPacked)
		}
	}
	return "", nil
}

// openPacked calls use with the unpacked content of a file, without a byte order mark. counted sees every byte as it is
// read from disk.
func openPacked(path string, counted io.Writer, use func(io.Reader) error) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("data: %w", err)
	}
	defer f.Close()
	in := bufio.NewReaderSize(io.TeeReader(f, counted), blockBytes)
	head, _ := in.Peek(8)
	p, err := packingOf(head)
	if err != nil {
		return fmt.Errorf("data: %s: %w", path, err)
	}
	var own error // an error of use, which names the file itself
	err = unpacked(in, p, func(r io.Reader) error {
		own = use(r)
		return own
	})
	if err != nil && own == nil {
		return fmt.Errorf("data: %s: %w", path, err)
	}
	return err
}

// unpacked calls use with the content of a compressed stream, without a byte order mark.
func unpacked(in *bufio.Reader, p packed, use func(io.Reader) error) error {
	var r io.Reader = in
	switch p {
	case "gzip":
		z, err := gzip.NewReader(in)
		if err != nil {
			return err
		}
		defer z.Close()
		z.Multistream(false)
		r = &members{z, in}
	case "zstd":
		z, err := zstd.NewReader(in, zstd.WithDecoderMaxWindow(2<<30), zstd.WithDecoderMaxMemory(8<<30))
		if err != nil {
			return err
		}
		defer z.Close()
		r = z
	case "bzip2":
		r = bzip2.NewReader(in)
	}
	return use(&unmarked{r: r})
}

// members reads the members of a gzip file one after the other; zeros behind the last one, with which tapes and block
// devices pad, are ignored.
type members struct {
	z  *gzip.Reader
	in *bufio.Reader
}

func (m *members) Read(b []byte) (int, error) {
	for {
		n, err := m.z.Read(b)
		if n > 0 || err != io.EOF {
			if err == io.EOF {
				err = nil
			}
			return n, err
		}
		for {
			next, err := m.in.ReadByte()
			if err != nil {
				return 0, err
			}
			if next != 0 {
				break
			}
		}
		if err := m.in.UnreadByte(); err != nil {
			return 0, err
		}
		if err := m.z.Reset(m.in); err != nil {
			return 0, err
		}
		m.z.Multistream(false)
	}
}

// unmarked is a stream without the byte order mark that some editors write before UTF-8.
type unmarked struct {
	r    io.Reader
	head []byte // bytes that were read to look for a mark, and not passed on yet
	seen bool
}

var byteOrderMark = []byte("\xef\xbb\xbf")

func (u *unmarked) Read(b []byte) (int, error) {
	if !u.seen {
		u.seen = true
		head := make([]byte, len(byteOrderMark))
		n, err := io.ReadFull(u.r, head)
		if u.head = head[:n]; bytes.Equal(u.head, byteOrderMark) {
			u.head = nil
		}
		if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && err != io.EOF {
			return 0, err
		}
	}
	if len(u.head) > 0 {
		n := copy(b, u.head)
		u.head = u.head[n:]
		return n, nil
	}
	return u.r.Read(b)
}
