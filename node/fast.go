package node

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"standfast/cluster"
	"standfast/config"
	"standfast/redirect"
)

// attend keeps the fast path as it should be and answers conflicts.
func (a *addresses) attend(ctx context.Context) {
	a.noteFast(a.cleanFast())
	tick := time.NewTicker(checkPace)
	defer tick.Stop()
	for {
		if a.idle() {
			tick.Stop()
		} else {
			tick.Reset(checkPace)
		}
		select {
		case <-ctx.Done():
			if err := a.cleanFast(); err != nil {
				a.log.Error("remove the fast path", "error", err)
			}
			return
		case c := <-a.float.Conflicts():
			// Whoever has an older term drops it by itself; whoever is right says so again, so that clients find it.
			a.log.Warn("another host announces a floating address that is held here", "address", c.IP, "mac", c.MAC.String())
			a.float.Announce(c.IP)
			a.wake()
		case <-a.kick:
			a.noteFast(a.setFast())
		case <-tick.C:
			a.noteFast(a.setFast())
		}
	}
}

// cleanFast removes the table, an earlier run's too. Where the fast path is not wanted there may be no nftables at all.
func (a *addresses) cleanFast() error {
	if err := a.table.Close(); a.wanted() {
		return err
	}
	return nil
}

// idle: there is no fast path to look after.
func (a *addresses) idle() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.rules) == 0 && a.fastErr == nil
}

func (a *addresses) setFast() error {
	a.mu.Lock()
	rules := a.rules
	a.mu.Unlock()
	if err := a.table.Set(rules); err != nil {
		return err
	}
	return a.table.Check()
}

func (a *addresses) noteFast(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil && (a.fastErr == nil || a.fastErr.Error() != err.Error()) {
		a.log.Warn("the fast path is off", "error", err)
	}
	a.fastErr = err
}

// fast is the rule for an address that is held here: while PostgreSQL serves what the address is for, and the router would
// not have new connections wait.
func (a *addresses) fast(i int, ip netip.Addr, v cluster.View, r cluster.Route) (redirect.Rule, bool) {
	ports := a.cfg.Self().Ports
	port, ok := ports.Write, reigns(v, r) && !r.Hold
	if a.cfg.VIP[i].Follows == config.FollowsStandby {
		bound := a.lag()
		port, ok = ports.Read, slices.ContainsFunc(r.Reads, func(t cluster.ReadTarget) bool {
			return t.Name == v.Self && (bound == 0 || t.Lag <= bound)
		})
	}
	if !ok || !a.wanted() || !a.server.IsValid() {
		return redirect.Rule{}, false
	}
	return redirect.Rule{From: netip.AddrPortFrom(ip, uint16(port)), To: netip.AddrPortFrom(a.server, uint16(ports.Postgres))}, true
}

func (a *addresses) poke() {
	select {
	case a.kick <- struct{}{}:
	default:
	}
}
