// Package bundle makes one file of all that a deployment needs where nothing can be fetched, and reads it: a tar with the packages of
// the hosts' distribution and all that these depend on, the program, and checksums of everything.
//
//	manifest.json        what it is for
//	standfast            the program
//	SHA256SUMS           of these two, and of
//	packages/SHA256SUMS  of all below packages
//	packages/Packages    the index that makes the directory a repository of apt's ("flat", sources.list(5))
//	packages/*.deb
package bundle

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// The names of a bundle's parts.
const (
	manifestName = "manifest.json"
	programName  = "standfast"
	sumsName     = "SHA256SUMS"
	indexName    = "Packages"

	// Dir is where the packages lie in it, with their own SHA256SUMS.
	Dir = "packages"
)

// Manifest says what a bundle holds.
type Manifest struct {
	System   string    `json:"system"`   // such as debian-13
	Arch     string    `json:"arch"`     // as Go calls it
	Postgres string    `json:"postgres"` // major version
	Packages []string  `json:"packages"` // that were asked for; what they need is there too
	Version  string    `json:"version"`  // of Standfast
	Made     time.Time `json:"made"`
}

// Fits reports why hosts of a system, with a version of PostgreSQL and these packages, can't be served from the bundle; nil: they can.
func (m Manifest) Fits(system, arch, postgres string, packages []string) error {
	switch {
	case m.System != system || m.Arch != arch:
		return fmt.Errorf("the bundle is for %s on %s, not for %s on %s: make one with standfast bundle --system %s", m.System, m.Arch, system, arch, system)
	case m.Postgres != postgres:
		return fmt.Errorf("the bundle has PostgreSQL %s, not %s: make another, with the same cluster.yml", m.Postgres, postgres)
	}
	var lacking []string
	for _, p := range packages {
		if !slices.Contains(m.Packages, p) {
			lacking = append(lacking, p)
		}
	}
	if lacking != nil {
		return fmt.Errorf("the bundle was made without %s: make another, with the same cluster.yml", strings.Join(lacking, ", "))
	}
	return nil
}

// Bundle is one that was read and found whole.
type Bundle struct {
	Manifest
	Path string // the file
	Sum  string // SHA-256 of packages/SHA256SUMS, in hexadecimal: what is to arrive on a host
}
