package sim

import (
	"slices"
	"time"

	"standfast/cluster"
)

// server is one life of PostgreSQL on a host: a postmaster and its processes.
type server struct {
	h        *host
	dead     bool // no process is left
	orphan   bool // the postmaster is dead, its children live on
	stopping bool // a fast stop is under way: no sessions any more
	recovery bool
	inPlace  bool // something else started it, before there was a cluster
	up       bool

	// As a primary.
	br       *branch
	term     cluster.Term // in which it was promoted (known to the world only)
	insert   *rec         // end of WAL in memory
	flushing bool
	conf     cluster.Rule // synchronous_standby_names as a new process reads them
	changes  int          // how often the names changed
	waits    bool         // the checkpointer's flag: do backends wait at all
	named    cluster.LSN  // flushed here when conf was in force everywhere
	released cluster.LSN  // up to here commits no longer wait
	commits  []*commit
	senders  []*sender
	visible  *rec // the end of what a reader may see that nobody had to guess
	hba      bool // clients may connect
	holding  bool // a handover lets nobody new in
	sessions []*session

	// As a standby.
	replayed  *rec
	replaying bool
	streamed  bool
	recv      *receiver
	told      bool // to promote itself, which it does in its own time
}

// commit is one transaction on its way to its client.
type commit struct {
	r    *rec
	done func(ok bool) // nil: nobody waits
}

func (s *server) after(d time.Duration, fn func()) {
	s.h.w.push(event{at: s.h.w.now + d, fn: fn, h: s.h, s: s, proc: pgProc})
}

// accepting reports whether the postmaster takes connections.
func (s *server) accepting() bool {
	return s != nil && !s.dead && !s.orphan && s.up && !s.stopping && s.h.on
}

// startStandby starts PostgreSQL on the host's data, reading its WAL from an earlier checkpoint.
func (h *host) startStandby() *server {
	s := &server{h: h, recovery: true, conf: h.disk.names}
	h.pg = s
	if end := h.disk.wal; end != nil {
		s.replayed = end.up(max(0, end.depth-h.w.rng.IntN(20)))
	}
	s.after(h.w.between(5*ms, 60*ms), func() {
		s.up = true
		s.event()
		s.replay()
	})
	return s
}

// runs has a primary run on the host that something else started, for which clients wait on nobody, and that has failed over before.
func (h *host) runs() {
	before := &branch{tl: 2, system: h.name}
	root := (*rec)(nil).after(before, 0)
	br := root.forkTo(3)
	h.disk.data, h.disk.wal, h.disk.highest, h.disk.names = cluster.DataReady, root.after(br, 100), 3, cluster.NewRule(0)
	h.pg = &server{h: h, up: true, inPlace: true, br: br, insert: h.disk.wal, visible: h.disk.wal, conf: h.disk.names, term: 1, hba: true}
	h.w.truth.promoted(h.pg, false)
}

// event wakes the agent: something about the server changed.
func (s *server) event() {
	if s.h.agent != nil {
		s.h.agent.wake()
	}
}

// die ends every process. Told: the sockets are closed by the kernel; otherwise nobody notices.
func (s *server) die(told bool) {
	if s.dead {
		return
	}
	s.dead, s.up = true, false
	for _, x := range slices.Clone(s.senders) {
		x.end(told)
	}
	s.cut()
	s.commits = nil
	if s.recv != nil && s.recv.st != nil {
		s.recv.st.close()
	}
	if told {
		s.event()
	}
}

// orphaned is the postmaster's death alone: its children go on until somebody kills them.
func (s *server) orphaned() {
	s.orphan, s.up = true, false
	s.event()
	s.after(s.h.w.between(time.Second, 8*time.Second), func() { s.h.kill() })
}

// cut ends all sessions. Their commits that wait are neither acknowledged nor undone.
func (s *server) cut() {
	for _, x := range s.sessions {
		x.closed = true
	}
	s.sessions = nil
	s.commits = slices.DeleteFunc(s.commits, func(c *commit) bool { return c.done != nil })
}

// shutdown is a fast stop: sessions end, senders send the rest and the shutdown checkpoint, then all is gone.
func (s *server) shutdown() {
	if s.stopping {
		return
	}
	s.stopping, s.hba = true, false
	s.cut()
	if !s.recovery && !s.orphan {
		s.write(nil)
	}
	tries := 0
	var wait func()
	wait = func() {
		tries++
		busy := !s.recovery && slices.ContainsFunc(s.senders, func(x *sender) bool { return x.live && x.flush < s.insert.lsn })
		if (busy || s.h.stalled) && tries < 200 {
			s.after(5*ms, wait)
			return
		}
		s.h.kill()
	}
	s.after(s.h.w.between(5*ms, 40*ms), wait)
}

// write puts a record into the WAL; done is called when its commit is acknowledged.
func (s *server) write(done func(ok bool)) *rec {
	s.insert = s.insert.after(s.br, 40+s.h.w.rng.IntN(400))
	if done != nil {
		s.commits = append(s.commits, &commit{r: s.insert, done: done})
	}
	s.flush()
	return s.insert
}

func (s *server) flush() {
	if s.flushing || s.insert == s.h.disk.wal {
		return
	}
	s.flushing = true
	target := s.insert
	s.h.sync(s.after, func() {
		s.flushing = false
		s.h.disk.wal = target
		s.h.w.archived(target)
		s.release(s.released)
		for _, x := range s.senders {
			x.push()
		}
		s.flush()
	})
}

// release acknowledges what is flushed here and lies up to lsn, or everything if backends don't wait.
func (s *server) release(lsn cluster.LSN) {
	s.released = max(s.released, lsn)
	keep := s.commits[:0]
	for _, c := range s.commits {
		if c.r.depth <= s.h.disk.wal.depth && (!s.waits || c.r.lsn <= s.released) {
			s.visible = deeper(s.visible, c.r)
			s.h.w.truth.acknowledged(s, c.r, "acknowledged")
			c.done(true)
			continue
		}
		keep = append(keep, c)
	}
	s.commits = keep
}

// cancel is a cancelled wait: told as success though nothing is proven, which the client here knows not to trust.
func (s *server) cancel() {
	if len(s.commits) > 0 {
		c := s.commits[len(s.commits)-1]
		s.commits = s.commits[:len(s.commits)-1]
		c.done(false)
	}
}

// streams reports whether the member has a live sender.
func (s *server) streams(name string) bool {
	return slices.ContainsFunc(s.senders, func(x *sender) bool { return x.name == name && x.live })
}

// reload is SIGHUP: each process reads the names when it comes to it.
func (s *server) reload() {
	s.conf = s.h.disk.names
	s.changes++
	s.named = 0
	if s.recovery {
		return
	}
	for _, x := range s.senders {
		x.s.after(s.h.w.between(0, 40*ms), func() {
			if !x.ended {
				x.rule = s.h.disk.names
				s.h.w.truth.covered()
			}
		})
	}
	s.after(s.h.w.between(0, 10*ms), func() {
		s.waits = s.h.disk.names.K > 0
		if !s.waits {
			s.release(0)
		}
		s.h.w.truth.covered()
	})
}

// names are those in force for every process, or none that could be told.
func (s *server) names() cluster.Rule {
	for _, x := range s.senders {
		if x.born < s.changes && !s.h.w.flaw(KeepOldSenders) {
			return cluster.Rule{}
		}
	}
	return s.conf
}

// knowNames notes how far WAL reaches now that the names are in force everywhere.
func (s *server) knowNames() {
	if !s.dead && !s.recovery && s.named == 0 {
		s.named = s.insert.end()
		s.flush()
	}
}

// promote makes the standby a primary on the timeline after the highest that its pg_wal knows of.
func (s *server) promote(term cluster.Term, force bool) {
	if !s.recovery {
		return // signalled twice
	}
	w, d := s.h.w, &s.h.disk
	if s.recv != nil {
		s.recv.exit()
	}
	w.restore(s.h)
	d.highest++
	s.br = d.wal.forkTo(d.highest)
	s.insert, s.recovery, s.term = d.wal, false, term
	s.waits = d.names.K > 0
	s.visible = d.wal
	w.trace(s.h.name, "promoted on timeline %d, forked at %s", s.br.tl, s.br.fork)
	w.truth.promoted(s, force)
	s.write(nil)
	s.event()
}

// restartInPlace brings a dead primary back as it was, crash recovery included and nobody asked.
func (a *agent) restartInPlace() {
	h, s := a.h, a.h.pg
	if s == nil || !s.dead || s.recovery || h.zombie || a.state == nil || a.state.Primary != h.name || a.state.Phase != cluster.Reigning {
		return
	}
	n := &server{
		h: h, up: true, br: s.br, term: s.term, insert: h.disk.wal, visible: h.disk.wal,
		conf: h.disk.names, waits: h.disk.names.K > 0, hba: true,
	}
	h.pg, a.admitted = n, a.state.Term
	if a.w.truth.newest == s {
		a.w.truth.newest = n
	}
}

// archived keeps the newest record of each branch in the archive that all hosts share.
func (w *world) archived(r *rec) {
	if !w.flaw(ArchiveOpen) {
		return
	}
	for i, a := range w.archive {
		if a.br == r.br {
			w.archive[i] = r
			return
		}
	}
	w.archive = append(w.archive, r)
}

// restore is restore_command: WAL from the shared archive, behind what is in pg_wal. Standbys of ours have none.
func (w *world) restore(h *host) {
	if !w.flaw(ArchiveOpen) {
		return
	}
	for _, a := range w.archive {
		if a != h.disk.wal && h.disk.wal.in(a) && (h.pg.recv == nil || h.pg.recv.st == nil) {
			w.truth.flushing(h, 0, a)
			h.disk.wal = a
			h.disk.highest = max(h.disk.highest, a.br.tl)
			return
		}
	}
}
