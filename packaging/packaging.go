// Package packaging holds the files that a package or a deployment installs beside the binary: systemd's units, the rule by
// which the agent may start PostgreSQL's, and what keeps the distribution's upgrades from restarting either. They lie below
// root as they will lie on a host.
package packaging

import (
	"embed"
	"io/fs"
	"strings"
)

// Binary is where the units expect the program.
const Binary = "/usr/bin/standfast"

// Package is what .deb and .rpm are called.
const Package = "standfast"

// Unit and ServerUnit are the services: the agent's, and PostgreSQL's, which only the agent starts.
const (
	Unit       = "standfast.service"
	ServerUnit = "standfast-postgres.service"
)

//go:embed root
var root embed.FS

// File is one file to install, owned by root, with mode 0644.
type File struct {
	Path string // absolute
	Text []byte
}

// Files lists them by path.
func Files() []File {
	var out []File
	err := fs.WalkDir(root, "root", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := root.ReadFile(path)
		out = append(out, File{strings.TrimPrefix(path, "root"), text})
		return err
	})
	if err != nil {
		panic(err) // what is embedded can be read
	}
	return out
}
