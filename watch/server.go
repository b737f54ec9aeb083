package watch

import (
	"context"
	_ "embed" // the page
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"time"
)

//go:embed page.html
var page []byte

// Serve shows the runs on a page until ctx ends. / is the page, and /events the server-sent events that it reads.
func (w *Watcher) Serve(ctx context.Context, l net.Listener) error {
	s := &http.Server{Handler: w.handler(l.Addr()), ReadHeaderTimeout: 10 * time.Second,
		BaseContext: func(net.Listener) context.Context { return ctx }}
	stop := context.AfterFunc(ctx, func() { s.Close() })
	defer stop()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("watch: %w", err)
	}
	return nil
}

func (w *Watcher) handler(on net.Addr) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", "text/html; charset=utf-8")
		rw.Header().Set("Content-Security-Policy",
			"default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src data:")
		_, _ = rw.Write(page)
	})
	mux.HandleFunc("GET /events", w.events)
	own, _ := on.(*net.TCPAddr)
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if own != nil && own.IP.IsLoopback() && !local(r.Host) {
			// a web page cannot reach this server through a name of its own
			http.Error(rw, "watch: this page is for this machine: ask for localhost", http.StatusForbidden)
			return
		}
		mux.ServeHTTP(rw, r)
	})
}

// local says that a host is a name or address of the loopback.
func local(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// beat is the time after which a silent stream sends a comment, so that connections stay open.
const beat = 15 * time.Second

// events sends each run whole and then what is new of it, and the names of all runs whenever they change.
func (w *Watcher) events(rw http.ResponseWriter, r *http.Request) {
	rw.Header().Set("Content-Type", "text/event-stream")
	rw.Header().Set("Cache-Control", "no-store")
	out := http.NewResponseController(rw)
	cursors, listed := map[string]cursor{}, "none yet"
	for {
		updates, names, news := w.updates(cursors)
		if now := fmt.Sprint(names); now != listed {
			if send(rw, "runs", append([]string{}, names...)) != nil {
				return
			}
			listed = now
		}
		for _, u := range updates {
			if send(rw, "run", u) != nil {
				return
			}
		}
		if out.Flush() != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-news:
		case <-time.After(beat):
			if _, err := rw.Write([]byte(":\n\n")); err != nil {
				return
			}
		}
	}
}

func send(rw http.ResponseWriter, event string, v any) error {
	text, err := json.Marshal(v)
	if err == nil {
		_, err = fmt.Fprintf(rw, "event: %s\ndata: %s\n\n", event, text)
	}
	return err
}
