package deploy

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"standfast/api"
	"standfast/config"
	"standfast/packaging"

	"github.com/google/renameio/v2"
)

// ChangeError is a change of the members that the cluster did not carry out.
type ChangeError struct{ Err error }

// Error is what the cluster said.
func (e *ChangeError) Error() string { return strings.TrimPrefix(e.Err.Error(), "standfast: ") }

// Unwrap gives what the host was asked with.
func (e *ChangeError) Unwrap() error { return e.Err }

// Running is what the members tell of the cluster; nil: it is not founded, or nobody answers.
func (s *Site) Running(ctx context.Context) *api.Status {
	if st := newest(s.statuses(ctx)); st != nil && st.Term > 0 {
		return st
	}
	return nil
}

// Newcomers are the members of cluster.yml that the running cluster does not have.
func (s *Site) Newcomers(st *api.Status) []string {
	var out []string
	for _, h := range s.Deployment.Members {
		if st.Member(h.Name) == nil {
			out = append(out, h.Name)
		}
	}
	return out
}

// Strangers are the members of the running cluster that cluster.yml does not have.
func (s *Site) Strangers(st *api.Status) []string {
	var out []string
	for _, m := range st.Members {
		if s.Deployment.Host(m.Name) == nil {
			out = append(out, m.Name)
		}
	}
	return out
}

// sameMembers refuses to deploy where cluster.yml and the running cluster have different members: a new one would found a cluster of its
// own, or wait for ever.
func (s *Site) sameMembers(ctx context.Context) error {
	st := s.Running(ctx)
	if st == nil {
		return nil
	}
	if more := s.Newcomers(st); len(more) > 0 {
		return &Refusal{fmt.Sprintf("%s stands in cluster.yml and is not in the running cluster: standfast node add takes it in; a member that was removed has to be taken out of the file", strings.Join(more, ", "))}
	}
	return s.noStrangers(st)
}

func (s *Site) noStrangers(st *api.Status) error {
	if fewer := s.Strangers(st); len(fewer) > 0 {
		return &Refusal{fmt.Sprintf("%s is in the running cluster and not in cluster.yml: write it there again, or remove it first (standfast node remove %s)", strings.Join(fewer, ", "), fewer[0])}
	}
	return nil
}

// Add takes the members of cluster.yml that the running cluster lacks into it: installed, configured, started, cloned, and proven like the
// others. Interrupted anywhere and begun again it goes on.
func Add(ctx context.Context, s *Site, o Options) (Changed, error) {
	st := s.Running(ctx)
	if st == nil {
		return 0, &Refusal{"no member of the cluster answers: standfast deploy founds one; of one that is there a majority has to run"}
	}
	if err := s.noStrangers(st); err != nil {
		return 0, err
	}
	names, err := s.begun(s.Newcomers(st))
	if err != nil {
		return 0, err
	}
	return s.join(ctx, nil, names, o)
}

// What the mark of a member that joined says.
const (
	joining = "joining the running cluster\n"
	joined  = "joined the running cluster\n"
)

// begun adds those that an interrupted run was about to add, or has added and not seen to the end.
func (s *Site) begun(names []string) ([]string, error) {
	for _, h := range s.Deployment.Members {
		text, err := os.ReadFile(secretsDir{s.Deployment}.joined(h.Name))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		if string(text) == joining && !slices.Contains(names, h.Name) {
			names = append(names, h.Name)
		}
	}
	return names, nil
}

// join carries out an addition, and marks it as ended.
func (s *Site) join(ctx context.Context, first []phase, names []string, o Options) (Changed, error) {
	changed, err := run(ctx, append(first, s.joining(names)...), o)
	if err != nil || o.DryRun {
		return changed, err
	}
	for _, name := range names {
		if err := writeMark(secretsDir{s.Deployment}.joined(name), joined); err != nil {
			return changed, err
		}
	}
	return changed, nil
}

func writeMark(path, text string) error {
	return renameio.WriteFile(path, []byte(text), 0o600, renameio.WithStaticPermissions(0o600))
}

// joining are the phases of an addition: those of a deployment, for the new hosts.
func (s *Site) joining(names []string) []phase {
	install, replicate, serve := s.install(), s.replicate(), s.serve()
	for host := range install.hosts {
		if !slices.Contains(names, host) {
			delete(install.hosts, host)
		}
	}
	configure := phase{number: 2, title: "configure and join", hosts: map[string][]step{}}
	for _, name := range names {
		h := *s.Deployment.Host(name)
		configure.first = append(configure.first, s.note(name))
		configure.hosts[name] = []step{s.settings(h), s.upToDate(h)}
		configure.last = append(configure.last, s.admit(h))
	}
	configure.first = append([]step{s.secrets()}, configure.first...)
	for _, h := range s.Deployment.Members {
		if !slices.Contains(names, h.Name) {
			configure.last = append(configure.last, s.tell(h, s.before(names)))
		}
	}
	for _, h := range s.Deployment.Members { // the new ones' too
		configure.last = append(configure.last, s.programs(h)...)
	}
	serve.last = nil // roles and databases are there
	return []phase{install, configure, replicate, serve}
}

// before is cluster.yml as it was without the new members.
func (s *Site) before(names []string) config.Deployment {
	d := s.Deployment
	for _, n := range names {
		d = d.Without(n)
	}
	return d
}

// plain is a step that has nothing to show beforehand.
func plain(name string, done func(context.Context) (bool, error), do func(context.Context) error) step {
	return step{name: name, done: done, do: do}
}

// note remembers that a member joined: its file says so ever after.
func (s *Site) note(name string) step {
	path := secretsDir{s.Deployment}.joined(name)
	return plain(
		"note that "+name+" joins",
		func(context.Context) (bool, error) { return exists(path) },
		func(context.Context) error { return writeMark(path, joining) },
	)
}

// upToDate starts a host's agent, or starts it again where its files are newer: it may still run from an earlier membership.
func (s *Site) upToDate(h config.Host) step {
	m := s.Machines[h.Name]
	st := s.start(h)
	return plain(
		st.name,
		func(ctx context.Context) (bool, error) {
			u, err := m.Unit(ctx, packaging.Unit)
			if err != nil || !u.Active || !u.Enabled {
				return false, err
			}
			newest, err := s.newest(ctx, h)
			return u.Since.After(newest), err
		},
		st.do,
	)
}

// admit has the cluster take a host in that runs.
func (s *Site) admit(h config.Host) step {
	ask := func(ctx context.Context, dry bool) (bool, error) {
		m, err := s.anyMember(ctx, h.Name)
		if err != nil {
			return false, err
		}
		r := api.AddMemberRequest{Member: s.Deployment.Node(h.Name).Member(), HBA: s.Deployment.LinesOf(h.Name), DryRun: dry}
		nothing, err := m.AddMember(ctx, r)
		if err != nil {
			return false, &ChangeError{err}
		}
		return nothing, nil
	}
	return plain(
		"take "+h.Name+" into the cluster",
		func(ctx context.Context) (bool, error) { return ask(ctx, true) },
		func(ctx context.Context) error {
			if _, err := ask(ctx, false); err != nil {
				return err
			}
			return s.awaitMember(ctx, h.Name, true)
		},
	)
}

// awaitMember waits until every member that answers lists the named one, or none does.
func (s *Site) awaitMember(ctx context.Context, name string, there bool) error {
	_, err := s.await(ctx, func(all map[string]*api.Status) string {
		for who, st := range all {
			if who != name && st.Member(name) != nil != there {
				return who + " has not heard of the change yet"
			}
		}
		return ""
	})
	return err
}

// anyMember is the machine of a member that answers and reaches the store: the primary's, if it does.
func (s *Site) anyMember(ctx context.Context, but string) (Machine, error) {
	all := s.statuses(ctx)
	if st := newest(all); st != nil && st.Primary != but && all[st.Primary] != nil {
		return s.Machines[st.Primary], nil
	}
	for _, h := range s.Deployment.Members {
		if st := all[h.Name]; st != nil && h.Name != but && st.Store.OK {
			return s.Machines[h.Name], nil
		}
	}
	return nil, errors.New("no member answers that reaches a majority: look at journalctl -u standfast on the hosts")
}

// tell brings the file of a member that goes on running to name the members as they are now. It learns of them from the cluster: its
// file is for its next start and for commands there. Where nothing else has changed in it, nothing is started again for it.
func (s *Site) tell(h config.Host, before config.Deployment) step {
	m := s.Machines[h.Name]
	list := func(ctx context.Context) (step, error) {
		now, err := secretsDir{s.Deployment}.render(h.Name)
		if err != nil {
			return step{}, err
		}
		was, err := secretsDir{before}.render(h.Name)
		if err != nil {
			return step{}, err
		}
		there, err := m.Files(ctx, config.DefaultPath)
		if err != nil {
			return step{}, err
		}
		return files("", m, File{Path: config.DefaultPath, Text: now, Mode: 0o644, Owner: "postgres", Quiet: there[config.DefaultPath].Sum == sum(was)}), nil
	}
	return plain(
		"tell "+h.Name+" who the members are",
		func(ctx context.Context) (bool, error) {
			st, err := list(ctx)
			if err != nil {
				return false, err
			}
			return st.done(ctx)
		},
		func(ctx context.Context) error {
			st, err := list(ctx)
			if err != nil {
				return err
			}
			return st.do(ctx)
		},
	)
}
