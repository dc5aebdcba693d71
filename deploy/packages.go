package deploy

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"standfast/config"
	"standfast/deploy/distro"
	"standfast/deploy/probe"
)

// noMain keeps the distribution's package from making a cluster that takes port 5432 (pg_createcluster(1)).
var noMain = File{
	Path: "/etc/postgresql-common/createcluster.d/standfast.conf", Owner: "root", Mode: 0o644,
	Text: []byte("# Standfast makes the cluster of this host; the package is not to make one of its own.\ncreate_main_cluster = false\n"),
}

// server lists the steps to a host's PostgreSQL, which the distribution neither starts nor believes to be its own.
func (s *Site) server(h config.Host) []step {
	m, system := s.Machines[h.Name], s.Systems[h.Name]
	var list []step
	if system.Family == distro.Debian {
		list = append(list, files("keep the package from making a cluster", m, noMain), s.setAside(m))
	}
	if s.Bundle == nil && s.Deployment.Repository.Source == config.FromPGDG {
		list = append(list, s.repository(m, system))
	}
	list = append(list, s.packages(m, h, system))
	if system.Family == distro.Debian {
		list = append(list, s.register(h), s.refuse(m))
	}
	return list
}

// rootFiles are files of root's that all may read.
func rootFiles(list []distro.File) []File {
	out := make([]File, len(list))
	for i, f := range list {
		out[i] = File{Path: f.Path, Text: f.Text, Mode: 0o644, Owner: "root"}
	}
	return out
}

// repository makes PGDG's known to a host.
func (s *Site) repository(m Machine, system distro.System) step {
	described := func() (step, error) {
		list, err := Repositories(s.Deployment, system, s.Postgres)
		return files("", m, rootFiles(list)...), err
	}
	return step{
		name: "use the PostgreSQL project's packages",
		diff: func(ctx context.Context) ([]Diff, error) {
			st, err := described()
			if err != nil {
				return nil, err
			}
			return st.diff(ctx)
		},
		done: func(ctx context.Context) (bool, error) {
			st, err := described()
			if err != nil {
				return false, err
			}
			return st.done(ctx)
		},
		do: func(ctx context.Context) error {
			st, err := described()
			if err != nil {
				return err
			}
			return st.do(ctx)
		},
	}
}

// Repositories describes those that a host needs beside its distribution's, to its package manager.
func Repositories(d config.Deployment, system distro.System, version string) ([]distro.File, error) {
	if d.Repository.Source != config.FromPGDG {
		return nil, nil
	}
	var key []byte
	if path := d.Repository.Key; path != "" {
		var err error
		if key, err = os.ReadFile(path); err != nil {
			return nil, fmt.Errorf("read repository.key: %w", err)
		}
	}
	return system.PGDG(version, d.Repository.URI, key), nil
}

// setAside stops the empty cluster that the distribution's package has made before.
func (s *Site) setAside(m Machine) step {
	empty := func(ctx context.Context) (*probe.Server, error) {
		a, err := m.Ask(ctx, probe.Request{Look: &probe.Look{}})
		if err != nil {
			return nil, err
		}
		for _, server := range a.Facts.Servers {
			if server.Empty && server.Name == "main" && (server.Online || server.Start != "disabled") {
				return &server, nil
			}
		}
		return nil, nil
	}
	return step{
		name: "set the distribution's empty cluster aside",
		done: func(ctx context.Context) (bool, error) {
			server, err := empty(ctx)
			return server == nil, err
		},
		do: func(ctx context.Context) error {
			server, err := empty(ctx)
			if err != nil || server == nil {
				return err
			}
			return m.SetAside(ctx, server.Version, server.Name)
		},
	}
}

func (s *Site) packages(m Machine, h config.Host, system distro.System) step {
	return s.get(m, "install PostgreSQL "+s.Postgres, append(system.Server(s.Postgres), s.Deployment.PackagesOf(h.Kind)...))
}

// extras are what a witness needs beside the program.
func (s *Site) extras(m Machine, h config.Host) step {
	return s.get(m, "install "+strings.Join(s.Deployment.PackagesOf(h.Kind), ", "), s.Deployment.PackagesOf(h.Kind))
}

func (s *Site) get(m Machine, name string, wanted []string) step {
	return step{
		name: name,
		done: func(ctx context.Context) (bool, error) {
			a, err := m.Ask(ctx, probe.Request{Look: &probe.Look{Packages: wanted}})
			if err != nil {
				return false, err
			}
			return !slices.ContainsFunc(wanted, func(p string) bool { return a.Facts.Packages[p] == "" }), nil
		},
		do: func(ctx context.Context) error {
			// A repository that is new here is not in the package lists yet.
			return m.Install(ctx, Packages{wanted, s.Deployment.Repository.Source == config.FromPGDG, s.Bundle})
		},
	}
}

// register makes the distribution's tools tell the truth about the member's PostgreSQL and refuse to touch it.
func (s *Site) register(h config.Host) step {
	m, n := s.Machines[h.Name], s.Deployment.Node(h.Name)
	put := files("register it with the distribution's tools", m, rootFiles(s.Systems[h.Name].Register(distro.Server{
		Version: s.Postgres, Port: n.Self().Ports.Postgres, Data: n.Postgres.DataDir,
		Sockets: filepath.Join(n.StateDir, "run"), Logs: filepath.Join(n.StateDir, "log"),
	}))...)
	return step{
		name: put.name,
		diff: func(ctx context.Context) ([]Diff, error) {
			if named, err := s.keepsName(ctx, m, n.Postgres.DataDir); named || err != nil {
				return nil, err
			}
			return put.diff(ctx)
		},
		done: func(ctx context.Context) (bool, error) {
			if named, err := s.keepsName(ctx, m, n.Postgres.DataDir); named || err != nil {
				return named, err
			}
			done, err := put.done(ctx)
			if err != nil || !done {
				return false, err
			}
			u, err := m.Unit(ctx, distro.Refusal)
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

// keepsName reports whether the distribution's tools know the member's server already, by another name: it was taken over (see Adopt).
func (s *Site) keepsName(ctx context.Context, m Machine, data string) (bool, error) {
	a, err := m.Ask(ctx, probe.Request{Look: &probe.Look{}})
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(a.Facts.Servers, func(v probe.Server) bool {
		return v.Name != distro.ClusterName && v.Dir == data && v.Start == "disabled"
	}), nil
}

// refuse puts a service in the place of postgresql.service that refuses to be restarted, where that means no other cluster.
func (s *Site) refuse(m Machine) step {
	other := func(ctx context.Context) (bool, error) {
		a, err := m.Ask(ctx, probe.Request{Look: &probe.Look{}})
		if err != nil {
			return false, err
		}
		return slices.ContainsFunc(a.Facts.Servers, func(v probe.Server) bool {
			return v.Name != distro.ClusterName && (v.Online || v.Start == "auto")
		}), nil
	}
	return step{
		name: "have postgresql.service name standfast",
		done: func(ctx context.Context) (bool, error) {
			there, err := m.Files(ctx, distro.MetaPath, distro.RefusalPath)
			if err != nil || there[distro.MetaPath].Sum != "" && there[distro.MetaPath].Sum == there[distro.RefusalPath].Sum {
				return err == nil, err
			}
			return other(ctx)
		},
		do: func(ctx context.Context) error { return m.Alias(ctx, distro.MetaPath, distro.RefusalPath) },
	}
}
