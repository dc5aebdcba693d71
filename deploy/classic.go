package deploy

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"time"

	"standfast/cluster"
	"standfast/config"
	"standfast/deploy/probe"
	"standfast/render"
)

// other is a program of the distribution's that takes a member's part.
type other struct {
	name  string // in steps
	unit  string
	path  string // of its configuration
	stamp string // holds the sum of the configuration that it was told of last
	key   func(config.Deployment) bool
}

var (
	haproxy = other{"HAProxy", "haproxy.service", "/etc/haproxy/haproxy.cfg", "/etc/haproxy/standfast.told", func(d config.Deployment) bool { return d.Routing == config.HAProxy }}

	keepalived = other{"Keepalived", "keepalived.service", "/etc/keepalived/keepalived.conf", "/etc/keepalived/standfast.told", func(d config.Deployment) bool { return d.Address == config.Keepalived }}
)

// kept is what a service's own file lacks: that a reload knows which servers are up (see package render).
//
//go:embed haproxy.service.conf
var kept []byte

const keptPath = "/etc/systemd/system/haproxy.service.d/standfast.conf"

// own reports whether a configuration was written by us.
func (o other) own(text []byte) bool {
	first, _, _ := bytes.Cut(text, []byte("\n"))
	return bytes.Contains(first, []byte(render.Mark))
}

// wanted are the programs that a host is to run in place of the member's own parts. A witness has no floating address.
func (s *Site) wanted(h config.Host) []other {
	var out []other
	if haproxy.key(s.Deployment) {
		out = append(out, haproxy)
	}
	if keepalived.key(s.Deployment) && h.Kind != cluster.Witness {
		out = append(out, keepalived)
	}
	return out
}

// programs bring a host's HAProxy and Keepalived to be as cluster.yml says.
func (s *Site) programs(h config.Host) []step {
	var out []step
	for _, o := range s.wanted(h) {
		out = append(out, s.program(h, o))
	}
	return out
}

// takeBack stops those of them that took a part of the member's before and are to do so no more: it needs the ports and addresses itself.
func (s *Site) takeBack(h config.Host) []step {
	var out []step
	for _, o := range []other{haproxy, keepalived} {
		if !o.key(s.Deployment) {
			out = append(out, s.stopOther(s.Machines[h.Name], h.Name, o))
		}
	}
	return out
}

func (s *Site) stopOther(m Machine, host string, o other) step {
	return plain("stop "+o.name+" on "+host,
		func(ctx context.Context) (bool, error) {
			there, err := m.Files(ctx, o.path)
			if _, ok := there[o.path]; err != nil || !ok {
				return err == nil, err
			}
			text, err := m.Read(ctx, o.path)
			if err != nil || !o.own(text) {
				return err == nil, err
			}
			u, err := m.Unit(ctx, o.unit)
			return !u.Active && !u.Enabled, err
		},
		func(ctx context.Context) error { return m.Stop(ctx, o.unit) },
	)
}

// program configures one and has it read that: by a reload where it runs, which costs no connection. Which configuration it was told of is
// noted afterwards, so that an interrupted run does it again.
func (s *Site) program(h config.Host, o other) step {
	m := s.Machines[h.Name]
	with := func(ctx context.Context) (put, told step, err error) {
		list, err := s.programFiles(ctx, h, o)
		if err != nil {
			return put, told, err
		}
		var all []byte
		for _, f := range list {
			all = append(all, f.Text...)
		}
		return files("", m, list...), files("", m, File{Path: o.stamp, Text: []byte(sum(all) + "\n"), Mode: 0o644, Owner: "root"}), nil
	}
	return step{
		name: fmt.Sprintf("configure %s on %s", o.name, h.Name),
		diff: func(ctx context.Context) ([]Diff, error) {
			put, _, err := with(ctx)
			if err != nil {
				return nil, err
			}
			return put.diff(ctx)
		},
		done: func(ctx context.Context) (bool, error) {
			put, told, err := with(ctx)
			if err != nil {
				return false, err
			}
			for _, st := range []step{put, told} {
				if done, err := st.done(ctx); err != nil || !done {
					return false, err
				}
			}
			u, err := m.Unit(ctx, o.unit)
			return u.Active && u.Enabled, err
		},
		do: func(ctx context.Context) error {
			put, told, err := with(ctx)
			if err != nil {
				return err
			}
			if err := s.setAsideFile(ctx, m, o); err != nil {
				return err
			}
			if err := put.do(ctx); err != nil {
				return err
			}
			if err := m.Refresh(ctx, o.unit); err != nil {
				return err
			}
			return told.do(ctx)
		},
	}
}

// setAsideFile keeps a copy of a configuration that is not ours, the distribution's or somebody's.
func (s *Site) setAsideFile(ctx context.Context, m Machine, o other) error {
	there, err := m.Files(ctx, o.path)
	if _, ok := there[o.path]; err != nil || !ok {
		return err
	}
	text, err := m.Read(ctx, o.path)
	if err != nil || o.own(text) {
		return err
	}
	return m.Write(ctx, File{Path: o.path + ".before-standfast", Text: text, Mode: 0o644, Owner: "root"})
}

// programFiles are those that a program is configured by.
func (s *Site) programFiles(ctx context.Context, h config.Host, o other) ([]File, error) {
	site := render.Of(s.Deployment.Node(h.Name))
	var text []byte
	var err error
	list := []File{}
	if o.name == haproxy.name {
		text, err = render.HAProxy(site, h.Name)
		list = append(list, File{Path: keptPath, Text: kept, Mode: 0o644, Owner: "root"})
	} else {
		var at map[string]string
		if at, err = s.interfaces(ctx, h); err == nil {
			text, err = render.Keepalived(site, h.Name, at)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("configure %s: %w", o.name, err)
	}
	return append(list, File{Path: o.path, Text: text, Mode: 0o644, Owner: "root"}), nil
}

// interfaces are those that the floating addresses belong to on a host.
func (s *Site) interfaces(ctx context.Context, h config.Host) (map[string]string, error) {
	l := probe.Look{}
	for _, v := range s.Deployment.VIP {
		l.Addresses = append(l.Addresses, v.Address)
	}
	a, err := s.Machines[h.Name].Ask(ctx, probe.Request{Look: &l})
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for address, v := range a.Facts.VIPs {
		out[address] = v.Interface
	}
	return out, nil
}

// leadTime is how long HAProxy's checks and Keepalived's take at most to have found where the primary is, from whatever state.
const leadTime = 15 * time.Second

// patient asks again where other programs lead the connections: they find out by and by. The members' own parts know at once.
func (s *Site) patient(ctx context.Context, ask func(context.Context) (string, error)) (string, error) {
	text, err := ask(ctx)
	if s.Deployment.Routing == config.BuiltIn && s.Deployment.Address == config.BuiltIn {
		return text, err
	}
	for end := s.Now().Add(leadTime); err != nil && s.Now().Before(end); text, err = ask(ctx) {
		select {
		case <-ctx.Done():
			return "", err
		case <-time.After(askEvery):
		}
	}
	return text, err
}
