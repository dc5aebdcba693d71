//go:build e2e

package system

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"standfast/playground/load"
	"standfast/test/checker"
	"standfast/test/system/rig"
)

// scene is one test's cluster with clients at work: several through the floating address, one through each node's own router,
// and one on each node that reads from the standbys; one reads through the floating address too.
type scene struct {
	t       *testing.T
	r       *rig.Rig
	primary *rig.Node // at the beginning
	term    uint64    // likewise
	clients *checker.Run
	writers []*checker.Writer // the clients' that write; the first go through the floating address
}

// think is a writer's pause: clients are to see every fault, not to fill two processors that three clusters share.
const think = 20 * time.Millisecond

// begin sets clients to work on a whole cluster and returns when all of them have been served.
func begin(t *testing.T) *scene {
	t.Helper()
	r, primary, term := whole(t)
	return beginOn(t, r, primary, term)
}

func beginOn(t *testing.T, r *rig.Rig, primary *rig.Node, term uint64) *scene {
	t.Helper()
	cfg := checker.Config{
		Think: think,
		Write: []checker.Way{{Name: "the floating address", DSN: r.WriteDSN(), Clients: 4}},
		Read:  []checker.Way{{Name: "the floating address", DSN: r.WriteDSN()}},
	}
	for _, n := range r.Nodes {
		cfg.Write = append(cfg.Write, checker.Way{Name: n.Name, DSN: r.WriteThrough(n)})
		cfg.Read = append(cfg.Read, checker.Way{Name: n.Name, DSN: r.ReadThrough(n)})
	}
	clients, err := checker.Start(all, cfg)
	must(t, err)
	t.Cleanup(clients.Stop)
	s := &scene{t: t, r: r, primary: primary, term: term, clients: clients, writers: clients.Writers}
	s.flow()
	return s
}

// flow waits until every client has been served again.
func (s *scene) flow() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(all, 30*time.Second)
	defer cancel()
	for _, w := range s.writers {
		must(s.t, w.AwaitServed(ctx))
	}
	for _, reader := range s.clients.Readers {
		must(s.t, reader.AwaitServed(ctx))
	}
}

// pause lets the clients work before they are looked at again.
func pause(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(10 * time.Millisecond):
	}
}

// reign waits for the primary of a newer term.
func (s *scene) reign(within time.Duration) {
	s.t.Helper()
	if err := s.r.AwaitReign(all, s.term, within); err != nil {
		s.t.Fatal(err)
	}
}

// heal waits until the cluster is whole with no command given, and returns who reigns.
func (s *scene) heal() (primary *rig.Node, term uint64) {
	s.t.Helper()
	began := time.Now()
	primary, term, err := s.r.AwaitWhole(all, healTime)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Logf("whole after %.1f s, %s reigns in term %d", time.Since(began).Seconds(), primary.Name, term)
	return primary, term
}

// end heals, lets every client be served once more, and passes judgement.
func (s *scene) end() (primary *rig.Node, term uint64) {
	s.t.Helper()
	primary, term = s.heal()
	s.flow()
	s.judge()
	return primary, term
}

// unmoved is end where nobody may have taken over.
func (s *scene) unmoved() {
	s.t.Helper()
	primary, term := s.end()
	if primary != s.primary || term != s.term {
		s.t.Errorf("%s of term %d was replaced by %s of term %d, with no need", s.primary.Name, s.term, primary.Name, term)
	}
}

// stop ends the clients. It may be called again.
func (s *scene) stop() { s.clients.Stop() }

// judge: every acknowledged commit is on every node, no two servers acknowledged at the same time, and the registers are
// linearizable; package checker says what that means.
func (s *scene) judge() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(all, healTime)
	defer cancel()
	var servers []checker.Way
	for _, n := range s.r.DataNodes() {
		servers = append(servers, checker.Way{Name: n.Name, DSN: s.r.DSN(n.Address, s.r.Ports().Postgres)})
	}
	v, err := s.clients.Judge(ctx, servers)
	must(s.t, err)
	for _, c := range v.Complaints() {
		s.t.Error(c)
	}
	s.t.Log(v)
	s.outage()
}

// oneAtATime: no two servers acknowledged at the same time.
func (s *scene) oneAtATime() {
	s.t.Helper()
	for _, o := range load.Overlaps(s.clients.Ops()) {
		s.t.Errorf("two servers acknowledged at the same time: %+v after %+v", o.Older, o.Newer)
	}
	s.outage()
}

// outage tells for how long nobody was served at the floating address.
func (s *scene) outage() {
	s.t.Helper()
	gap := load.LongestGap(s.writers[0].Ops(), 0, s.writers[0].Elapsed())
	s.t.Logf("writes were out for %d ms at the floating address", gap.Length().Milliseconds())
}

// run carries out statements, one session for all.
func (s *scene) run(dsn string, statements ...string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(all, 20*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, dsn)
	must(s.t, err)
	defer load.CloseNow(conn)
	for _, sql := range statements {
		_, err := conn.Exec(ctx, sql)
		must(s.t, err)
	}
}
