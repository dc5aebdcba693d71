package deploy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"standfast/api"
	"standfast/config"
	"standfast/packaging"
)

// Removal says how a member is removed.
type Removal struct {
	Name       string
	Switchover bool // hand its role over first, if it is the primary
}

// Remove takes a member out of the running cluster, and stops it where its host can be reached. Its data stays. It need not stand in
// cluster.yml.
func Remove(ctx context.Context, s *Site, r Removal, o Options) (Changed, error) {
	st := s.Running(ctx)
	if st == nil {
		return 0, &Refusal{"no member of the cluster answers: a majority has to run"}
	}
	full := s.Deployment
	if full.Host(r.Name) == nil {
		if m := st.Member(r.Name); m != nil {
			address, _, err := net.SplitHostPort(m.Beat)
			if err != nil {
				return 0, fmt.Errorf("read the address of %s: %w", r.Name, err)
			}
			full.Members = append(slices.Clone(full.Members), config.Host{Name: r.Name, Address: address, Kind: m.Kind})
		}
	}
	if full.Host(r.Name) == nil {
		return 0, &Refusal{fmt.Sprintf("there is no member %s, in cluster.yml or in the running cluster", r.Name)}
	}
	rest := *s
	rest.Deployment = full.Without(r.Name)
	return run(ctx, rest.leaving(r, full), o)
}

// leaving are the phases of a removal; s is the cluster as it will be.
func (s *Site) leaving(r Removal, full config.Deployment) []phase {
	agree := phase{number: 1, title: "take it out"}
	if r.Switchover {
		agree.last = append(agree.last, s.handOver(r.Name, full))
	}
	agree.last = append(agree.last, s.dismiss(r, full))
	stop := phase{number: 2, title: "stop it", hosts: map[string][]step{}}
	if m := s.Machines[r.Name]; m != nil {
		stop.hosts[r.Name] = []step{halt(m)}
		for _, o := range s.wanted(*full.Host(r.Name)) {
			stop.hosts[r.Name] = append(stop.hosts[r.Name], s.stopOther(m, r.Name, o))
		}
	}
	for _, h := range s.Deployment.Members {
		if s.Machines[h.Name] != nil {
			stop.hosts[h.Name] = append(stop.hosts[h.Name], s.tell(h, full))
			stop.last = append(stop.last, s.programs(h)...)
		}
	}
	stop.last = append(stop.last, s.forget(r.Name))
	stop.checks = []check{{name: "the others go on", try: s.goesOn}}
	return []phase{agree, stop}
}

// handOver makes another member the primary.
func (s *Site) handOver(name string, full config.Deployment) step {
	all := *s
	all.Deployment = full
	return plain(
		"hand the role of "+name+" over",
		func(ctx context.Context) (bool, error) {
			st := all.Running(ctx)
			return st == nil || st.Primary != name, nil
		},
		func(ctx context.Context) error {
			m := s.Machines[name]
			if m == nil {
				return fmt.Errorf("%s can't be reached", name)
			}
			return m.Switchover(ctx, "")
		},
	)
}

// dismiss has the cluster let a member go.
func (s *Site) dismiss(r Removal, full config.Deployment) step {
	ask := func(ctx context.Context, dry bool) (bool, error) {
		m, err := s.anyMember(ctx, r.Name)
		if err != nil {
			return false, err
		}
		nothing, err := m.RemoveMember(ctx, api.RemoveMemberRequest{Name: r.Name, HBA: full.LinesOf(r.Name), DryRun: dry})
		if err != nil {
			return false, &ChangeError{err}
		}
		return nothing, nil
	}
	return plain(
		"take "+r.Name+" out of the cluster",
		func(ctx context.Context) (bool, error) {
			if st := s.Running(ctx); r.Switchover && st != nil && st.Primary == r.Name {
				return false, nil // a dry run: it is not handed over yet
			}
			return ask(ctx, true)
		},
		func(ctx context.Context) error {
			if _, err := ask(ctx, false); err != nil {
				return err
			}
			return s.awaitMember(ctx, r.Name, false)
		},
	)
}

// halt stops a host's member, and keeps it from starting.
func halt(m Machine) step {
	return plain(
		"stop standfast and PostgreSQL, for good",
		func(ctx context.Context) (bool, error) {
			for _, name := range []string{packaging.Unit, packaging.ServerUnit} {
				if u, err := m.Unit(ctx, name); err != nil || u.Active || u.Enabled {
					return false, err
				}
			}
			return true, nil
		},
		// The agent first: it would start PostgreSQL again.
		func(ctx context.Context) error { return m.Stop(ctx, packaging.Unit, packaging.ServerUnit) },
	)
}

// forget takes a member's certificate away, and the mark that it joined: added again, it gets them anew.
func (s *Site) forget(name string) step {
	path := secretsDir{s.Deployment}.member(name)
	return plain(
		"take the certificate of "+name+" away here",
		func(context.Context) (bool, error) { there, err := exists(path); return !there, err },
		func(context.Context) error { return os.RemoveAll(path) },
	)
}

// goesOn: a primary takes writes, and every member that can be reached is well.
func (s *Site) goesOn(ctx context.Context) (string, error) {
	reached := *s
	for _, h := range s.Deployment.Members {
		if s.Machines[h.Name] == nil {
			reached.Deployment = reached.Deployment.Without(h.Name)
		}
	}
	st, err := reached.awaitWhole(ctx)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s is the primary; %s", st.Primary, st.Commit.Text), nil
}

// Replace puts a new machine in the place of a member whose host died for good: the dead one is taken out, the new one is added under
// its name. The machine is at the address that cluster.yml names; used: it has files of a member, which a new one has not.
func Replace(ctx context.Context, s *Site, name string, used bool, o Options) (Changed, error) {
	st := s.Running(ctx)
	h := s.Deployment.Host(name)
	switch {
	case h == nil:
		return 0, &Refusal{fmt.Sprintf("there is no member %s in cluster.yml: %s", name, strings.Join(memberNames(s.Deployment), ", "))}
	case st == nil:
		return 0, &Refusal{"no member of the cluster answers: a majority has to run"}
	}
	mark := secretsDir{s.Deployment}.replacing(name)
	begun, err := exists(mark)
	if err != nil {
		return 0, err
	}
	if !begun && s.stillHeard(ctx, name) {
		return 0, &Refusal{fmt.Sprintf("%s is heard from, so it has not died: to give it a new copy of the data, standfast reclone %s; to have another machine in its place, take its power first, or standfast node remove %s and then node add", name, name, name)}
	}
	if used && !begun {
		return 0, &Refusal{fmt.Sprintf("the host of %s has files of a member, so it is not a new one: start it (standfast node start there), or move %s and /etc/standfast away", name, config.DefaultNode().StateDir)}
	}
	agree := phase{number: 0, title: "take the old one out", last: []step{s.bury(*h, mark)}}
	changed, err := s.join(ctx, []phase{agree}, []string{name}, o)
	if err == nil && !o.DryRun {
		err = os.Remove(mark)
	}
	return changed, err
}

// silentTime is how long a member may still count as heard from after its host has died: the longest of the usual detection times, and as
// much again.
const silentTime = 10 * time.Second

// stillHeard reports whether a member goes on being heard from.
func (s *Site) stillHeard(ctx context.Context, name string) bool {
	ctx, cancel := context.WithTimeout(ctx, silentTime)
	defer cancel()
	for {
		st := s.Running(ctx)
		if st != nil && (st.Member(name) == nil || st.Member(name).State == api.Unreachable) {
			return false
		}
		select {
		case <-ctx.Done():
			return true
		case <-time.After(askEvery):
		}
	}
}

func memberNames(d config.Deployment) []string {
	var out []string
	for _, h := range d.Members {
		out = append(out, h.Name)
	}
	return out
}

// bury takes the dead member out, and its certificate away: the new one may be at another address, and the old key may be anywhere. The
// mark tells its successor from it.
func (s *Site) bury(h config.Host, mark string) step {
	d := secretsDir{s.Deployment}
	const out = "out\n"
	dismiss := s.dismiss(Removal{Name: h.Name}, s.Deployment)
	return plain(
		"take the "+h.Name+" that died out of the cluster",
		func(ctx context.Context) (bool, error) {
			text, err := os.ReadFile(mark)
			if err == nil && string(text) == out {
				return true, nil
			}
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				return false, err
			}
			_, err = dismiss.done(ctx) // it may be refused
			return false, err
		},
		func(ctx context.Context) error {
			if err := writeMark(mark, ""); err != nil {
				return err
			}
			if err := dismiss.do(ctx); err != nil {
				return err
			}
			if err := os.RemoveAll(d.member(h.Name)); err != nil {
				return err
			}
			return writeMark(mark, out)
		},
	)
}

// Left tells what stays of a removed member, and what is to be done there.
func Left(name string, reached bool) string {
	dir := config.DefaultNode().StateDir
	if reached {
		return fmt.Sprintf("%s is stopped; its data stays in %s there, and its certificate in /etc/standfast: take both away when nobody needs them", name, dir)
	}
	return fmt.Sprintf("%s could not be reached: should it come back, it stays out of the cluster by itself; stop it there for good with: systemctl disable --now %s %s; its data is in %s", name, packaging.Unit, packaging.ServerUnit, dir)
}
