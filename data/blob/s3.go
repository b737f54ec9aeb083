package blob

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"headroom/data"
)

// bucket is a folder on a server that speaks S3.
type bucket struct {
	server minio.Core
	url    *url.URL
}

func openS3(u *url.URL) (data.Folder, error) {
	q := u.Query()
	at := cmp.Or(q.Get("endpoint"), os.Getenv("AWS_ENDPOINT_URL_S3"), os.Getenv("AWS_ENDPOINT_URL"),
		"https://s3.amazonaws.com")
	o := minio.Options{
		Creds:  whoever(q.Get("profile")),
		Region: cmp.Or(q.Get("region"), os.Getenv("AWS_REGION"), os.Getenv("AWS_DEFAULT_REGION")),
	}
	if q.Get("anonymous") == "true" {
		o.Creds = credentials.NewStatic("", "", "", credentials.SignatureAnonymous)
	}
	if q.Get("use_path_style") == "true" {
		o.BucketLookup = minio.BucketLookupPath
	}
	return connect(u, at, o)
}

// whoever returns the credentials of the environment, of a profile of the shared file, or of the machine's role.
func whoever(profile string) *credentials.Credentials {
	role := &credentials.IAM{Client: &http.Client{Timeout: 5 * time.Second}}
	file := &credentials.FileAWSCredentials{Profile: profile}
	if profile != "" {
		return credentials.New(file)
	}
	return credentials.NewChainCredentials([]credentials.Provider{&credentials.EnvAWS{}, file, role})
}

func connect(u *url.URL, endpoint string, o minio.Options) (data.Folder, error) {
	e, err := url.Parse(endpoint)
	if err != nil || e.Host == "" || e.Scheme != "http" && e.Scheme != "https" {
		return nil, fmt.Errorf("%s: the endpoint must be a URL such as https://host:9000, not %q", u, endpoint)
	}
	o.Secure = e.Scheme == "https"
	server, err := minio.NewCore(e.Host, &o)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", u, err)
	}
	return bucket{*server, u}, nil
}

// Reader reads an object. Requests that fail for the moment are repeated a few times, with growing pauses.
func (b bucket) Reader(ctx context.Context, name string) (io.ReadCloser, error) {
	r, _, _, err := b.server.GetObject(ctx, b.url.Host, object(b.url, name), minio.GetObjectOptions{})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", object(b.url, name), err)
	}
	return r, nil
}

func (bucket) Close() error { return nil }
