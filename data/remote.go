package data

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"headroom/internal/disk"
)

// A Folder is a folder of shards that is not on this machine.
type Folder interface {
	// Reader reads one file of the folder.
	Reader(ctx context.Context, name string) (io.ReadCloser, error)
	Close() error
}

// OpenFolder opens the folder of a URL, such as s3://bucket/shards. It is nil where no package for that is linked in:
// data/blob sets it.
var OpenFolder func(ctx context.Context, url string) (Folder, error)

// IsURL says that a path is a URL.
func IsURL(path string) bool { return strings.Contains(path, "://") }

// A remote fetches the shards of a folder to this machine, one after the other, ahead of their readers. A shard is kept
// under its checksum in the user's cache, so that it is fetched once, whatever run or URL asks for it, and whole or not
// at all.
type remote struct {
	url    string
	folder Folder
	cancel context.CancelFunc
	done   sync.WaitGroup
	shards []arrival
}

// An arrival is closed when its shard has been fetched, or could not be.
type arrival struct {
	here chan struct{}
	err  error
}

// openRemote reads the meta.json of a folder, without which a shard's length is not known ahead, and starts to fetch.
func openRemote(url string, o OpenOptions) (*Tokens, error) {
	if OpenFolder == nil {
		return nil, fmt.Errorf("data: %s: this program reads files only", url)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil, fmt.Errorf("data: %s is kept in the user's cache: %w", url, err)
	}
	dir := filepath.Join(cache, "headroom", "shards")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("data: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	folder, err := OpenFolder(ctx, url)
	if err != nil {
		cancel()
		return nil, fmt.Errorf("data: %w", err)
	}
	r := &remote{url: url, folder: folder, cancel: cancel}
	t, err := r.open(ctx, dir, o)
	if err != nil {
		r.close()
		return nil, err
	}
	return t, nil
}

func (r *remote) open(ctx context.Context, dir string, o OpenOptions) (*Tokens, error) {
	f, err := r.folder.Reader(ctx, metaName)
	if err != nil {
		return nil, fmt.Errorf("data: %s has no %s that can be read (`headroom prepare` writes one beside its shards): %w",
			r.url, metaName, err)
	}
	text, err := io.ReadAll(io.LimitReader(f, 64<<20))
	f.Close()
	if err != nil {
		return nil, fmt.Errorf("data: %s/%s: %w", r.url, metaName, err)
	}
	meta, err := parseMeta(r.url+"/"+metaName, text)
	if err != nil {
		return nil, err
	}
	t, err := newTokens(r.url, meta, o)
	if err != nil {
		return nil, err
	}
	t.remote, t.parts, r.shards = r, make([]part, len(meta.Shards)), make([]arrival, len(meta.Shards))
	for i, s := range meta.Shards {
		if sum, err := hex.DecodeString(s.SHA256); err != nil || len(sum) != sha256.Size || s.Tokens < 1 {
			return nil, fmt.Errorf("data: %s: %s names no checksum or no length of %s", r.url, metaName, s.File)
		}
		r.shards[i].here = make(chan struct{})
		t.ends = append(t.ends, t.Len()+s.Tokens)
	}
	r.done.Go(func() {
		for i, s := range meta.Shards {
			r.shards[i].err = r.bring(ctx, &t.parts[i], s, filepath.Join(dir, s.SHA256+".bin"), i, len(meta.Shards))
			close(r.shards[i].here)
		}
	})
	return t, nil
}

// bring fetches a shard unless the cache has it, and maps it.
func (r *remote) bring(ctx context.Context, p *part, s Shard, path string, i, of int) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if _, err := os.Stat(path); err != nil {
		slog.Info("fetching", "shard", r.url+"/"+s.File, "number", i+1, "of", of)
		cut, err := r.fetch(ctx, s, path)
		for again := 0; cut && again < 2 && ctx.Err() == nil; again++ {
			slog.Warn("fetching again: the connection was cut", "shard", r.url+"/"+s.File, "reason", err)
			cut, err = r.fetch(ctx, s, path)
		}
		if err != nil {
			return fmt.Errorf("data: %s/%s: %w", r.url, s.File, err)
		}
	}
	mapped, err := mapShard(path, false)
	if err != nil {
		return err
	}
	if mapped.len() != s.Tokens {
		return fmt.Errorf("data: %s/%s: holds %d tokens, %s says %d", r.url, s.File, mapped.len(), metaName, s.Tokens)
	}
	*p = mapped
	return nil
}

// fetch copies a shard into the cache. cut says that the connection ended before the whole shard had come.
func (r *remote) fetch(ctx context.Context, s Shard, path string) (cut bool, err error) {
	from, err := r.folder.Reader(ctx, s.File)
	if err != nil {
		return false, err
	}
	defer from.Close()
	err = disk.Write(path, func(to io.Writer) error {
		sum := sha256.New()
		if _, err := io.Copy(io.MultiWriter(to, sum), from); err != nil {
			cut = errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, new(net.Error))
			return err
		}
		if got := hex.EncodeToString(sum.Sum(nil)); got != s.SHA256 {
			return fmt.Errorf("checksum %s, %s says %s", got, metaName, s.SHA256)
		}
		return nil
	})
	return cut, err
}

// ready waits until shard i is here.
func (t *Tokens) ready(i int) error {
	if t.remote == nil {
		return nil
	}
	<-t.remote.shards[i].here
	return t.remote.shards[i].err
}

// close cancels the fetch that is running.
func (r *remote) close() error {
	r.cancel()
	r.done.Wait()
	return r.folder.Close()
}
