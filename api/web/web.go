// Package web is the page that a browser is shown: plain HTML, CSS and JavaScript modules, embedded as they are written, with no
// build step and nothing fetched from anywhere else, so that it works where there is no internet.
//
// What the page knows comes from /ui/stream (package api), what it changes goes to the same paths as everything else's changes.
// It makes all elements by script from values, never from text that is parsed as HTML, and its policy (Policy) lets a browser
// run nothing but the files of this package.
package web

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"mime"
	"net/netip"
	"path"
	"strings"
	"sync"
)

//go:embed assets
var assets embed.FS

// File is one file of the page, in both forms that it may be sent in.
type File struct {
	Body   []byte
	Zipped []byte // gzip of Body
	Type   string // Content-Type
	ETag   string // quoted
}

// Lookup finds a file by its name below /ui/; "" is the page itself.
func Lookup(name string) (File, bool) {
	if name == "" {
		name = "index.html"
	}
	f, ok := files()[name]
	return f, ok
}

var files = sync.OnceValue(func() map[string]File {
	all := map[string]File{}
	_ = fs.WalkDir(assets, "assets", func(p string, d fs.DirEntry, _ error) error { // what is embedded can be read
		if !d.IsDir() {
			body, _ := assets.ReadFile(p)
			all[strings.TrimPrefix(p, "assets/")] = newFile(p, body)
		}
		return nil
	})
	return all
})

func newFile(name string, body []byte) File {
	var zipped bytes.Buffer
	z, _ := gzip.NewWriterLevel(&zipped, gzip.BestCompression) // the level is one of gzip's
	_, _ = z.Write(body)                                       // a buffer takes everything
	_ = z.Close()
	sum := sha256.Sum256(body)
	return File{body, zipped.Bytes(), kind(path.Ext(name)), `"` + hex.EncodeToString(sum[:8]) + `"`}
}

// kind does not ask the host's own tables, which may say something else of a script than a browser will run.
func kind(ext string) string {
	switch ext {
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	}
	return mime.TypeByExtension(ext)
}

// Policy is the page's Content-Security-Policy (W3C, level 3): nothing but its own files, no inline script or style, no
// text that becomes script or markup, in no frame. It may listen to its own host and to the others, "http://host:port".
func Policy(others []string) string {
	connect := "connect-src 'self'"
	for _, o := range others {
		if safe(o) {
			connect += " " + o
		}
	}
	return "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; " + connect +
		"; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
}

// safe reports whether the origin can stand in a policy: a name or IPv4 address with a port. The policy's grammar has no IPv6 addresses.
func safe(origin string) bool {
	_, host, ok := strings.Cut(origin, "://")
	name, _, both := strings.Cut(host, ":")
	if ip, err := netip.ParseAddr(name); err == nil && !ip.Is4() {
		return false
	}
	return ok && both && name != "" && !strings.ContainsFunc(host, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && r != '.' && r != '-' && r != ':'
	}) && strings.Count(host, ":") == 1
}
