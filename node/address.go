package node

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"standfast/api"
	"standfast/cluster"
	"standfast/config"
	"standfast/guard"
	"standfast/hooks"
	"standfast/redirect"
	"standfast/vip"
)

// addresses holds this member's floating addresses, the fast path that goes with them, and the hooks that are told.
type addresses struct {
	cfg    config.Node
	log    *slog.Logger
	lease  func() time.Duration // the claims' time
	wanted func() bool          // the fast path is
	lag    func() cluster.LSN
	wake   func() // the agent
	part   func() // tells the other members, which addresses are here, when the agent has stopped

	float *vip.Floating // nil: no floating address, or another program holds them
	seen  *sightings    // nil: none does
	flows *flows        // likewise
	table redirect.Table
	hooks *hooks.Hooks
	kick  chan struct{}
	over  chan struct{} // closed when run holds no address any more

	mu        sync.Mutex
	followers []*follower // as cfg.VIP
	rules     []redirect.Rule
	fastErr   error
	server    netip.Addr // PostgreSQL's own, for the fast path
	role      string
	now       hooks.Event // what hooks are told about the moment
	found     map[string]bool
}

const (
	checkPace    = time.Second            // between two looks at the fast path
	releaseBound = 100 * time.Millisecond // a step down waits for its addresses for this long
	conflictShow = time.Minute            // a conflict is warned of for this long
)

// openAddresses prepares what the member's file says of floating addresses and hooks.
func (n *Node) openAddresses() error {
	c := n.cfg.Hooks
	a := &addresses{
		cfg: n.cfg, log: n.log.With("part", "addresses"), kick: make(chan struct{}, 1), found: map[string]bool{},
		lease:  func() time.Duration { return time.Duration(n.agreed.get().Lease) },
		wanted: func() bool { return n.agreed.get().Router.FastPath },
		lag:    func() cluster.LSN { return cluster.LSN(n.agreed.get().Router.ReadMaxLagBytes) },
		wake:   func() { n.agent.Wake() },
		over:   make(chan struct{}),
		hooks: hooks.New(hooks.Config{Cluster: n.cfg.Cluster, Member: n.cfg.Name, OnRole: c.OnRoleChange, OnAddress: c.OnAddressChange,
			Timeout: time.Duration(c.Timeout), Log: n.log.With("part", "hooks")}),
	}
	a.part = func() { n.beats.Amend(func(b *cluster.Beat) { b.Addresses = a.held() }) }
	n.addresses = a
	if len(n.cfg.VIP) == 0 || !n.data() {
		return nil // a witness has no PostgreSQL to lead to
	}
	if n.cfg.Address != config.BuiltIn {
		a.seen = newSightings(n.cfg.VIP)
		return nil // another program holds them
	}
	var list []vip.Address
	for _, v := range n.cfg.VIP {
		ip, err := netip.ParseAddr(v.Address)
		if err != nil {
			return fmt.Errorf("floating address: %w", err)
		}
		list = append(list, vip.Address{IP: ip, Interface: v.Interface, Bits: v.Prefix})
		a.followers = append(a.followers, &follower{ip: ip.String()})
	}
	a.float = vip.New(vip.Config{Addresses: list, Members: n.memberIPs, Changed: a.changed, Log: a.log})
	a.flows = newFlows(list, a.heldIPs, n.beats.Tell, a.log)
	a.server = a.serverIP()
	return nil
}

// floatingAt are the floating addresses with a port, for the router to listen on too. One that listens everywhere does so
// already.
func (n *Node) floatingAt(port int) []string {
	if ip, err := netip.ParseAddr(n.cfg.ListenHost()); err == nil && ip.IsUnspecified() || !n.data() {
		return nil
	}
	var out []string
	for _, v := range n.cfg.VIP {
		out = append(out, net.JoinHostPort(v.Address, strconv.Itoa(port)))
	}
	return out
}

// memberIPs are the members' addresses, as far as they are given as numbers.
func (n *Node) memberIPs() []netip.Addr {
	var out []netip.Addr
	for _, m := range *n.members.Load() {
		host, _, _ := net.SplitHostPort(m.Beat)
		if ip, err := netip.ParseAddr(host); err == nil {
			out = append(out, ip)
		}
	}
	return out
}

// serverIP is where PostgreSQL listens on this host, not valid if that can't be told now.
func (a *addresses) serverIP() netip.Addr {
	for _, host := range []string{a.cfg.ListenHost(), a.cfg.Self().Address} {
		at, err := net.ResolveIPAddr("ip", host)
		if err != nil {
			continue
		}
		if ip, ok := netip.AddrFromSlice(at.IP); ok && !ip.IsUnspecified() {
			return ip.Unmap()
		}
	}
	return netip.Addr{}
}

// run holds addresses, keeps the fast path and runs hooks until ctx ends; then nothing of it is left.
func (a *addresses) run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { _ = a.hooks.Run(ctx) }) // it returns nil
	var err error
	if a.float != nil {
		wg.Go(func() {
			defer close(a.over)
			err = a.float.Run(ctx)
			a.part() // or they would wait for the lease of who said last that it holds them
		})
		wg.Go(func() { a.flows.run(ctx) })
		a.attend(ctx)
	} else {
		close(a.over)
	}
	wg.Wait()
	return err
}

// follow says which addresses this member should hold, as of this view. It is called from the agent's loop, after each
// look, and never waits. The claims end with the lease unless they are renewed, so that they end when the loop hangs.
func (a *addresses) follow(v cluster.View, r cluster.Route) {
	a.tell(v)
	if a.float == nil {
		return
	}
	held := map[netip.Addr]bool{}
	for _, ip := range a.heldIPs() {
		held[ip] = true
	}
	a.mu.Lock()
	var claims []vip.Claim
	var rules []redirect.Rule
	for i, f := range a.followers {
		ip := netip.MustParseAddr(f.ip) // openAddresses made it so
		f.here = held[ip] && !f.claimed
		if !a.wants(i, f, v, r) {
			if a.resumes(i, f, v, r) {
				claims = append(claims, vip.Claim{IP: ip, Found: true})
			}
			continue
		}
		claims = append(claims, vip.Claim{IP: ip, Ask: !f.used})
		if rule, ok := a.fast(i, ip, v, r); ok {
			rules = append(rules, rule)
		}
	}
	changed := !slices.Equal(rules, a.rules)
	a.rules = rules
	a.float.Set(claims, a.lease()) // under the lock, so that it can't come after what release does
	a.mu.Unlock()
	if changed {
		a.poke()
	}
}

func (a *addresses) wants(i int, f *follower, v cluster.View, r cluster.Route) bool {
	if a.cfg.VIP[i].Follows == config.FollowsStandby {
		return f.followStandby(v, r)
	}
	return f.followPrimary(v, r)
}

// resumes reports whether an address that is not claimed, but left here by an earlier agent, may stay for now.
func (a *addresses) resumes(i int, f *follower, v cluster.View, r cluster.Route) bool {
	return f.here && f.resumes(v, r, a.cfg.VIP[i].Follows == config.FollowsStandby)
}

// inherit keeps the addresses that an earlier agent has left, for as long as its guard would have.
func (a *addresses) inherit(left time.Duration) {
	if a.float == nil {
		return
	}
	if err := a.float.Inherit(left); err != nil {
		a.log.Warn("floating addresses may be off for a moment", "error", err)
	}
}

// stay leaves the addresses that this member has when it ends to the agent that follows. Without that one the guard takes them
// off, as it ends PostgreSQL.
func (a *addresses) stay() {
	if a.float != nil {
		a.float.Leave()
	}
}

// release takes all addresses off, first of all that is done when this member stops to serve: what follows may hang on a
// disk.
func (a *addresses) release() {
	if a.float == nil {
		return
	}
	a.mu.Lock()
	for _, f := range a.followers {
		f.yield()
	}
	a.rules = nil
	a.float.Set(nil, 0)
	a.mu.Unlock()
	a.poke()
	ctx, cancel := context.WithTimeout(context.Background(), releaseBound)
	defer cancel()
	if err := a.float.Drop(ctx); err != nil {
		a.log.Error("floating addresses are not off yet", "error", err)
	}
}

// tell lets the hook know of a new role.
func (a *addresses) tell(v cluster.View) {
	a.mu.Lock()
	e := hooks.Event{Kind: hooks.Role, Role: roleOf(v, a.role)}
	if v.State != nil {
		e.Term, e.Primary = uint64(v.State.Term), v.State.Primary
	}
	changed := a.role != e.Role
	a.role, a.now = e.Role, e
	a.mu.Unlock()
	if changed {
		a.hooks.Tell(e)
	}
}

// roleOf is this member's role in one word, for hooks. One that is being promoted stays a standby until clients are let in.
func roleOf(v cluster.View, was string) string {
	for _, m := range v.Members {
		if m.Name == v.Self && m.Kind == cluster.Witness {
			return string(api.Witness)
		}
	}
	switch {
	case v.Admitted != 0:
		return string(api.Primary)
	case v.Postgres.Up && (v.Postgres.Recovery || was == string(api.Standby)):
		return string(api.Standby)
	}
	return "none"
}

// changed is called when an address has come, gone, or failed to.
func (a *addresses) changed(s vip.Status, was bool) {
	ip := s.Address.IP.String()
	a.mu.Lock()
	e, found := a.now, a.found[ip] // with what is found here its connections are: nobody has to be let know
	a.found[ip] = s.Found
	a.mu.Unlock()
	if is := s.Held && !s.Found; is != was {
		e.Kind, e.Address, e.Interface, e.Held = hooks.Address, ip, s.Place.Interface, is
		a.hooks.Tell(e)
		switch {
		case !is:
			a.flows.left(s.Address.IP)
		case !found:
			a.flows.took(s.Address.IP)
		}
	}
	a.wake() // the others are told at once, and the guard
}

// held are the addresses that are on this host's interfaces.
func (a *addresses) held() []string {
	if a.float == nil {
		return a.seen.here(time.Now())
	}
	var out []string
	for _, ip := range a.heldIPs() {
		out = append(out, ip.String())
	}
	return out
}

// heldIPs are the same. There must be floating addresses.
func (a *addresses) heldIPs() []netip.Addr {
	var out []netip.Addr
	for _, s := range a.float.Status() {
		if s.Held {
			out = append(out, s.Address.IP)
		}
	}
	return out
}

// told takes in what another member has said of connections.
func (a *addresses) told(from string, body []byte) {
	if a.flows != nil {
		a.flows.hear(from, body)
	}
}

// guarded are the same, as the guard removes them.
func (a *addresses) guarded() []guard.Address {
	if a.float == nil {
		return nil
	}
	var out []guard.Address
	for _, s := range a.float.Status() {
		if s.Held {
			out = append(out, guard.Address{Interface: s.Place.Index, Prefix: s.Place.Prefix})
		}
	}
	return out
}

// status tells who holds each address.
func (a *addresses) status(v cluster.View) []api.Address {
	var out []api.Address
	for _, c := range a.cfg.VIP {
		ip := netip.MustParseAddr(c.Address).String() // as members write it into their beats; the file has been validated
		o := api.Address{Address: ip, Follows: string(c.Follows), Holder: holder(v, ip, v.Settings.Lease)}
		if slices.Contains(a.seen.here(time.Now()), ip) {
			o.Holder = v.Self
		}
		out = append(out, o)
	}
	if a.float == nil {
		return out
	}
	for i, s := range a.float.Status() {
		o := &out[i]
		o.Interface, o.Announced = s.Place.Interface, s.Announced
		if s.Held {
			o.Holder, o.Since = v.Self, s.Since
		}
		if s.Err != nil {
			o.Error = s.Err.Error()
		}
	}
	return out
}

// warnings are sentences for the status.
func (a *addresses) warnings() []string {
	if a.float == nil {
		return nil
	}
	var out []string
	for _, s := range a.float.Status() {
		if s.Err != nil {
			out = append(out, fmt.Sprintf("floating address %s: %v", s.Address.IP, s.Err))
		}
		if c := s.Conflict; c != nil && time.Since(c.At) < conflictShow {
			out = append(out, fmt.Sprintf("floating address %s is held here, and MAC %s announces it too: find that host and take it away there", c.IP, c.MAC))
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.fastErr != nil {
		out = append(out, fmt.Sprintf("the fast path is off: %v", a.fastErr))
	}
	return out
}
