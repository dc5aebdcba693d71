// Package dossier collects what one host gives to a supporter: its member's file, PostgreSQL's settings, the ends of logs, and how the host and
// its services are. It only reads. Every text goes through package redact on the host that it comes from, so that no secret leaves it.
package dossier

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"standfast/certs"
	"standfast/config"
	"standfast/internal/redact"
)

// Bound is how long collecting takes at most. What has not come by then, of a file system that hangs, is told as lacking.
const Bound = 3 * time.Second

// Dossier is what a host gives. Its JSON is the answer to GET /support; keys are only ever added.
type Dossier struct {
	Member string   `json:"member"`
	Files  []File   `json:"files"`
	Lacks  []string `json:"lacks"` // what could not be had and why, sentences
}

// File is one text, redacted.
type File struct {
	Name string `json:"name"` // slash-separated, such as "logs/postgresql.log"
	Text string `json:"text"`
}

// Host says where things are on it.
type Host struct {
	Node    config.Node
	File    string        // the member's file; "": not known
	Version string        // of standfast
	Log     func() string // the agent's own last lines; nil: not asked
	Journal bool          // read systemd's journal: not for an agent, which may not
}

// part is one thing to collect. It writes nothing that is shared, so that one which hangs can be given up.
type part struct {
	what string
	get  func(ctx context.Context) ([]File, error)
}

type answer struct {
	what  string
	files []File
	err   error
}

// Collect asks everything at once and returns within Bound.
func (h Host) Collect(ctx context.Context) Dossier {
	ctx, cancel := context.WithTimeout(ctx, Bound)
	defer cancel()
	d := Dossier{Member: h.Node.Name, Files: []File{}, Lacks: []string{}}
	red := redact.New(h.Secrets()...)
	parts := h.parts(red)
	answers, left := make(chan answer, len(parts)), map[string]bool{}
	for _, p := range parts {
		left[p.what] = true
		go func() {
			files, err := p.get(ctx)
			answers <- answer{p.what, files, err}
		}()
	}
	for len(left) > 0 && ctx.Err() == nil {
		select {
		case a := <-answers:
			delete(left, a.what)
			d.Files = append(d.Files, a.files...)
			if a.err != nil {
				d.Lacks = append(d.Lacks, red.Text(fmt.Sprintf("%s: %v", a.what, a.err)))
			}
		case <-ctx.Done():
		}
	}
	for what := range left {
		d.Lacks = append(d.Lacks, fmt.Sprintf("%s: no answer within %v", what, Bound))
	}
	slices.SortFunc(d.Files, func(a, b File) int { return cmp.Compare(a.Name, b.Name) })
	slices.Sort(d.Lacks)
	return d
}

// Secrets are the cluster's own on this host, so that they can be looked for. What this user may not read can't get into the dossier
// either, but for what others have written down.
func (h Host) Secrets() []string {
	paths := []string{h.Node.TokenFile, h.Node.SecretFile, certs.In(h.Node.TLSDir).Key}
	more, _ := filepath.Glob(filepath.Join(h.Node.StateDir, "passwords", "*")) // the pattern is sound
	var out []string
	for _, p := range append(paths, more...) {
		if text, err := os.ReadFile(p); err == nil {
			out = append(out, string(text))
		}
	}
	return out
}

// parts are all that is collected.
func (h Host) parts(red redact.Redactor) []part {
	logs := filepath.Join(h.Node.StateDir, "log")
	out := []part{
		{"the member's file", func(context.Context) ([]File, error) { return yamlFile("config/standfast.yml", h.File, red) }},
		{"the configuration as this member saw it last", func(context.Context) ([]File, error) { return lastAgreed(h.Node.StateDir, red) }},
		{"PostgreSQL's settings", func(context.Context) ([]File, error) { return settings(h.Node.Postgres.DataDir, red) }},
		{"PostgreSQL's log", func(context.Context) ([]File, error) {
			return logEnds(red, filepath.Join(logs, "postgresql.log.1"), filepath.Join(logs, "postgresql.log"))
		}},
		{"the log of PostgreSQL's own collector", func(context.Context) ([]File, error) { return collected(h.Node.Postgres.DataDir, red) }},
		{"etcd's log", func(context.Context) ([]File, error) { return logEnds(red, filepath.Join(logs, "etcd.log")) }},
		{"the version", func(context.Context) ([]File, error) {
			return []File{{"host/standfast.txt", "standfast " + h.Version + "\n"}}, nil
		}},
	}
	if h.Log != nil {
		out = append(out, part{"the agent's log", func(context.Context) ([]File, error) {
			return []File{{"logs/agent.log", red.Log(h.Log())}}, nil
		}})
	}
	for _, c := range h.commands() {
		out = append(out, part{strings.Join(c.words[:min(len(c.words), 2)], " ") + " (host/" + c.file + ")", func(ctx context.Context) ([]File, error) { return c.run(ctx, red) }})
	}
	return out
}
