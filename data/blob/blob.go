// Package blob reads folders of shards in S3, in Google Cloud Storage and in plain directories by their URLs, with
// gocloud.dev/blob. Linked in, it gives package data those URLs:
//
//	s3://bucket/folder?region=eu-central-1      credentials as the AWS SDK finds them; &anonymous=true asks for none
//	s3://bucket/folder?endpoint=https://host:9000&use_path_style=true
//	gs://bucket/folder                           application default credentials; ?access_id=- asks for none
//	file:///mnt/shards
package blob

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"strings"

	"gocloud.dev/blob"
	_ "gocloud.dev/blob/fileblob" // file://
	_ "gocloud.dev/blob/gcsblob"  // gs://
	_ "gocloud.dev/blob/s3blob"   // s3://

	"headroom/data"
)

func init() { data.OpenFolder = open }

type folder struct{ bucket *blob.Bucket }

func open(ctx context.Context, at string) (data.Folder, error) {
	u, err := url.Parse(at)
	if err != nil {
		return nil, err
	}
	prefix := ""
	switch u.Scheme {
	case "s3", "gs":
		prefix, u.Path = strings.Trim(u.Path, "/"), ""
	case "file":
	default:
		return nil, fmt.Errorf("%s: s3://, gs:// and file:// are known, %s:// is not", at, u.Scheme)
	}
	b, err := blob.OpenBucket(ctx, u.String())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", at, err)
	}
	if prefix != "" {
		b = blob.PrefixedBucket(b, prefix+"/")
	}
	return folder{b}, nil
}

func (f folder) Reader(ctx context.Context, name string) (io.ReadCloser, error) {
	return f.bucket.NewReader(ctx, name, nil)
}

func (f folder) Close() error { return f.bucket.Close() }
