package router

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	bufferSize  = 64 << 10 // one per loop, used by all of its sessions
	batch       = 256      // events taken at once
	rounds      = 16       // buffers moved for one session before the others have their turn
	acceptBatch = 16       // connections accepted before the sessions have their turn
	tickEvery   = 25 * time.Millisecond
	acceptPause = 100 * time.Millisecond // without a free file
	busyWait    = 20 * time.Millisecond  // see loop.wait

	watched = unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET&0xffffffff
	closed  = unix.EPOLLRDHUP | unix.EPOLLHUP | unix.EPOLLERR
)

// loop carries a share of the sessions on one thread. Sockets are watched edge-triggered for everything, once, so that
// a message costs three system calls: wait, read, write.
type loop struct {
	r      *Router
	id     int
	ep     int
	wakeup int // eventfd
	events [batch]unix.EpollEvent
	buf    []byte
	spare  [][]byte // buffers for what a slow reader could not take

	ends     []*end // by socket
	gen      int32
	sessions []*session
	pending  []*session // those with a deadline: all that do not relay yet
	again    []*end     // had their rounds and may have more

	seen     uint64 // epoch of the route applied
	grace    bool   // some sessions are in their grace: apply the route again at each tick
	ticked   time.Time
	deafTill time.Time // accepting is paused until then; zero: it is not

	load atomic.Int32 // sessions, for the others to compare

	mu    sync.Mutex
	mail  []letter
	rung  atomic.Bool // the eventfd has been written and not read yet
	ended bool        // guarded by mu: nobody reads mail any more
}

// letter is what a loop is told by another goroutine.
type letter struct {
	kind   letterKind
	s      *session
	choice choice
	fd     int32
	side   Side
}

type letterKind uint8

const (
	letterVerdict letterKind = iota // the table's, for a session that waited
	letterAdopt                     // a connection that another loop has accepted
)

func newLoop(r *Router, id int) (*loop, error) {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("router: create epoll: %w", err)
	}
	wakeup, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		unix.Close(ep)
		return nil, fmt.Errorf("router: create eventfd: %w", err)
	}
	l := &loop{r: r, id: id, ep: ep, wakeup: wakeup, buf: make([]byte, bufferSize)}
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(wakeup)}
	if err := unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, wakeup, &ev); err != nil {
		l.close()
		return nil, fmt.Errorf("router: watch eventfd: %w", err)
	}
	return l, nil
}

func (l *loop) close() {
	unix.Close(l.ep)
	unix.Close(l.wakeup)
}

// hear watches the listeners, or stops doing so. Every loop watches all of them; the kernel wakes one.
func (l *loop) hear(on bool) {
	for _, ln := range l.r.listeners {
		op, ev := unix.EPOLL_CTL_ADD, unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLEXCLUSIVE, Fd: ln.fd}
		if !on {
			op = unix.EPOLL_CTL_DEL
		}
		if err := unix.EpollCtl(l.ep, op, int(ln.fd), &ev); err != nil {
			l.r.cfg.Log.Error("router: watch listener", "addr", ln.addr.String(), "err", err)
		}
	}
}

// run serves until the router stops. The thread is the loop's own: its wake-ups then cost no more than the kernel's.
func (l *loop) run() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	l.hear(true)
	for !l.r.stopping.Load() {
		for i := range l.wait() {
			if l.r.table.epoch.Load() != l.seen {
				l.apply()
			}
			l.handle(&l.events[i])
		}
		l.resume()
		if len(l.pending) > 0 || l.grace || !l.deafTill.IsZero() {
			l.tick(time.Now())
		}
	}
	l.shut()
}

// wait returns how many events there are; none when a tick is due, or for no reason.
//
// A busy loop waits behind the scheduler's back for a while, keeping its processor. Where the scheduler knows that a
// thread waits in the kernel, its monitor takes the processor away, wakes other threads to see to it and looks again
// every 20 µs: twice the cost of a short connection. Nobody is held up by it: to stop the world, or after 10 ms for any
// other goroutine, the runtime signals the thread, which ends the wait. A loop that has had nothing to do waits in
// the ordinary way and costs nothing.
func (l *loop) wait() int {
	timeout := -1
	switch {
	case len(l.again) > 0:
		timeout = 0
	case len(l.pending) > 0 || l.grace || !l.deafTill.IsZero():
		timeout = int(tickEvery.Milliseconds())
	}
	busy := int(busyWait.Milliseconds())
	if timeout >= 0 {
		busy = min(busy, timeout)
	}
	n, errno := poll(l.ep, l.events[:], busy)
	switch {
	case errno != 0: // EINTR: perhaps the runtime wants the processor; it gets it on the way back here
		return 0
	case n > 0 || timeout == 0:
		return n
	}
	n, err := unix.EpollWait(l.ep, l.events[:], timeout)
	if err != nil {
		return 0 // EINTR
	}
	return n
}

func (l *loop) handle(ev *unix.EpollEvent) {
	if ev.Pad == 0 {
		if ev.Fd == int32(l.wakeup) {
			l.readMail()
		} else {
			l.accept(ev.Fd)
		}
		return
	}
	e := l.ends[ev.Fd]
	if e == nil || e.gen != ev.Pad {
		return // closed earlier in this batch
	}
	if ev.Events&(unix.EPOLLIN|closed) != 0 {
		e.readable = true
	}
	if ev.Events&closed != 0 {
		e.hup = true
	}
	switch s := e.s; s.phase {
	case phaseSent, phaseRelay:
		if ev.Events&unix.EPOLLERR != 0 && e == &s.client && len(s.server.out) > 0 {
			s.ends(ended("the client", unix.ECONNRESET))
			l.drop(s) // a client that has reset; its server may be long in taking what it sent before
			return
		}
		if len(e.out) > 0 && ev.Events&(unix.EPOLLOUT|closed) != 0 {
			l.flush(e)
		}
		if e.readable && s.phase != phaseGone {
			l.pump(e)
		}
	case phaseFirst:
		l.readFirst(s)
	case phaseWait, phaseDial:
		if e == &s.server {
			l.finishDial(s)
		} else if e.hup {
			l.drop(s) // whoever waits need not be served any more
		}
	}
}

// post leaves a letter; it never blocks. False: the loop has ended.
func (l *loop) post(m letter) bool {
	l.mu.Lock()
	ended := l.ended
	if !ended {
		l.mail = append(l.mail, m)
	}
	l.mu.Unlock()
	l.ring()
	return !ended
}

// ring wakes the loop: there is mail, or a new route, or the end.
func (l *loop) ring() {
	if !l.rung.Swap(true) {
		var one [8]byte
		binary.NativeEndian.PutUint64(one[:], 1)
		unix.Write(l.wakeup, one[:]) // fails only when the counter is full: then it is rung already
	}
}

func (l *loop) readMail() {
	var count [8]byte
	unix.Read(l.wakeup, count[:])
	l.rung.Store(false)
	l.mu.Lock()
	mail := l.mail
	l.mail = nil
	l.mu.Unlock()
	for _, m := range mail {
		if m.kind == letterAdopt {
			l.adopt(m.fd, m.side)
		} else {
			l.verdict(m.s, m.choice)
		}
	}
	if l.r.table.epoch.Load() != l.seen {
		l.apply()
	}
}

// apply brings the sessions in line with the newest route.
func (l *loop) apply() {
	l.seen = l.r.table.epoch.Load()
	v, now, grace := l.r.table.view.Load(), time.Now(), l.r.table.limits.Load().ReadGrace
	l.grace = len(v.leaving) > 0 && grace > 0
	lost, why := 0, ""
	for i := len(l.sessions) - 1; i >= 0; i-- {
		s := l.sessions[i]
		if s.phase != phaseDial && s.phase != phaseSent && s.phase != phaseRelay {
			continue
		}
		if v.keeps(&s.seat, now, grace) {
			continue
		}
		if s.phase != phaseRelay && s.first != nil {
			l.reassign(s)
			continue
		}
		lost++
		why = s.seat.lostWhy()
		l.r.cuts[s.side].Add(1)
		l.cutOff(s, why)
	}
	if lost > 0 {
		l.r.cfg.Log.Info("router: sessions cut", "sessions", lost, "term", v.route.Term, "primary", v.route.Write, "why", why)
	}
}

func (s *seat) lostWhy() string {
	if s.primary {
		return s.srv.name + " is no longer the primary; connect again to reach the new one"
	}
	return s.srv.name + " no longer serves reads as a standby; connect again to reach another"
}

// tick looks at deadlines and gives those who wait another chance.
func (l *loop) tick(now time.Time) {
	if now.Sub(l.ticked) < tickEvery {
		return
	}
	l.ticked = now
	if !l.deafTill.IsZero() && now.After(l.deafTill) {
		l.deafTill = time.Time{}
		l.hear(true)
	}
	if l.grace {
		l.apply()
	}
	waiting := false
	for i := len(l.pending) - 1; i >= 0; i-- {
		s := l.pending[i]
		waiting = waiting || s.phase == phaseWait
		if now.After(s.deadline) || s.phase == phaseDial && now.After(s.attempt) {
			l.late(s, now)
		}
	}
	if waiting {
		l.r.table.retry(now)
	}
}

// resume goes on with the sessions that had more to move than one turn allows.
func (l *loop) resume() {
	if len(l.again) == 0 {
		return
	}
	if l.r.table.epoch.Load() != l.seen {
		l.apply()
	}
	turn := l.again
	l.again = nil
	for _, e := range turn {
		e.again = false
		if e.s.phase != phaseGone {
			l.pump(e)
		}
	}
}

// shut ends everything the loop holds, once nothing may be served any more.
func (l *loop) shut() {
	for len(l.sessions) > 0 {
		l.cutOff(l.sessions[len(l.sessions)-1], l.r.farewell())
	}
	l.mu.Lock()
	l.ended = true
	mail := l.mail
	l.mail = nil
	l.mu.Unlock()
	for _, m := range mail {
		if m.kind == letterAdopt {
			unix.Close(int(m.fd))
			l.r.open.Add(-1)
		}
	}
}
