package node

import (
	"cmp"
	"slices"
	"time"

	"standfast/cluster"
	"standfast/decide"
)

// How floating addresses change hands. Nobody takes one from a member that is heard and says that it has it: whoever has
// an address decides by itself when to let go, so that the members' different views of the same moment don't make two
// of them take it, or make it go to and fro.
const (
	// handOver bounds how long a member that should have the primary's address waits for another to let go of it. Longer
	// is not worth it: that one should know by now.
	handOver = 500 * time.Millisecond
	fresh    = 250 * time.Millisecond // a beat that is older says nothing about who lets go

	readable = 2 * time.Second // a standby that can't serve reads keeps its address for this long: an election lasts less
	lonely   = 3 * time.Second // no standby serves reads for this long: the primary takes the readers' address
	company  = 5 * time.Second // a standby serves reads for this long: the primary lets go of it again
)

// follower decides whether this member should hold one address. It is a function of what the member sees and of what it
// has seen before, by the View's clock; it does nothing itself.
type follower struct {
	ip      string
	used    bool // another member has held it since this agent started
	claimed bool
	here    bool // it is on this host, left by an earlier agent, and not claimed

	// Of an address that follows the primary.
	since   cluster.Instant // since when this member should have it; 0: it should not
	target  bool            // it has it as the target of a switchover, ahead of its reign
	yielded bool            // Yield has come, and no view since in which this member is not admitted

	// Of one that follows a standby.
	served  cluster.Instant // when this member could last serve reads
	alone   cluster.Instant // since when no standby serves reads; 0: one does
	joined  cluster.Instant // since when one does; 0: none does
	primary bool            // it has it for want of a standby
}

// yield lets go of the address: this member stops to serve now, whatever views from a moment ago say.
func (f *follower) yield() {
	f.claimed, f.target, f.yielded, f.primary, f.since = false, false, true, false, 0
}

// followPrimary reports whether this member should hold the address that follows the primary: while it lets clients in as
// the primary of the newest term and hears a majority, or as the target of a switchover that has begun, so that new
// connections wait where they will be served.
func (f *follower) followPrimary(v cluster.View, r cluster.Route) bool {
	f.look(v)
	if f.yielded && v.Admitted == 0 {
		f.yielded = false
	}
	if !f.due(v, r) {
		f.claimed, f.since = false, 0
		return false
	}
	if f.since == 0 {
		f.since = v.Now
	}
	if !f.claimed && v.Now-f.since < handOver && holder(v, f.ip, fresh) != "" {
		return false
	}
	f.claimed = true
	return true
}

func (f *follower) due(v cluster.View, r cluster.Route) bool {
	h := decide.Holder(v.State, v.Request)
	target := f.target
	f.target = false
	switch {
	case f.yielded || noMajority(r):
		return false
	case h == v.Self && reigns(v, r):
		return true
	case h == v.Self && v.Request != nil && v.State.Primary != v.Self && v.State.Term == r.Term:
		f.target = true // of a switchover that has begun: see decide.Holder
	case target && (h == "" || h == v.Self):
		f.target = true // its election is under way
	}
	return f.target
}

// reigns: this member lets clients in as the primary of the newest term, and hears a majority.
func reigns(v cluster.View, r cluster.Route) bool {
	return v.Admitted != 0 && v.Admitted == r.Term && r.Write == v.Self
}

// noMajority: decide.Route sends clients nowhere, and has none wait, only if no majority is heard.
func noMajority(r cluster.Route) bool { return r.Write == "" && !r.Hold }

// resumes reports whether the address, which an earlier agent of this member has left here, may stay until this one knows whether
// to claim it: as long as nothing says that it is another's. How long that may take at most is vip.Inherit's to say.
func (f *follower) resumes(v cluster.View, r cluster.Route, standby bool) bool {
	switch {
	case f.yielded || holder(v, f.ip, fresh) != "":
		return false
	case v.State == nil:
		return true
	case standby:
		return v.State.Term >= r.Term
	}
	return v.State.Primary == v.Self && v.State.Phase == cluster.Reigning && v.State.Term >= r.Term && decide.Holder(v.State, v.Request) == v.Self
}

// look notes whether anybody holds the address.
func (f *follower) look(v cluster.View) {
	if !f.used {
		f.used = holder(v, f.ip, v.Settings.Lease) != ""
	}
}

// holder is another member that says it holds the address, and was heard not longer ago than that; "" if none.
func holder(v cluster.View, ip string, within time.Duration) string {
	for _, m := range v.Members {
		p, ok := v.Peers[m.Name]
		if ok && p.Heard > 0 && v.Now-p.Heard < within && slices.Contains(p.Beat.Addresses, ip) {
			return m.Name
		}
	}
	return ""
}

// followStandby reports whether this member should hold an address for reading: the best standby that can serve reads, by
// priority and name, once nobody else has it; the primary while there is none. Who has it keeps it as long as it can.
func (f *follower) followStandby(v cluster.View, r cluster.Route) bool {
	f.look(v)
	f.time(v, r)
	if f.yielded && v.Admitted == 0 {
		f.yielded = false
	}
	other := holder(v, f.ip, v.Settings.Detect)
	switch {
	case f.yielded || noMajority(r):
		f.claimed = false
	case f.claimed:
		f.claimed = f.keeps(v, r, other)
	case other == "":
		f.claimed = f.takes(v, r) || f.here && serves(r, v.Self)
	}
	f.primary = f.primary && f.claimed
	return f.claimed
}

// time measures since when standbys, and this one, can serve reads.
func (f *follower) time(v cluster.View, r cluster.Route) {
	if serves(r, v.Self) {
		f.served = v.Now
	}
	switch {
	case len(r.Reads) > 0:
		f.alone = 0
		if f.joined == 0 {
			f.joined = v.Now
		}
	default:
		f.joined = 0
		if f.alone == 0 {
			f.alone = v.Now
		}
	}
}

func (f *follower) keeps(v cluster.View, r cluster.Route, other string) bool {
	me := serves(r, v.Self)
	if me {
		f.primary = false
	}
	switch {
	case f.primary:
		return reigns(v, r) && !(f.joined > 0 && v.Now-f.joined >= company)
	case other != "" && serves(r, other) && (!me || better(v, other, v.Self)):
		return false // both have taken it at the same moment
	case me || v.Now-f.served < readable:
		return true
	case len(r.Reads) > 0:
		return false // another can
	}
	f.primary = reigns(v, r) // it has been promoted itself
	return f.primary || v.Now-f.alone < lonely
}

func (f *follower) takes(v cluster.View, r cluster.Route) bool {
	if len(r.Reads) == 0 {
		f.primary = reigns(v, r) && (f.here || v.Now-f.alone >= lonely)
		return f.primary
	}
	for _, t := range r.Reads {
		if t.Name != v.Self && better(v, t.Name, v.Self) {
			return false
		}
	}
	return serves(r, v.Self)
}

func serves(r cluster.Route, name string) bool {
	return slices.ContainsFunc(r.Reads, func(t cluster.ReadTarget) bool { return t.Name == name })
}

// better orders the standbys for reading: the member of higher priority, then the first by name.
func better(v cluster.View, a, b string) bool {
	rank := func(name string) int {
		for _, m := range v.Members {
			if m.Name == name {
				return m.Priority
			}
		}
		return -1
	}
	return cmp.Or(cmp.Compare(rank(b), rank(a)), cmp.Compare(a, b)) < 0
}
