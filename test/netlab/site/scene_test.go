//go:build e2e

package site_test

import (
	"cmp"
	"context"
	"os"
	"slices"
	"testing"
	"time"

	"standfast/playground/load"
	"standfast/test/netlab"
	"standfast/test/netlab/site"
	"standfast/test/system/rig"
)

// scene is one test's cluster with clients at work on the lab's client: two that know all hosts, as libpq's multi-host strings
// do, two that know the floating address, and one for each host that knows only that one's port 5000.
type scene struct {
	t        *testing.T
	primary  *netlab.Host // at the beginning
	term     uint64       // likewise
	writers  []*writer
	anywhere []*writer // those of them that are to be served while any host is away
}

type writer struct {
	*load.Run
	name string
	base time.Time // when Run's clock began
}

// begin sets clients to work on a whole cluster and returns when all of them have been served.
func begin(t *testing.T) *scene {
	t.Helper()
	if all.Err() != nil {
		t.Fatal("interrupted")
	}
	primary, term, err := cluster.AwaitWhole(all, healTime)
	ok(t, err)
	s := &scene{t: t, primary: primary, term: term}
	t.Cleanup(func() {
		s.stop()
		if t.Failed() {
			keepLogs(t)
		}
		for _, h := range cluster.Lab.Hosts { // whatever a failed test has left
			_, _ = h.ContinueDisk(all), h.FreeDisk() // an error says that nothing was wrong with it
			if h.Up() {
				ok(t, h.Resume(all))
			} else {
				ok(t, h.Boot(all))
			}
		}
		ok(t, cluster.Lab.Heal(all))
	})
	s.write("all hosts", 2, cluster.DSN(site.WritePort, append(s.standbys(), primary)...)) // the victim last, or every attempt would wait for it
	s.write("the floating address", 2, cluster.FloatingDSN(site.WritePort))
	s.anywhere = slices.Clone(s.writers)
	for _, h := range cluster.Lab.Hosts {
		s.write(h.Name, 1, cluster.DSN(site.WritePort, h))
	}
	s.flow(s.writers...)
	return s
}

// think is a client's pause between commits: the machines' processors are to be left for what is tested.
const think = 10 * time.Millisecond

// patience is a client's with one commit: longer than the lease, after which a primary that is cut off has cut its sessions. A
// client that gives up earlier cancels its commit's wait for another host, and PostgreSQL then shows the row on the old
// primary, so that trying the same row again there changes nothing, waits for nobody, and succeeds ("Known holes" in
// docs/RELIABILITY.md; seen with 5 s).
const patience = 15 * time.Second

func (s *scene) write(name string, clients int, dsn string) {
	s.t.Helper()
	run, err := load.Start(all, load.Config{DSN: dsn, Clients: clients, Timeout: patience, Think: think, Dial: cluster.Lab.Dial})
	if err != nil {
		s.t.Fatalf("write through %s: %v", name, err)
	}
	s.writers = append(s.writers, &writer{run, name, time.Now().Add(-run.Elapsed())})
}

func (s *scene) standbys() []*netlab.Host {
	return slices.DeleteFunc(slices.Clone(cluster.Lab.Hosts), func(h *netlab.Host) bool { return h == s.primary })
}

// flow waits until clients are served again.
func (s *scene) flow(writers ...*writer) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(all, healTime)
	defer cancel()
	for _, w := range writers {
		for seen := len(w.Ops()); load.Count(w.Since(seen))[load.Acknowledged] < 10; time.Sleep(10 * time.Millisecond) {
			if ctx.Err() != nil {
				ops := w.Ops()
				s.t.Fatalf("nothing is acknowledged through %s: %+v", w.name, ops[max(0, len(ops)-2):])
			}
		}
	}
}

// emptied waits until no process of PostgreSQL is left on a host: its guard ends them when the lease has run out.
func (s *scene) emptied(h *netlab.Host) {
	s.t.Helper()
	began := time.Now()
	for {
		pids, err := site.PIDs(h, site.Postgres)
		ok(s.t, err)
		if len(pids) == 0 {
			s.t.Logf("no process of PostgreSQL was left on %s after %.1f s more", h.Name, time.Since(began).Seconds())
			return
		}
		if time.Since(began) > soon {
			s.t.Fatalf("%d processes of PostgreSQL are left on %s after %.1f s", len(pids), h.Name, time.Since(began).Seconds())
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// reign waits for a primary of a newer term.
func (s *scene) reign(within time.Duration) {
	s.t.Helper()
	ok(s.t, cluster.Await(all, within, "a new primary reigns", rig.Reigns(s.term)))
}

// end waits until the cluster is whole with no command given and every client is served, and passes judgement: nothing that
// was acknowledged is lost, and no two servers acknowledged at the same time.
func (s *scene) end() (primary *netlab.Host, term uint64) {
	s.t.Helper()
	began := time.Now()
	primary, term, err := cluster.AwaitWhole(all, healTime)
	ok(s.t, err)
	s.t.Logf("whole after %.1f s, %s reigns in term %d", time.Since(began).Seconds(), primary.Name, term)
	s.flow(s.writers...)
	s.stop()
	gone := 0
	for _, w := range s.writers {
		lost, err := w.Lost(all, cluster.DSN(site.WritePort, primary))
		ok(s.t, err)
		if gone += len(lost); len(lost) > 0 {
			s.t.Errorf("%d acknowledged commits lost that were written through %s", len(lost), w.name)
		}
	}
	merged := s.merged()
	for _, o := range load.Overlaps(merged) {
		s.t.Errorf("two servers acknowledged at the same time: %+v after %+v", o.Older, o.Newer)
	}
	for _, w := range s.anywhere {
		ops := w.Ops()
		s.t.Logf("writes were out for %d ms through %s", load.LongestGap(ops, 0, ops[len(ops)-1].End).Length().Milliseconds(), w.name)
	}
	n := load.Count(merged)
	s.t.Logf("%d commits, %d of them lost; %d failed, %d refused, %d without a session", n[load.Acknowledged], gone, n[load.Failed], n[load.Refused], n[load.NoSession])
	return primary, term
}

// unmoved is end where nobody may have taken over.
func (s *scene) unmoved() {
	s.t.Helper()
	if primary, term := s.end(); primary != s.primary || term != s.term {
		s.t.Errorf("%s of term %d was replaced by %s of term %d, with no need", s.primary.Name, s.term, primary.Name, term)
	}
}

// moved is end where somebody else must have taken over.
func (s *scene) moved() {
	s.t.Helper()
	if primary, term := s.end(); primary == s.primary || term == s.term {
		s.t.Errorf("%s still reigns, in term %d", primary.Name, term)
	}
}

func (s *scene) stop() {
	for _, w := range s.writers {
		w.Stop()
	}
}

// merged are all writers' attempts on one clock, in the order of their ends.
func (s *scene) merged() []load.Op {
	var out []load.Op
	for _, w := range s.writers {
		shift := w.base.Sub(s.writers[0].base)
		for _, op := range w.Ops() {
			op.Begin, op.End = op.Begin+shift, op.End+shift
			out = append(out, op)
		}
	}
	slices.SortStableFunc(out, func(a, b load.Op) int { return cmp.Compare(a.End, b.End) })
	return out
}

// acknowledged counts what all clients were told so far.
func (s *scene) acknowledged() int {
	n := 0
	for _, w := range s.writers {
		n += load.Count(w.Ops())[load.Acknowledged]
	}
	return n
}

// reason is why the newest term began.
func reason(t *testing.T) string {
	t.Helper()
	st, err := cluster.Newest(all)
	ok(t, err)
	return st.Reason
}

// keepLogs keeps what the members said in a directory that it names, and shows the ends.
func keepLogs(t *testing.T) {
	t.Helper()
	dir, err := os.MkdirTemp("", "standfast-"+t.Name()+"-")
	if err != nil {
		t.Error(err)
		return
	}
	t.Log(cluster.Logs(all))
	t.Logf("the members' journals and logs are kept in %s (%v)", dir, cluster.KeepLogs(all, dir))
}
