package router

import (
	"context"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"
)

const (
	toldAhead  = 256 // sessions that have ended and are yet to be logged
	toldRate   = 50  // sessions logged one by one in a second; the rest is counted
	toldBurst  = 200
	missedEach = 10 * time.Second // how often the rest is told of
)

// stay is what is to be told of a session, noted only while Limits.LogSessions is on: it costs a system call for each.
type stay struct {
	client netip.AddrPort
	server string
	side   Side
	began  time.Time // its first message was sent to the server
	took   time.Duration
	ending string
}

// stays begins a session's stay when its server is reached. One that is given another server goes on.
func (s *session) stays(now time.Time) {
	if s.stay == nil && s.loop.r.table.limits.Load().LogSessions {
		s.stay = &stay{client: peerOf(s.client.fd), side: s.side, began: now}
	}
	if s.stay != nil {
		s.stay.server = s.seat.srv.name
	}
}

// ends notes why the session ends; the first reason counts.
func (s *session) ends(why string) {
	if s.stay != nil && s.stay.ending == "" {
		s.stay.ending = why
	}
}

// tell hands the stay to be logged. It never blocks: a log that hangs must not hold up a loop.
func (r *Router) tell(v *stay, now time.Time) {
	v.took = now.Sub(v.began)
	select {
	case r.told <- v:
	default:
		r.untold.Add(1)
	}
}

// tellStays logs sessions that have ended, until ctx ends.
func (r *Router) tellStays(ctx context.Context) {
	limit := rate.NewLimiter(toldRate, toldBurst)
	missed := time.NewTicker(missedEach)
	defer missed.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case v := <-r.told:
			if !limit.Allow() {
				r.untold.Add(1)
				continue
			}
			r.cfg.Log.Info("session ended", "client", v.client.String(), "server", v.server, "side", v.side.String(), "took", v.took.Round(time.Millisecond), "by", v.ending)
		case <-missed.C:
			if n := r.untold.Swap(0); n > 0 {
				r.cfg.Log.Info("sessions ended, too many to log each", "sessions", n, "within", missedEach)
			}
		}
	}
}

// peerOf is who the socket is connected to; the zero value if nobody any more.
func peerOf(fd int32) netip.AddrPort {
	sa, err := unix.Getpeername(int(fd))
	if err != nil {
		return netip.AddrPort{}
	}
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), uint16(sa.Port))
	}
	return netip.AddrPort{}
}
