package serve

import (
	"embed"
	"net/http"
)

//go:embed page
var pageFiles embed.FS

// page serves the page at / and the files that it loads from /page/. The page loads nothing from other hosts.
func (s *Server) page(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; "+
		"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-cache")
	name := r.PathValue("file")
	if name == "" {
		name = "index.html"
	}
	http.ServeFileFS(w, r, pageFiles, "page/"+name)
}
