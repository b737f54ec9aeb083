package blob

import (
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

// google is a folder that is read over plain HTTPS: a public one, or with a token.
type google struct {
	base, token string
	url         *url.URL
}

func openGoogle(u *url.URL) (data.Folder, error) {
	base := "https://storage.googleapis.com"
	if host := os.Getenv("STORAGE_EMULATOR_HOST"); host != "" {
		base = "http://" + host
	}
	anonymous := u.Query().Get("access_id") == "-"
	id, secret := os.Getenv("GS_ACCESS_KEY_ID"), os.Getenv("GS_SECRET_ACCESS_KEY")
	if !anonymous && id != "" && secret != "" {
		return connect(u, base, minio.Options{Creds: credentials.NewStaticV4(id, secret, ""), Region: "auto",
			BucketLookup: minio.BucketLookupPath})
	}
	g := google{base: base, url: u}
	if !anonymous {
		g.token = os.Getenv("GOOGLE_OAUTH_ACCESS_TOKEN")
	}
	return g, nil
}

// tries is the most attempts where a server cannot answer, and pause the wait before the second.
const tries = 4

var pause = time.Second

func (g google) Reader(ctx context.Context, name string) (io.ReadCloser, error) {
	wait := pause
	for try := 1; ; try++ {
		r, later, err := g.get(ctx, object(g.url, name))
		if err == nil || !later || try == tries {
			return r, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(wait):
			wait *= 2
		}
	}
}

// get makes one request. later says that another attempt may succeed.
func (g google) get(ctx context.Context, name string) (r io.ReadCloser, later bool, err error) {
	at := g.base + "/" + (&url.URL{Path: g.url.Host + "/" + name}).EscapedPath()
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return nil, false, err
	}
	if g.token != "" {
		q.Header.Set("Authorization", "Bearer "+g.token)
	}
	a, err := http.DefaultClient.Do(q)
	if err != nil {
		return nil, ctx.Err() == nil, err
	}
	switch {
	case a.StatusCode == http.StatusOK:
		return a.Body, false, nil
	case a.StatusCode == http.StatusUnauthorized || a.StatusCode == http.StatusForbidden:
		a.Body.Close()
		why := "it is not public"
		if g.token != "" {
			why = "the token was refused"
		}
		return nil, false, fmt.Errorf(
			"%s: %s, %s: set GS_ACCESS_KEY_ID and GS_SECRET_ACCESS_KEY to an HMAC key, or GOOGLE_OAUTH_ACCESS_TOKEN to a token",
			name, why, a.Status)
	}
	a.Body.Close()
	return nil, a.StatusCode >= 500 || a.StatusCode == http.StatusTooManyRequests, fmt.Errorf("%s: %s", name, a.Status)
}

func (google) Close() error { return nil }
