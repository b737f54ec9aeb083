// Package blob reads folders of shards in S3, in Google Cloud Storage and in plain directories by their URLs. Linked
// in, it gives package data those URLs:
//
//	s3://bucket/folder?region=eu-central-1
//	s3://bucket/folder?endpoint=https://host:9000&use_path_style=true    any server that speaks S3
//	s3://bucket/folder?anonymous=true                                    no credentials; profile=NAME takes a file's
//	gs://bucket/folder                                                   access_id=- asks for no credentials
//	file:///mnt/shards
//
// S3's credentials are those of the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN), of the
// shared credentials file, or of the machine's or pod's role. For Google they are an HMAC key in GS_ACCESS_KEY_ID and
// GS_SECRET_ACCESS_KEY, or a token in GOOGLE_OAUTH_ACCESS_TOKEN; a public bucket needs none.
package blob

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"headroom/data"
)

func init() { data.OpenFolder = open }

func open(ctx context.Context, at string) (data.Folder, error) {
	u, err := url.Parse(at)
	if err != nil {
		return nil, err
	}
	switch u.Scheme {
	case "s3":
		if err := known(u, "region", "endpoint", "use_path_style", "anonymous", "profile"); err != nil {
			return nil, err
		}
		return openS3(u)
	case "gs":
		if err := known(u, "access_id"); err != nil {
			return nil, err
		}
		return openGoogle(u)
	case "file":
		return openDirectory(u)
	}
	return nil, fmt.Errorf("%s: s3://, gs:// and file:// are known, %s:// is not", at, u.Scheme)
}

// known refuses parameters of a URL that this package does not read.
func known(u *url.URL, names ...string) error {
	if u.Host == "" {
		return fmt.Errorf("%s names no bucket: %s://bucket/folder", u, u.Scheme)
	}
	for name := range u.Query() {
		if !slices.Contains(names, name) {
			return fmt.Errorf("%s: ?%s= is not known for %s://, only %s", u, name, u.Scheme, strings.Join(names, ", "))
		}
	}
	return nil
}

// object is the name of a file of a URL's folder in its bucket.
func object(u *url.URL, name string) string {
	return strings.TrimPrefix(strings.Trim(u.Path, "/")+"/"+name, "/")
}

// A directory is a folder of this machine.
type directory string

func openDirectory(u *url.URL) (data.Folder, error) {
	if u.Host != "" && u.Host != "localhost" {
		return nil, fmt.Errorf("%s: a directory of this machine has three slashes: file:///mnt/shards", u)
	}
	path := filepath.FromSlash(u.Path)
	if _, err := os.Stat(path); err != nil {
		return nil, err
	}
	return directory(path), nil
}

func (d directory) Reader(_ context.Context, name string) (io.ReadCloser, error) {
	return os.Open(filepath.Join(string(d), filepath.FromSlash(name)))
}

func (directory) Close() error { return nil }
