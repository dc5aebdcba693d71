package plan

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"standfast/cluster"
	"standfast/config"
	"standfast/deploy/probe"
)

// path is the way from one member to another.
type path struct{ from, to string }

// What keeps an address from moving though the hosts are well, and what to do about it.
const (
	filtered = "have its switch or hypervisor let it answer for an address more than its own: no port security, ARP inspection or IP source guard on its port, no filter against spoofed MAC or IP addresses; where that can't be, see \"Where an address can't move\" in docs/ADDRESSES.md"
	silenced = "have switches and hypervisors let gratuitous ARP through (IPv6: unsolicited neighbour advertisements), or clients look for the address where it was for seconds after a failover"
)

// carry has each host in turn hold each floating address, and another reach it. That is only done with an address that nobody uses, and
// where no member runs yet.
func (r *Report) carry(ctx context.Context, s Site, blocked map[path][]string) error {
	for _, f := range r.Facts {
		if f.Found.Running {
			return nil
		}
	}
	for _, v := range s.Deployment.VIP {
		if !r.free(v.Address) {
			continue // and that was said
		}
		if err := r.carryOne(ctx, s, v, blocked); err != nil {
			return err
		}
	}
	return nil
}

// free: every host that answers has a place for the address where there are neighbours, and none answers for it.
func (r *Report) free(address string) bool {
	for _, f := range r.Facts {
		if found := f.VIPs[address]; found.Error != "" || found.Taken != "" || found.Interface == "lo" {
			return false
		}
	}
	return true
}

func (r *Report) carryOne(ctx context.Context, s Site, v config.VIP, blocked map[path][]string) error {
	var heard, reached time.Duration
	tried, ok := 0, true
	for _, h := range s.Deployment.Members {
		by := r.onlooker(s, h, blocked)
		if by == "" {
			continue
		}
		m, err := meet(ctx, s, v, h, by)
		if err != nil {
			return err
		}
		tried++
		ok = r.met(h.Name, by, v.Address, m) && ok
		heard, reached = max(heard, m.Heard), max(reached, m.Reached)
	}
	if ok && tried > 1 {
		r.add(Pass, "", "floating address", "", fmt.Sprintf("%s: each host carried it in turn; the others heard of it within %s and reached it within %s", v.Address, short(heard), short(reached)))
	}
	return nil
}

func short(d time.Duration) time.Duration { return d.Round(10 * time.Microsecond) }

// onlooker is a member that can tell whether h carries an address; "": there is none, or h will never hold one. It is the last of those that
// come into question, so that one and the same sees the address move.
func (r *Report) onlooker(s Site, h config.Host, blocked map[path][]string) (by string) {
	if _, answers := r.Facts[h.Name]; !answers || h.Kind == cluster.Witness {
		return ""
	}
	bell := probe.Endpoint{Network: "udp", Address: beat(s, h)}
	for _, o := range s.Deployment.Members {
		_, answers := r.Facts[o.Name]
		if answers && o.Name != h.Name && !slices.Contains(blocked[path{o.Name, h.Name}], bell.String()) {
			by = o.Name
		}
	}
	return by
}

// beat is where a member's heartbeats arrive.
func beat(s Site, h config.Host) string {
	return net.JoinHostPort(h.Address, strconv.Itoa(s.Deployment.Node(h.Name).Self().Ports.Beat))
}

// meet has h carry the address for as long as it takes by to reach it.
func meet(ctx context.Context, s Site, v config.VIP, h config.Host, by string) (probe.Met, error) {
	c := probe.Carry{Address: v.Address, Interface: v.Interface, Prefix: v.Prefix, At: beat(s, h)}
	a, release, err := s.Hosts[h.Name].Hold(ctx, probe.Request{Carry: &c})
	if err != nil {
		return probe.Met{}, fmt.Errorf("have %s carry %s: %w", h.Name, v.Address, err)
	}
	m := probe.Met{Error: a.Carry}
	if a.Carry == "" {
		var b probe.Answer
		if b, err = s.Hosts[by].Ask(ctx, probe.Request{Meet: &probe.Meet{Carry: c}}); err == nil && b.Meet != nil {
			m = *b.Meet
		}
	}
	ended := release()
	switch {
	case err != nil:
		return m, fmt.Errorf("look from %s for %s on %s: %w", by, v.Address, h.Name, err)
	case ended != nil:
		return m, fmt.Errorf("take %s off %s again, where it stays for %s at most: %w", v.Address, h.Name, probe.CarryTime, ended)
	}
	return m, nil
}

// met judges how it went.
func (r *Report) met(carrier, by, address string, m probe.Met) bool {
	const check = "floating address"
	switch {
	case m.Error != "":
		r.add(Fail, carrier, check, "see what it says; nothing of the trial is left", fmt.Sprintf("can't carry %s for a trial: %s", address, strings.TrimSpace(m.Error)))
	case m.Reached == 0:
		r.add(Fail, carrier, check, filtered, fmt.Sprintf("carried %s, and %s did not reach it", address, by))
	case m.Heard == 0:
		r.add(Warn, carrier, check, silenced, fmt.Sprintf("carried %s, and %s did not hear it announced: it reached it after %s", address, by, short(m.Reached)))
	default:
		return true
	}
	return false
}
