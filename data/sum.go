package data

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"time"

	"headroom/internal/disk"
)

// Sum is a checksum of the tokens: of their shards' checksums in order, so that it does not depend on where the shards
// lie or what they are called. Shards here are held against meta.json, where they have one; those of a remote folder
// are when they come.
func (t *Tokens) Sum() (string, error) {
	sums, err := t.Sums()
	if err != nil {
		return "", err
	}
	return joined(sums), nil
}

// Sums are the checksums of the shards.
func (t *Tokens) Sums() (sums []string, err error) {
	if t.remote == nil {
		if sums, err = fileSums(t.files()); err != nil {
			return nil, err
		}
	}
	for i := range t.parts {
		switch {
		case t.Meta == nil:
		case t.remote != nil:
			sums = append(sums, t.Meta.Shards[i].SHA256)
		case sums[i] != t.Meta.Shards[i].SHA256:
			return nil, fmt.Errorf("data: %s: checksum %s, %s says %s", t.parts[i].path, sums[i], metaName,
				t.Meta.Shards[i].SHA256)
		}
	}
	return sums, nil
}

func (t *Tokens) files() (paths []string) {
	for _, p := range t.parts {
		paths = append(paths, p.path)
	}
	return paths
}

// TextSum is a checksum of the text that inputs of Prepare name.
func TextSum(inputs []string) (string, error) {
	files, _, err := expand(inputs)
	if err != nil {
		return "", err
	}
	sums, err := fileSums(files)
	return joined(sums), err
}

// joined is the checksum of checksums.
func joined(sums []string) string {
	h := sha256.New()
	for _, s := range sums {
		fmt.Fprintln(h, s)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// fileSums is FileSum of many files, on all cores.
func fileSums(files []string) ([]string, error) {
	sums, errs := make([]string, len(files)), make([]error, len(files))
	slots := make(chan struct{}, runtime.GOMAXPROCS(0))
	var group sync.WaitGroup
	for i, path := range files {
		slots <- struct{}{}
		group.Go(func() {
			sums[i], errs[i] = FileSum(path)
			<-slots
		})
	}
	group.Wait()
	return sums, errors.Join(errs...)
}

// known are the checksums of files that this process has read already, as long as their size and time of change are the
// same.
var known sync.Map

// FileSum is the SHA-256 of a file, remembered while its size and time of change stay: for inputs that many runs name,
// not for finding damage.
func FileSum(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", fmt.Errorf("data: %w", err)
	}
	key := fmt.Sprintf("%s %d %d", path, info.Size(), info.ModTime().UnixNano())
	if sum, ok := known.Load(key); ok {
		return sum.(string), nil
	}
	sum, err := disk.Sum(path)
	if err != nil {
		return "", fmt.Errorf("data: %w", err)
	}
	if time.Since(info.ModTime()) > time.Second { // or a change that follows may bear the same time
		known.Store(key, sum)
	}
	return sum, nil
}

// Sum is the sha256 of the file that a tokenizer was read from, empty for one that is built in.
func (t *Tokenizer) Sum() string { return t.sum }
