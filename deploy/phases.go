package deploy

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"standfast/cluster"
	"standfast/config"
	"standfast/packaging"
)

func (s *Site) phases() []phase {
	return []phase{s.install(), s.found(), s.replicate(), s.serve(), s.prove()}
}

// install is phase 1: everything that a member needs is there, and nothing runs yet.
func (s *Site) install() phase {
	p := phase{number: 1, title: "install", hosts: map[string][]step{}}
	for _, h := range s.Deployment.Members {
		m := s.Machines[h.Name]
		var list []step
		if h.Kind == cluster.Witness {
			if list = append(list, s.user(m)); len(s.Deployment.PackagesOf(h.Kind)) > 0 {
				list = append(list, s.extras(m, h))
			}
		} else {
			list = append(list, s.server(h)...)
		}
		p.hosts[h.Name] = append(list, files("install standfast", m, s.Program), s.services(m))
	}
	p.checks = []check{{name: "every host runs the same versions", try: s.sameVersions}}
	return p
}

func (s *Site) user(m Machine) step {
	const name = "postgres" // whom the units run as
	return step{
		name: "make the user " + name,
		done: func(ctx context.Context) (bool, error) { return m.HasUser(ctx, name) },
		do:   func(ctx context.Context) error { return m.AddUser(ctx, name) },
	}
}

func (s *Site) services(m Machine) step {
	var all []File
	for _, f := range packaging.Files() {
		all = append(all, File{Path: f.Path, Text: f.Text, Mode: 0o644, Owner: "root"})
	}
	put := files("install its services", m, all...)
	return step{
		name: put.name, diff: put.diff,
		done: func(ctx context.Context) (bool, error) {
			done, err := put.done(ctx)
			if err != nil || !done {
				return false, err
			}
			u, err := m.Unit(ctx, packaging.Unit)
			return !u.Stale, err
		},
		do: func(ctx context.Context) error {
			if err := put.do(ctx); err != nil {
				return err
			}
			return m.Reload(ctx)
		},
	}
}

// files brings files to be as they are given; what is so already is left alone.
func files(name string, m Machine, all ...File) step {
	differing := func(ctx context.Context) (list []File, there map[string]FileState, err error) {
		var paths []string
		for _, f := range all {
			paths = append(paths, f.Path)
		}
		if there, err = m.Files(ctx, paths...); err != nil {
			return nil, nil, err
		}
		return slices.DeleteFunc(slices.Clone(all), func(f File) bool {
			is, ok := there[f.Path]
			return ok && (f.Keep || is.Sum == sum(f.Text)) && is.Mode == f.Mode && is.Owner == f.Owner
		}), there, nil
	}
	return step{
		name: name,
		done: func(ctx context.Context) (bool, error) {
			list, _, err := differing(ctx)
			return len(list) == 0, err
		},
		diff: func(ctx context.Context) ([]Diff, error) {
			list, there, err := differing(ctx)
			if err != nil {
				return nil, err
			}
			return differences(ctx, m, there, list)
		},
		do: func(ctx context.Context) error {
			list, _, err := differing(ctx)
			if err != nil {
				return err
			}
			for _, f := range list {
				if err := m.Write(ctx, f); err != nil {
					return fmt.Errorf("write %s: %w", f.Path, err)
				}
			}
			return nil
		},
	}
}

func sum(text []byte) string {
	b := sha256.Sum256(text)
	return hex.EncodeToString(b[:])
}

func (s *Site) sameVersions(ctx context.Context) (string, error) {
	var postgres, program string
	for _, h := range s.Deployment.Members {
		m := s.Machines[h.Name]
		v, err := m.Version(ctx, packaging.Binary)
		if err != nil {
			return "", fmt.Errorf("%s: %w", h.Name, err)
		}
		if program != "" && v != program {
			return "", fmt.Errorf("%s has %s, others %s", h.Name, v, program)
		}
		program = v
		if h.Kind == cluster.Witness {
			continue
		}
		if v, err = m.Version(ctx, filepath.Join(s.Systems[h.Name].Programs(s.Postgres), "postgres")); err != nil {
			return "", fmt.Errorf("%s: %w", h.Name, err)
		}
		if postgres != "" && v != postgres {
			return "", fmt.Errorf("%s has %s, others %s", h.Name, v, postgres)
		}
		postgres = v
	}
	return postgres + "; " + program, nil
}

// found is phase 2: every member has its configuration and runs, and one of them takes writes.
func (s *Site) found() phase {
	p := phase{number: 2, title: "configure and found", hosts: map[string][]step{}}
	p.first = []step{s.secrets()}
	for _, h := range s.Deployment.Members {
		p.hosts[h.Name] = []step{s.settings(h), s.start(h)}
		p.last = append(p.last, s.takeBack(h)...)
		p.last = append(append(p.last, s.renew(h)), s.programs(h)...)
	}
	p.checks = []check{{name: "a primary takes writes", try: s.takesWrites}, {name: "PostgreSQL's parameters are in force", try: s.parameters}}
	return p
}

func (s *Site) secrets() step {
	return step{
		name: "make certificates and secrets in " + s.Deployment.Secrets,
		done: func(context.Context) (bool, error) { return hasSecrets(s.Deployment) },
		do:   func(context.Context) error { return makeSecrets(s.Deployment, s.Now()) },
	}
}

// settings puts a member's configuration and secrets there.
func (s *Site) settings(h config.Host) step {
	m := s.Machines[h.Name]
	with := func(use func(step) error) error {
		list, err := memberFiles(s.Deployment, h.Name)
		if err != nil {
			return err
		}
		return use(files("", m, list...))
	}
	return step{
		name: "put its configuration and secrets there",
		done: func(ctx context.Context) (done bool, err error) {
			if made, err := hasSecrets(s.Deployment); err != nil || !made {
				return false, err
			}
			err = with(func(st step) error { done, err = st.done(ctx); return err })
			return done, err
		},
		do: func(ctx context.Context) error { return with(func(st step) error { return st.do(ctx) }) },
		diff: func(ctx context.Context) (list []Diff, err error) {
			if made, err := hasSecrets(s.Deployment); err != nil || !made {
				return s.firstSettings(h), err
			}
			err = with(func(st step) error { list, err = st.diff(ctx); return err })
			return list, err
		},
	}
}

// firstSettings is what can be told of them before there are secrets.
func (s *Site) firstSettings(h config.Host) []Diff {
	text, err := s.Deployment.RenderNode(h.Name)
	if err != nil {
		return nil // the step itself says why
	}
	return []Diff{{config.DefaultPath, unified(nil, text)}}
}

func (s *Site) start(h config.Host) step {
	m := s.Machines[h.Name]
	return step{
		name: "start standfast",
		done: func(ctx context.Context) (bool, error) {
			u, err := m.Unit(ctx, packaging.Unit)
			return u.Active && u.Enabled, err
		},
		do: func(ctx context.Context) error {
			newest, err := s.newest(ctx, h)
			if err != nil {
				return err
			}
			return m.Start(ctx, packaging.Unit, newest)
		},
	}
}

// renew starts an agent again whose files are newer than itself: one member after another, and the next only when all is well.
// PostgreSQL runs on meanwhile.
func (s *Site) renew(h config.Host) step {
	m := s.Machines[h.Name]
	return step{
		name: "run what is installed on " + h.Name,
		done: func(ctx context.Context) (bool, error) {
			u, err := m.Unit(ctx, packaging.Unit)
			if err != nil || !u.Active {
				return false, err
			}
			newest, err := s.newest(ctx, h)
			return u.Since.After(newest), err
		},
		do: func(ctx context.Context) error {
			newest, err := s.newest(ctx, h)
			if err != nil {
				return err
			}
			if err := m.Start(ctx, packaging.Unit, newest); err != nil {
				return err
			}
			_, err = s.awaitWhole(ctx)
			return err
		},
	}
}

// newest is when the last of an agent's files was changed.
func (s *Site) newest(ctx context.Context, h config.Host) (time.Time, error) {
	paths := []string{packaging.Binary, filepath.Join("/usr/lib/systemd/system", packaging.Unit)}
	list, err := memberFiles(s.Deployment, h.Name)
	if err != nil {
		return time.Time{}, err
	}
	for _, f := range list {
		if !f.Keep { // what the member renews itself it needs no start for
			paths = append(paths, f.Path)
		}
	}
	there, err := s.Machines[h.Name].Files(ctx, paths...)
	var newest time.Time
	for _, f := range there {
		if f.Time.After(newest) {
			newest = f.Time
		}
	}
	return newest, err
}

func (s *Site) takesWrites(ctx context.Context) (string, error) {
	st, err := s.await(ctx, writable)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s, in term %d", st.Primary, st.Term), nil
}

// parameters looks for what PostgreSQL has refused, and for what waits for a restart.
func (s *Site) parameters(ctx context.Context) (string, error) {
	if _, err := s.awaitWhole(ctx); err != nil { // a standby that is cloned yet has no server to ask
		return "", err
	}
	for _, h := range s.data() {
		out, err := s.Machines[h.Name].SQL(ctx, "postgres", "SELECT name || ': ' || error FROM pg_file_settings WHERE error IS NOT NULL AND name IS NOT NULL AND error <> 'setting could not be applied'"+
			" UNION ALL SELECT name || ': waits for a restart' FROM pg_settings WHERE pending_restart;")
		if err != nil {
			return "", fmt.Errorf("%s: %w", h.Name, err)
		}
		if out = strings.TrimSpace(out); out != "" {
			return "", fmt.Errorf("%s: %s; standfast restart --pending restarts what waits", h.Name, strings.ReplaceAll(out, "\n", "; "))
		}
	}
	return "none was refused, none waits for a restart", nil
}

// data are the members that have PostgreSQL.
func (s *Site) data() []config.Host {
	return slices.DeleteFunc(slices.Clone(s.Deployment.Members), func(h config.Host) bool { return h.Kind == cluster.Witness })
}
