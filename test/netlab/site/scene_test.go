//go:build e2e

package site_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"standfast/playground/load"
	"standfast/test/checker"
	"standfast/test/netlab"
	"standfast/test/netlab/site"
	"standfast/test/system/rig"
)

// scene is one test's cluster with clients at work on the lab's client: two that know all hosts, as libpq's multi-host strings
// do, and one for each host that knows only that one's port 5000.
type scene struct {
	t       *testing.T
	primary *netlab.Host // at the beginning
	term    uint64       // likewise
	clients *checker.Run
	writers []*checker.Writer // of the clients; the first know all hosts
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
	s.clients, err = checker.Start(all, s.ways())
	ok(t, err)
	s.writers = s.clients.Writers
	t.Cleanup(func() {
		s.clients.Stop()
		if t.Failed() {
			t.Log(cluster.Logs(all))
		}
		for _, h := range cluster.Lab.Hosts { // whatever a failed test has left
			if !h.Up() {
				ok(t, h.Boot(all))
			}
		}
		ok(t, cluster.Lab.Heal(all))
	})
	s.flow(s.writers...)
	return s
}

// ways leads writers through all hosts and through each, and readers to the standbys of each host's choice and to the primary.
func (s *scene) ways() checker.Config {
	every := append(s.standbys(), s.primary) // the victim last, or every attempt would wait for it
	cfg := checker.Config{
		Write: []checker.Way{{Name: "all hosts", DSN: cluster.DSN(site.WritePort, every...), Clients: 2}},
		Read:  []checker.Way{{Name: "all hosts", DSN: cluster.DSN(site.WritePort, every...)}},
		Dial:  cluster.Lab.Dial,
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
	ctx, cancel := context.WithTimeout(all, 30*time.Second)
	defer cancel()
	for _, w := range writers {
		ok(s.t, w.AwaitServed(ctx))
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
	s.t.Logf("whole after %.1f s, %s reigns in term %d", time.Since(began).Seconds(), primary.Name, term)
	s.flow(s.writers...)
	ctx, cancel := context.WithTimeout(all, healTime)
	defer cancel()
	for _, r := range s.clients.Readers {
		ok(s.t, r.AwaitServed(ctx))
	}
	var servers []checker.Way
	for _, h := range cluster.Lab.Hosts {
		servers = append(servers, checker.Way{Name: h.Name, DSN: cluster.DSN(site.PostgresPort, h)})
	}
	v, err := s.clients.Judge(ctx, servers)
	ok(s.t, err)
	for _, c := range v.Complaints() {
		s.t.Error(c)
	}
	first := s.writers[0]
	s.t.Logf("writes were out for %d ms for who knows all hosts\n%s", load.LongestGap(first.Ops(), 0, first.Elapsed()).Length().Milliseconds(), v)
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
