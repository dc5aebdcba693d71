package deploy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"standfast/api"
	"standfast/cluster"
	"standfast/config"
	"standfast/deploy/distro"
	"standfast/deploy/survey"
	"standfast/packaging"
	"standfast/pgconf"

	"github.com/google/renameio/v2"
)

// planPath is where what is taken over is remembered until it is committed, and after.
func planPath(d config.Deployment) string { return filepath.Join(d.Secrets, "adopted.json") }

// Adopted reads what an adoption from here has taken over, or is about to; nil: there was none.
func Adopted(d config.Deployment) (*survey.Plan, error) {
	text, err := os.ReadFile(planPath(d))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	p := &survey.Plan{}
	if err == nil {
		err = json.Unmarshal(text, p)
	}
	if err != nil {
		return nil, fmt.Errorf("read what is taken over: %w", err)
	}
	return p, nil
}

// KeepPlan remembers it, before anything is changed anywhere.
func KeepPlan(d config.Deployment, p survey.Plan) error {
	text, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(d.Secrets, 0o700); err != nil {
		return err
	}
	return renameio.WriteFile(planPath(d), append(text, '\n'), 0o600, renameio.WithStaticPermissions(0o600))
}

// Adopt makes a cluster of servers that run, by the plan. Interrupted anywhere and begun again it goes on.
func Adopt(ctx context.Context, s *Site, p survey.Plan, o Options) (Changed, error) {
	if p.Committed {
		return 0, &Refusal{"the takeover is committed: it is a cluster like any other; standfast deploy repairs what is installed"}
	}
	return run(ctx, []phase{s.bring(p), s.prepare(), s.take(p), s.proof()}, o)
}

// bring is phase 1: everything that a member needs is there. The distribution's tools go on knowing servers that are taken over by the
// names that they have.
func (s *Site) bring(p survey.Plan) phase {
	all := s.install()
	for _, h := range s.data() {
		if _, runs := p.Units[h.Name]; !runs {
			continue
		}
		m, system := s.Machines[h.Name], s.Systems[h.Name]
		var list []step
		if system.Family == distro.Debian {
			list = append(list, files("keep the package from making a cluster", m, noMain))
		}
		all.hosts[h.Name] = append(list, s.packages(m, h, system), files("install standfast", m, s.Program), s.services(m))
	}
	return all
}

// prepare is phase 2: certificates, secrets, configuration. No agent starts.
func (s *Site) prepare() phase {
	p := phase{number: 2, title: "configure", hosts: map[string][]step{}, first: []step{s.secrets()}}
	for _, h := range s.Deployment.Members {
		p.hosts[h.Name] = []step{s.settings(h)}
	}
	return p
}

// take is phase 3: one server after another is taken over.
func (s *Site) take(p survey.Plan) phase {
	out := phase{number: 3, title: "take over", hosts: map[string][]step{}}
	early := p.Early(s.Deployment)
	for _, h := range s.Deployment.Members {
		if _, runs := p.Units[h.Name]; !runs {
			out.first = append(out.first, s.start(h))
		}
	}
	for _, name := range early {
		out.first = append(out.first, s.standby(p, name, false)...)
	}
	out.first = append(out.first, s.primary(p)...)
	for _, name := range p.Standbys[len(early):] {
		out.first = append(out.first, s.standby(p, name, true)...)
	}
	out.last = nil
	out.checks = s.replicate().checks
	return out
}

// proof is phase 4, as a deployment's; applications have their roles and databases already, or get them.
func (s *Site) proof() phase { return s.serve() }

// holdPath is a file of systemd's by which a service is masked: at a boot, and for everybody who starts or stops it by hand. It stays
// what it is otherwise, so that taking the file away gives it back.
func holdPath(unit string) string { return "/etc/systemd/system/" + unit + ".d/standfast.conf" }

// hold is what stands there. Stopping the service, which a package's upgrade or the end of the host does, ends no process of the server
// that runs.
const hold = `# Standfast runs this server: standfast status, standfast restart, standfast node stop. Written by standfast adopt.
[Unit]
ConditionPathExists=!/etc/standfast/standfast.yml
RefuseManualStart=yes
RefuseManualStop=yes

[Service]
ExecStop=
ExecStopPost=
KillMode=none
Restart=no
`

// mask keeps the service that ran a server from starting or stopping anything.
func (s *Site) mask(name, unit string) step {
	m := s.Machines[name]
	put := files(fmt.Sprintf("mask %s on %s", unit, name), m, File{Path: holdPath(unit), Text: []byte(hold), Mode: 0o644, Owner: "root"})
	return step{
		name: put.name, diff: put.diff,
		done: func(ctx context.Context) (bool, error) {
			done, err := put.done(ctx)
			if err != nil || !done {
				return false, err
			}
			u, err := m.Unit(ctx, unit)
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

// tools keep the distribution's own commands from the server; nothing to do elsewhere than in Debian's layout.
func (s *Site) tools(p survey.Plan, name string) []step {
	version, cluster, ok := debian(p.Units[name])
	if !ok {
		return nil
	}
	dir := "/etc/postgresql/" + version + "/" + cluster + "/"
	const note = "# Standfast runs this server: standfast status, standfast restart, standfast node stop. Written by standfast adopt.\n"
	return []step{files("have the distribution's tools leave it alone on "+name, s.Machines[name],
		File{Path: dir + "start.conf", Text: []byte(note + "disabled\n"), Mode: 0o644, Owner: "postgres"},
		File{Path: dir + "pg_ctl.conf", Text: []byte(note + "pg_ctl_options = '--standfast-runs-this-server--use--standfast-node-stop'\n"), Mode: 0o644, Owner: "postgres"})}
}

// debian reads the name of a service such as postgresql@17-main.service.
func debian(unit string) (version, cluster string, ok bool) {
	name, ok := strings.CutPrefix(strings.TrimSuffix(unit, ".service"), "postgresql@")
	if !ok {
		return "", "", false
	}
	return strings.Cut(name, "-")
}

// primary is taken over as it runs.
func (s *Site) primary(p survey.Plan) []step {
	h := *s.Deployment.Host(p.Primary)
	m := s.Machines[p.Primary]
	var list []step
	if unit := p.Units[p.Primary]; unit != "" {
		list = append(list, s.mask(p.Primary, unit))
	}
	list = append(list, s.tools(p, p.Primary)...)
	list = append(list, plain(
		"found the cluster on the primary of "+p.Primary,
		func(ctx context.Context) (bool, error) {
			u, err := m.Unit(ctx, packaging.Unit)
			return u.Active && u.Enabled && s.founded(ctx), err
		},
		func(ctx context.Context) error {
			// Files and links first, then at once the agent, for which they are: between the two the server is nobody's.
			if !s.founded(ctx) {
				if _, err := m.Server(ctx, "server", "take-over"); err != nil {
					return err
				}
			}
			if err := s.start(h).do(ctx); err != nil {
				return err
			}
			_, err := s.await(ctx, writable)
			return err
		},
	))
	return list
}

// founded reports whether there is a cluster.
func (s *Site) founded(ctx context.Context) bool { return s.Running(ctx) != nil }

// savedAuto is where a standby's own postgresql.auto.conf is kept, which said where it receives from.
const savedAuto = "/etc/standfast/postgresql.auto.conf.before-standfast"

// standby is stopped and started as Standfast's, with the data that it has.
func (s *Site) standby(p survey.Plan, name string, follows bool) []step {
	h := *s.Deployment.Host(name)
	m, unit := s.Machines[name], p.Units[name]
	auto := filepath.Join(p.Data, "postgresql.auto.conf")
	keep := plain(
		"keep what "+name+" received from",
		func(ctx context.Context) (bool, error) {
			there, err := m.Files(ctx, savedAuto)
			return there[savedAuto].Sum != "", err
		},
		func(ctx context.Context) error {
			text, err := m.Read(ctx, auto)
			if err != nil {
				return err
			}
			return m.Write(ctx, File{Path: savedAuto, Text: text, Mode: 0o600, Owner: "postgres"})
		},
	)
	started := func(ctx context.Context) (bool, error) {
		u, err := m.Unit(ctx, packaging.Unit)
		return u.Active && u.Enabled, err
	}
	swap := plain(
		"stop "+unit+" on "+name+", start standfast",
		func(ctx context.Context) (bool, error) {
			if ok, err := started(ctx); err != nil || !ok || !follows {
				return ok, err
			}
			return s.follows(s.statuses(ctx), name) == "", nil
		},
		func(ctx context.Context) error {
			if ok, err := started(ctx); err != nil {
				return err
			} else if !ok {
				if u, err := m.Unit(ctx, unit); err != nil {
					return err
				} else if u.Active {
					if err := m.Stop(ctx, unit); err != nil {
						return err
					}
				}
				if _, err := s.step(ctx, s.mask(name, unit)); err != nil {
					return err
				}
				if err := s.start(h).do(ctx); err != nil {
					return err
				}
			}
			if !follows {
				return nil
			}
			_, err := s.await(ctx, func(all map[string]*api.Status) string { return s.follows(all, name) })
			return err
		},
	)
	return append(append([]step{keep}, s.tools(p, name)...), swap, s.mask(name, unit))
}

// step carries one out inside of another.
func (s *Site) step(ctx context.Context, st step) (bool, error) {
	if done, err := st.done(ctx); err != nil || done {
		return done, err
	}
	return false, st.do(ctx)
}

// follows says what keeps a member from counting for commits; "": nothing.
func (s *Site) follows(all map[string]*api.Status, name string) string {
	st := newest(all)
	if st == nil || all[st.Primary] == nil {
		return "no primary answers"
	}
	if seen := all[st.Primary].Member(name); seen == nil || !seen.InRule || !seen.Attached {
		return name + " does not count for commits yet"
	}
	return ""
}

// Commit ends the way back: what only that needs goes. The cluster must be whole.
func Commit(ctx context.Context, s *Site, p survey.Plan, o Options) (Changed, error) {
	last := phase{number: 5, title: "commit"}
	last.first = append(last.first, s.dropSlots(p))
	for _, name := range p.Standbys {
		m := s.Machines[name]
		last.first = append(last.first, plain("forget what "+name+" received from",
			func(ctx context.Context) (bool, error) {
				there, err := m.Files(ctx, savedAuto)
				return there[savedAuto].Sum == "", err
			},
			func(ctx context.Context) error { return m.Remove(ctx, savedAuto) }))
	}
	last.first = append(last.first, plain("note that the takeover is committed",
		func(context.Context) (bool, error) {
			p, err := Adopted(s.Deployment)
			return p != nil && p.Committed, err
		},
		func(context.Context) error {
			p.Committed = true
			return KeepPlan(s.Deployment, p)
		}))
	look := phase{number: 4, title: "look", checks: s.replicate().checks[:1]}
	return run(ctx, []phase{look, last}, o)
}

// dropSlots takes out the standbys' former slots, which would keep WAL for nobody.
func (s *Site) dropSlots(p survey.Plan) step {
	var names []string
	for _, n := range p.Slots {
		names = append(names, pgconf.Literal(n))
	}
	which := fmt.Sprintf("FROM pg_replication_slots WHERE slot_type = 'physical' AND NOT active AND slot_name::text = ANY (ARRAY[%s]::text[])", strings.Join(names, ", "))
	return plain(
		"drop the standbys' former slots",
		func(ctx context.Context) (bool, error) { return s.ask(ctx, "SELECT NOT EXISTS (SELECT "+which+");") },
		func(ctx context.Context) error {
			_, err := s.atPrimary(ctx, "SELECT pg_drop_replication_slot(slot_name) "+which+";")
			return err
		},
	)
}

// Back gives every server to what ran it before, as long as the primary that was taken over runs.
func Back(ctx context.Context, s *Site, p survey.Plan, o Options) (Changed, error) {
	if p.Committed {
		return 0, &Refusal{"the takeover is committed: there is no way back any more"}
	}
	if st := s.Running(ctx); st != nil && (st.Term > 1 || st.Primary != "" && st.Primary != p.Primary) {
		return 0, &Refusal{fmt.Sprintf("%s has become primary since (term %d), with Standfast's own start: the servers of before are not there any more", st.Primary, st.Term)}
	}
	back := phase{number: 1, title: "give back", hosts: map[string][]step{}}
	back.first = append(back.first, s.returnPrimary(p))
	for _, h := range s.Deployment.Members {
		if h.Name != p.Primary {
			back.first = append(back.first, s.silence(h))
		}
	}
	for _, name := range p.Standbys {
		back.first = append(back.first, s.returnStandby(p, name))
	}
	for _, h := range s.Deployment.Members {
		back.first = append(back.first, s.unmake(h))
	}
	back.first = append(back.first, plain("forget the takeover",
		func(context.Context) (bool, error) {
			there, err := exists(planPath(s.Deployment))
			return !there, err
		},
		func(context.Context) error { return os.Remove(planPath(s.Deployment)) }))
	return run(ctx, []phase{back}, o)
}

// returnPrimary lets go of the primary as it runs. Nobody may elect another meanwhile.
func (s *Site) returnPrimary(p survey.Plan) step {
	m, unit := s.Machines[p.Primary], p.Units[p.Primary]
	free := []string{config.DefaultPath}
	if unit != "" {
		free = append(free, holdPath(unit))
	}
	return plain(
		"let go of the primary of "+p.Primary,
		func(ctx context.Context) (bool, error) {
			there, err := m.Files(ctx, free...)
			return len(there) == 0, err
		},
		func(ctx context.Context) error {
			if s.founded(ctx) {
				if _, err := m.Command(ctx, "pause"); err != nil {
					return err
				}
			}
			if err := m.Stop(ctx, packaging.Unit); err != nil {
				return err
			}
			if _, err := m.Server(ctx, "server", "give-back"); err != nil {
				return err
			}
			if err := m.Remove(ctx, free...); err != nil || unit == "" {
				return err
			}
			return s.auto(ctx, m, unit)
		},
	)
}

// auto has the distribution start a server at a boot again.
func (s *Site) auto(ctx context.Context, m Machine, unit string) error {
	version, cluster, ok := debian(unit)
	if !ok {
		return nil
	}
	dir := "/etc/postgresql/" + version + "/" + cluster + "/"
	return errors.Join(
		m.Write(ctx, File{Path: dir + "start.conf", Text: []byte("auto\n"), Mode: 0o644, Owner: "postgres"}),
		m.Write(ctx, File{Path: dir + "pg_ctl.conf", Text: []byte("pg_ctl_options = ''\n"), Mode: 0o644, Owner: "postgres"}),
		m.Reload(ctx))
}

// silence stops a member and its PostgreSQL.
func (s *Site) silence(h config.Host) step {
	m := s.Machines[h.Name]
	units := []string{packaging.Unit}
	if h.Kind != cluster.Witness {
		units = append(units, packaging.ServerUnit)
	}
	return plain(
		"stop standfast on "+h.Name,
		func(ctx context.Context) (bool, error) {
			for _, name := range units {
				if u, err := m.Unit(ctx, name); err != nil || u.Active || u.Enabled {
					return false, err
				}
			}
			return true, nil
		},
		func(ctx context.Context) error { return m.Stop(ctx, units...) },
	)
}

// returnStandby starts it again as what it was: it finds where it received from.
func (s *Site) returnStandby(p survey.Plan, name string) step {
	m, unit := s.Machines[name], p.Units[name]
	return plain(
		"start "+unit+" on "+name,
		func(ctx context.Context) (bool, error) {
			u, err := m.Unit(ctx, unit)
			if err != nil || !u.Active {
				return false, err
			}
			there, err := m.Files(ctx, savedAuto)
			return len(there) == 0, err
		},
		func(ctx context.Context) error {
			there, err := m.Files(ctx, savedAuto)
			if err != nil {
				return err
			}
			if len(there) > 0 {
				text, err := m.Read(ctx, savedAuto)
				if err != nil {
					return err
				}
				if err := m.Write(ctx, File{Path: filepath.Join(p.Data, "postgresql.auto.conf"), Text: text, Mode: 0o600, Owner: "postgres"}); err != nil {
					return err
				}
			}
			if err := m.Remove(ctx, config.DefaultPath, holdPath(unit)); err != nil {
				return err
			}
			if err := s.auto(ctx, m, unit); err != nil {
				return err
			}
			if err := m.Again(ctx, unit); err != nil {
				return err
			}
			return m.Remove(ctx, savedAuto)
		},
	)
}

// unmake takes away what a member knows of the cluster, so that another attempt founds one anew. Programs and packages stay, and so does
// the data of a host that was copied to.
func (s *Site) unmake(h config.Host) step {
	m := s.Machines[h.Name]
	state := config.DefaultNode().StateDir
	return plain(
		"forget the cluster on "+h.Name,
		func(ctx context.Context) (bool, error) {
			there, err := m.Files(ctx, config.DefaultPath, state+"/promise.json", state+"/etcd/member/snap/db")
			return len(there) == 0, err
		},
		func(ctx context.Context) error {
			return m.Remove(ctx, config.DefaultPath, state+"/promise.json", state+"/rejoined.json", state+"/etcd")
		},
	)
}
