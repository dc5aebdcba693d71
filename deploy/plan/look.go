package plan

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"standfast/config"
	"standfast/deploy/distro"
	"standfast/deploy/probe"
)

// Look asks all hosts at the same time, then whether they reach each other.
func Look(ctx context.Context, s Site) (*Report, error) {
	r := &Report{Facts: map[string]probe.Facts{}}
	var mu sync.Mutex
	var wait sync.WaitGroup
	skews := map[string]time.Duration{}
	errs := map[string]error{}
	for name, h := range s.Hosts {
		wait.Go(func() {
			began := s.Now()
			a, err := h.Ask(ctx, probe.Request{Look: s.question(name)})
			ended := s.Now()
			mu.Lock()
			defer mu.Unlock()
			if err != nil || a.Facts == nil {
				errs[name] = err
				return
			}
			r.Facts[name] = *a.Facts
			skews[name] = skew(began, ended, a.Facts.Time)
		})
	}
	wait.Wait()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	for _, h := range s.Deployment.Members {
		err := s.Down[h.Name]
		if err == nil {
			err = errs[h.Name]
		}
		if f, ok := r.Facts[h.Name]; ok {
			r.host(s, h, f, skews[h.Name])
		} else {
			r.add(Fail, h.Name, "reachable", "mend it and run this again; nothing has been changed", fmt.Sprint(err))
		}
	}
	r.versions(s)
	r.addresses(s)
	blocked, err := r.paths(ctx, s)
	if err == nil {
		err = r.carry(ctx, s, blocked)
	}
	if err != nil {
		return nil, err
	}
	return r, nil
}

// skew is how far a host's clock is from ours, as far as that can be known: its answer was made at some time in between. What the
// way may explain counts as none.
func skew(began, ended, theirs time.Time) time.Duration {
	switch {
	case theirs.After(ended):
		return theirs.Sub(ended)
	case theirs.Before(began):
		return theirs.Sub(began)
	}
	return 0
}

func (s Site) question(name string) *probe.Look {
	l := &probe.Look{Ports: endpoints(s.Deployment, name)}
	for _, h := range s.Deployment.Members {
		l.Names = append(l.Names, h.Name)
		if net.ParseIP(h.Address) == nil {
			l.Names = append(l.Names, h.Address)
		}
	}
	for _, v := range s.Deployment.VIP {
		l.Addresses = append(l.Addresses, v.Address)
	}
	if v := s.Deployment.PostgreSQL; v != 0 {
		for _, system := range distro.Systems {
			l.Packages = append(l.Packages, system.Server(strconv.Itoa(v))[0]) // by any name that it may have there
		}
		slices.Sort(l.Packages)
		l.Packages = slices.Compact(l.Packages)
	}
	slices.Sort(l.Names)
	l.Names = slices.Compact(l.Names)
	return l
}

// endpoints are all that a member listens on.
func endpoints(d config.Deployment, name string) []probe.Endpoint {
	m := d.Node(name).Self()
	at := func(network string, port int) probe.Endpoint {
		return probe.Endpoint{Network: network, Address: net.JoinHostPort(m.Address, strconv.Itoa(port))}
	}
	out := []probe.Endpoint{at("udp", m.Ports.Beat)}
	for _, port := range tcpPorts(d, name) {
		out = append(out, at("tcp", port))
	}
	return out
}

// paths opens every port on every host and tries it from all others. It returns what was not reached, by "network address".
func (r *Report) paths(ctx context.Context, s Site) (map[path][]string, error) {
	open := map[string][]probe.Endpoint{}
	var releases []func() error
	defer func() {
		for _, release := range releases {
			_ = release() // the ports close with the connection at the latest
		}
	}()
	for _, h := range s.Deployment.Members {
		f, ok := r.Facts[h.Name]
		if !ok {
			continue
		}
		beat := ":" + strconv.Itoa(s.Deployment.Node(h.Name).Self().Ports.Beat)
		wanted := slices.DeleteFunc(endpoints(s.Deployment, h.Name), func(e probe.Endpoint) bool {
			return f.Ports[e.String()] != "" || f.Found.Running && strings.HasSuffix(e.Address, beat) // a member's beats answer no strangers
		})
		if f.Found.Running {
			open[h.Name] = wanted
			continue
		}
		a, release, err := s.Hosts[h.Name].Hold(ctx, probe.Request{Listen: wanted})
		if err != nil {
			return nil, fmt.Errorf("open the ports of %s to try them: %w", h.Name, err)
		}
		releases = append(releases, release)
		open[h.Name] = slices.DeleteFunc(wanted, func(e probe.Endpoint) bool { return a.Listen[e.String()] != "" })
	}
	return r.tryPaths(ctx, s, open)
}

// refused is how the kernel tells of a port that was reached and that nobody listens on: of a member that runs, PostgreSQL may be on its way.
const refused = "connection refused"

func (r *Report) tryPaths(ctx context.Context, s Site, open map[string][]probe.Endpoint) (map[path][]string, error) {
	var mu sync.Mutex
	var wait sync.WaitGroup
	blocked := map[path][]string{}
	var failed error
	for from := range r.Facts {
		var targets []probe.Endpoint
		for to, list := range open {
			if to != from {
				targets = append(targets, list...)
			}
		}
		wait.Go(func() {
			a, err := s.Hosts[from].Ask(ctx, probe.Request{Dial: targets})
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed = fmt.Errorf("try the others' ports from %s: %w", from, err)
			}
			for to, list := range open {
				for _, e := range list {
					if why := a.Dial[e.String()]; to != from && why != "" && !(r.Facts[to].Found.Running && strings.Contains(why, refused)) {
						blocked[path{from, to}] = append(blocked[path{from, to}], e.String())
					}
				}
			}
		})
	}
	wait.Wait()
	for _, from := range s.Deployment.Members {
		for _, to := range s.Deployment.Members {
			if list := blocked[path{from.Name, to.Name}]; len(list) > 0 {
				r.add(Fail, to.Name, "reachable from "+from.Name, fmt.Sprintf("let %s in through %s's firewall on these ports: standfast plan --firewall ufw (or firewalld, nft) prints the rules", from.Address, to.Name), fmt.Sprintf("no answer on %s", several(list)))
			}
		}
	}
	if len(blocked) == 0 && len(open) > 1 {
		r.add(Pass, "", "ports", "", "every member's ports can be reached from the others")
	}
	return blocked, failed
}
