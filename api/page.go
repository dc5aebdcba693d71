package api

import (
	"net/http"
	"strings"

	"standfast/api/web"
)

// page serves the web page's files, and reports whether the path is one of them.
func (h *health) page(w http.ResponseWriter, r *http.Request, path string) bool {
	if path != "/ui" && !strings.HasPrefix(path, "/ui/") {
		return false
	}
	f, ok := web.Lookup(strings.TrimPrefix(strings.TrimPrefix(path, "/ui"), "/"))
	if !ok {
		return false
	}
	header := w.Header()
	header.Set("Content-Security-Policy", web.Policy(origins(h.boards.source.Snapshot())))
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("Cross-Origin-Opener-Policy", "same-origin")
	header.Set("Cross-Origin-Resource-Policy", "same-origin")
	header.Set("Cache-Control", "no-cache") // asked for again each time: a member that was upgraded has another page
	header.Set("Vary", "Accept-Encoding")
	header.Set("ETag", f.ETag)
	if r.Header.Get("If-None-Match") == f.ETag {
		h.tally.count(http.StatusNotModified)
		w.WriteHeader(http.StatusNotModified)
		return true
	}
	body := f.Body
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		body = f.Zipped
		header.Set("Content-Encoding", "gzip")
	}
	h.write(w, r, newAnswer(http.StatusOK, []string{f.Type}, body))
	return true
}

// origins are where the members' own pages come from, by the addresses that they are configured with.
func origins(st *Status) []string {
	var all []string
	if st == nil {
		return nil
	}
	for i := range st.Members {
		if m := &st.Members[i]; m.API != "" {
			all = append(all, "http://"+m.API)
		}
		if m := &st.Members[i]; m.Admin != "" {
			all = append(all, "https://"+m.Admin)
		}
	}
	return all
}
