//go:build e2e

package site_test

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"standfast/playground/load"
	"standfast/test/checker"
	"standfast/test/netlab"
	"standfast/test/netlab/site"
	"standfast/test/system/rig"
)

// scene is one test's cluster with clients at work on the lab's client: writers that know all hosts, as libpq's multi-host strings
// do, others that know the floating address, and one for each host that knows only that one's port 5000; and readers beside
// them. Package checker judges what they were told.
type scene struct {
	t        *testing.T
	primary  *netlab.Host // at the beginning
	term     uint64       // likewise
	clients  *checker.Run
	writers  []*checker.Writer // of the clients
	anywhere []*checker.Writer // those of them that are to be served while any host is away

	// What end has found.
	verdict *checker.Verdict
	latest  uint64                   // term
	healed  time.Duration            // until whole, from end's beginning
	away    time.Duration            // longest time without a commit through any of anywhere
	gaps    map[string]time.Duration // likewise through each of the ways, by name
}

// begin sets clients to work on a whole cluster and returns when all of them have been served.
func begin(t *testing.T) *scene { return beginWith(t, patience) }

// beginWith is begin with clients that give up one commit after a time of the test's own.
func beginWith(t *testing.T, patience time.Duration) *scene {
	t.Helper()
	if all.Err() != nil {
		t.Fatal("interrupted")
	}
	primary, term, err := cluster.AwaitWhole(all, healTime)
	ok(t, err)
	s := &scene{t: t, primary: primary, term: term}
	t.Cleanup(s.restore)
	ways := s.ways(patience)
	s.clients, err = checker.Start(all, ways)
	ok(t, err)
	t.Cleanup(s.clients.Stop)
	s.writers = s.clients.Writers
	s.anywhere = s.writers[:len(ways.Write)-len(cluster.Lab.Hosts)]
	s.flow(s.writers...)
	return s
}

// restore ends whatever a failed test has left, so that the next one finds whole machines.
func (s *scene) restore() {
	if s.t.Failed() {
		keepLogs(s.t)
	}
	for _, h := range cluster.Lab.Hosts {
		_, _ = h.ContinueDisk(all), h.FreeDisk() // an error says that nothing was wrong with it
		if h.Up() {
			ok(s.t, h.Resume(all))
		} else {
			ok(s.t, h.Boot(all))
		}
	}
	ok(s.t, cluster.Lab.Heal(all))
}

// think is a client's pause between commits: the machines' processors are to be left for what is tested.
const think = 10 * time.Millisecond

// patience is a client's with one commit, and shorter in TestImpatientClients: a client that gives up earlier than the lease, when
// a primary that is cut off cuts its sessions, cancels its commit's wait for another host.
const patience = 15 * time.Second

// byFloating is the name of the way through the floating address.
const byFloating = "the floating address"

// ways leads writers through all hosts, the floating address and each host, and readers to the primary and to the standbys of each
// host's choice. Those of each host come last.
func (s *scene) ways(patience time.Duration) checker.Config {
	every := cluster.DSN(site.WritePort, append(s.standbys(), s.primary)...) // the victim last, or every attempt would wait for it
	floating := cluster.FloatingDSN(site.WritePort)
	cfg := checker.Config{
		Write: []checker.Way{{Name: "all hosts", DSN: every, Clients: 2}, {Name: byFloating, DSN: floating, Clients: 2}},
		Read:  []checker.Way{{Name: "all hosts", DSN: every}, {Name: byFloating, DSN: floating}},
		Dial:  cluster.Lab.Dial, Timeout: patience, Think: think,
	}
	for _, h := range cluster.Lab.Hosts {
		cfg.Write = append(cfg.Write, checker.Way{Name: h.Name, DSN: cluster.DSN(site.WritePort, h)})
		cfg.Read = append(cfg.Read, checker.Way{Name: h.Name, DSN: cluster.DSN(site.ReadPort, h)})
	}
	return cfg
}

func (s *scene) standbys() []*netlab.Host {
	return slices.DeleteFunc(slices.Clone(cluster.Lab.Hosts), func(h *netlab.Host) bool { return h == s.primary })
}

// flow waits until clients are served again.
func (s *scene) flow(writers ...*checker.Writer) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(all, healTime)
	defer cancel()
	for _, w := range writers {
		ok(s.t, w.AwaitServed(ctx))
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

// end waits until the cluster is whole with no command given and every client is served, readers too, and passes judgement on
// what was written and read, with what each host holds then.
func (s *scene) end() (primary *netlab.Host, term uint64) {
	s.t.Helper()
	began := time.Now()
	primary, term, err := cluster.AwaitWhole(all, healTime)
	ok(s.t, err)
	s.latest, s.healed = term, time.Since(began)
	s.t.Logf("whole after %.1f s, %s reigns in term %d", s.healed.Seconds(), primary.Name, term)
	s.flow(s.writers...)
	ctx, cancel := context.WithTimeout(all, healTime)
	defer cancel()
	for _, r := range s.clients.Readers {
		ok(s.t, r.AwaitServed(ctx))
	}
	s.judge(ctx)
	return primary, term
}

// judge says what clients saw, and whether anything is broken.
func (s *scene) judge(ctx context.Context) {
	s.t.Helper()
	var servers []checker.Way
	for _, h := range cluster.Lab.Hosts {
		servers = append(servers, checker.Way{Name: h.Name, DSN: cluster.DSN(site.PostgresPort, h)})
	}
	worked := s.clients.Elapsed()
	v, err := s.clients.Judge(ctx, servers)
	ok(s.t, err)
	for _, c := range v.Complaints() {
		s.t.Error(c)
	}
	s.gaps = map[string]time.Duration{}
	for _, w := range s.writers {
		s.gaps[w.Name] = load.LongestGap(w.Ops(), 0, worked).Length()
	}
	for _, w := range s.anywhere {
		ops := w.Ops()
		gap := s.gaps[w.Name]
		s.away = max(s.away, gap)
		s.t.Logf("writes were out for %d ms through %s, for one client for %d ms", gap.Milliseconds(), w.Name, unlucky(ops, worked).Milliseconds())
	}
	s.verdict = v
	s.t.Log(v)
}

// unlucky is the longest time that a single client was not served.
func unlucky(ops []load.Op, until time.Duration) time.Duration {
	of := map[int][]load.Op{}
	for _, op := range ops {
		of[op.Client] = append(of[op.Client], op)
	}
	var longest time.Duration
	for _, own := range of {
		longest = max(longest, load.LongestGap(own, 0, until).Length())
	}
	return longest
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

// acknowledged counts what all clients were told so far.
func (s *scene) acknowledged() int {
	return load.Count(s.clients.Ops())[load.Acknowledged]
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
	dir, err := os.MkdirTemp("", "standfast-"+strings.ReplaceAll(t.Name(), "/", "-")+"-")
	if err != nil {
		t.Error(err)
		return
	}
	t.Log(cluster.Logs(all))
	t.Logf("the members' journals and logs are kept in %s (%v)", dir, cluster.KeepLogs(all, dir))
}
