package blob

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"headroom/data"
)

// shards prepares a folder of three shards and returns it with its tokens.
func shards(t *testing.T) (dir string, want []int32) {
	t.Helper()
	text := filepath.Join(t.TempDir(), "text.txt")
	if err := os.WriteFile(text, bytes.Repeat([]byte("the quick brown fox jumps over the lazy dog. "), 60),
		0o644); err != nil {
		t.Fatal(err)
	}
	dir = filepath.Join(t.TempDir(), "shards")
	if _, err := data.Prepare(t.Context(), data.Options{Inputs: []string{text}, Out: dir,
		Tokenizer: "bytes", ShardTokens: 1000}); err != nil {
		t.Fatal(err)
	}
	return dir, read(t, dir)
}

func read(t *testing.T, path string) []int32 {
	t.Helper()
	tokens, err := data.Open(path, data.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer tokens.Close()
	all := make([]int32, tokens.Len())
	if err := tokens.Read(all, 0); err != nil {
		t.Fatal(err)
	}
	if err := tokens.Verify(); err != nil {
		t.Fatal(err)
	}
	return all
}

// TestFolders reads the same tokens from a directory, from a server that speaks S3 and from one that speaks GCS; then
// from the cache alone.
func TestFolders(t *testing.T) {
	dir, want := shards(t)
	var asked []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.Path)
		name, ok := strings.CutPrefix(r.URL.Path, "/bucket/some/folder/")
		if !ok {
			http.NotFound(w, r)
			return
		}
		http.ServeFile(w, r, filepath.Join(dir, filepath.Base(name)))
	}))
	defer server.Close()
	t.Setenv("STORAGE_EMULATOR_HOST", strings.TrimPrefix(server.URL, "http://"))
	for _, url := range []string{
		"file://" + dir,
		"s3://bucket/some/folder?region=us-east-1&anonymous=true&use_path_style=true&endpoint=" + server.URL,
		"gs://bucket/some/folder?access_id=-",
	} {
		t.Setenv("XDG_CACHE_HOME", t.TempDir())
		asked = nil
		if got := read(t, url); !slices.Equal(got, want) {
			t.Errorf("%s: other tokens", url)
		}
		if !strings.HasPrefix(url, "file") && len(asked) != 4 {
			t.Errorf("%s: asked for %v", url, asked)
		}
		if got := read(t, url); !slices.Equal(got, want) || !strings.HasPrefix(url, "file") && len(asked) != 5 {
			// meta.json again
			t.Errorf("%s: asked for %v the second time", url, asked)
		}
	}
}

// TestDamage: a shard that is not what meta.json says is no data, and stays out of the cache.
func TestDamage(t *testing.T) {
	dir, _ := shards(t)
	cache := t.TempDir()
	t.Setenv("XDG_CACHE_HOME", cache)
	files, err := filepath.Glob(filepath.Join(dir, "*.bin"))
	if err != nil || len(files) != 3 {
		t.Fatal(files, err)
	}
	raw, err := os.ReadFile(files[1])
	if err != nil {
		t.Fatal(err)
	}
	raw[len(raw)-1] ^= 1
	if err := os.WriteFile(files[1], raw, 0o644); err != nil {
		t.Fatal(err)
	}
	tokens, err := data.Open("file://"+dir, data.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer tokens.Close()
	if err := tokens.Read(make([]int32, 10), 0); err != nil {
		t.Error(err)
	}
	if err := tokens.Read(make([]int32, 10), 1500); err == nil || !strings.Contains(err.Error(), "checksum") {
		t.Errorf("a damaged shard: %v", err)
	}
	if kept, _ := filepath.Glob(filepath.Join(cache, "headroom", "shards", "*")); len(kept) > 2 {
		t.Errorf("the cache has %v", kept)
	}
}

// TestRetries: a server that is busy once, and a connection that is cut in the middle of a shard, cost no run.
func TestRetries(t *testing.T) {
	defer func(before time.Duration) { pause = before }(pause)
	pause = time.Millisecond
	dir, want := shards(t)
	asked := map[string]int{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := filepath.Base(r.URL.Path)
		asked[name]++
		switch raw, err := os.ReadFile(filepath.Join(dir, name)); {
		case err != nil:
			http.NotFound(w, r)
		case asked[name] == 1 && name == "meta.json":
			http.Error(w, "busy", http.StatusServiceUnavailable)
		case asked[name] == 1:
			w.Header().Set("Content-Length", strconv.Itoa(len(raw)))
			w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
			w.Write(raw[:len(raw)/2])
		default:
			w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
			w.Write(raw)
		}
	}))
	defer server.Close()
	t.Setenv("STORAGE_EMULATOR_HOST", strings.TrimPrefix(server.URL, "http://"))
	for _, url := range []string{
		"gs://bucket/some/folder",
		"s3://bucket/some/folder?region=us-east-1&anonymous=true&use_path_style=true&endpoint=" + server.URL,
	} {
		t.Setenv("XDG_CACHE_HOME", t.TempDir())
		clear(asked)
		if got := read(t, url); !slices.Equal(got, want) {
			t.Errorf("%s: other tokens", url)
		}
		for name, n := range asked {
			if n != 2 {
				t.Errorf("%s: asked %d times for %s", url, n, name)
			}
		}
	}
}

// TestCredentials: requests are signed by the key of the environment, or carry its token.
func TestCredentials(t *testing.T) {
	var said string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		said = r.Header.Get("Authorization")
		w.WriteHeader(http.StatusForbidden)
	}))
	defer server.Close()
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	t.Setenv("STORAGE_EMULATOR_HOST", strings.TrimPrefix(server.URL, "http://"))
	s3 := "s3://bucket/folder?region=eu-central-1&use_path_style=true&endpoint=" + server.URL
	for _, c := range []struct {
		url       string
		env       map[string]string
		said, err string
	}{
		{s3, map[string]string{"AWS_ACCESS_KEY_ID": "someone", "AWS_SECRET_ACCESS_KEY": "secret"},
			"AWS4-HMAC-SHA256 Credential=someone/", "Access Denied"},
		{"gs://bucket/folder", map[string]string{"GS_ACCESS_KEY_ID": "GOOG1", "GS_SECRET_ACCESS_KEY": "secret"},
			"AWS4-HMAC-SHA256 Credential=GOOG1/", "Access Denied"},
		{"gs://bucket/folder", map[string]string{"GOOGLE_OAUTH_ACCESS_TOKEN": "ya29"}, "Bearer ya29",
			"the token was refused, 403 Forbidden"},
		{"gs://bucket/folder?access_id=-", map[string]string{"GOOGLE_OAUTH_ACCESS_TOKEN": "ya29"}, "",
			"it is not public, 403 Forbidden: set GS_ACCESS_KEY_ID"},
	} {
		t.Run(c.url, func(t *testing.T) {
			for k, v := range c.env {
				t.Setenv(k, v)
			}
			_, err := data.Open(c.url, data.OpenOptions{})
			if err == nil || !strings.Contains(err.Error(), c.err) || !strings.HasPrefix(said, c.said) ||
				(c.said == "") != (said == "") {
				t.Errorf("%v, %q; want %q, %q", err, said, c.err, c.said)
			}
		})
	}
}

func TestRefuses(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	for url, want := range map[string]string{
		"ftp://host/shards":               "s3://, gs:// and file:// are known, ftp:// is not",
		"s3://bucket/x?regoin=eu":         "?regoin= is not known for s3://, only region, endpoint",
		"s3:///folder":                    "names no bucket: s3://bucket/folder",
		"s3://b/x?endpoint=host:9000":     "the endpoint must be a URL such as https://host:9000, not",
		"file://shards":                   "a directory of this machine has three slashes",
		"file://" + t.TempDir():           "has no meta.json that can be read",
		"file://" + t.TempDir() + "/none": "no such file or directory",
	} {
		if tokens, err := data.Open(url, data.OpenOptions{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, %v, want %q", url, tokens, err, want)
		}
	}
}
