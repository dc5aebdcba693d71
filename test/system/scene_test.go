//go:build e2e

package system

import (
	"cmp"
	"context"
	"slices"
	"testing"
	"time"

	"standfast/playground/load"
	"standfast/test/system/rig"
)

// scene is one test's cluster with clients at work: several through the floating address, one through each node's own router,
// and one on each node that reads from the standbys.
type scene struct {
	t       *testing.T
	r       *rig.Rig
	primary *rig.Node // at the beginning
	term    uint64    // likewise
	writers []*writer // the first goes through the floating address
	readers []*reader
}

type writer struct {
	*load.Run
	name string
	base time.Time // when Run's clock began
}

// begin sets clients to work on a whole cluster and returns when all of them have been served.
func begin(t *testing.T) *scene {
	t.Helper()
	r, primary, term := whole(t)
	return beginOn(t, r, primary, term)
}

func beginOn(t *testing.T, r *rig.Rig, primary *rig.Node, term uint64) *scene {
	t.Helper()
	s := &scene{t: t, r: r, primary: primary, term: term}
	t.Cleanup(func() { s.stop() })
	s.write("the floating address", r.WriteDSN(), 4)
	for _, n := range r.Nodes {
		s.write(n.Name, r.WriteThrough(n), 1)
		s.readers = append(s.readers, startReader(n.Name, r.ReadThrough(n)))
	}
	s.flow()
	return s
}

func (s *scene) write(name, dsn string, clients int) {
	s.t.Helper()
	run, err := load.Start(all, load.Config{DSN: dsn, Clients: clients, Timeout: 5 * time.Second})
	if err != nil {
		s.t.Fatalf("write through %s: %v", name, err)
	}
	s.writers = append(s.writers, &writer{run, name, time.Now().Add(-run.Elapsed())})
}

// flow waits until every client has been served again.
func (s *scene) flow() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(all, 30*time.Second)
	defer cancel()
	for _, w := range s.writers {
		for seen := len(w.Ops()); load.Count(w.Since(seen))[load.Acknowledged] < 10; pause(ctx) {
			if ctx.Err() != nil {
				s.t.Fatalf("nothing is acknowledged through %s: %s", w.name, lastError(w.Ops()))
			}
		}
	}
	for _, reader := range s.readers {
		for seen := reader.served(); reader.served() < seen+10; pause(ctx) {
			if ctx.Err() != nil {
				s.t.Fatalf("nothing is read through %s: %v", reader.name, reader.lastError())
			}
		}
	}
}

// pause lets the clients work before they are looked at again.
func pause(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(10 * time.Millisecond):
	}
}

func lastError(ops []load.Op) string {
	for _, op := range slices.Backward(ops) {
		if op.Err != "" {
			return op.Err
		}
	}
	return "no attempt failed, none ended"
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
func (s *scene) stop() {
	for _, w := range s.writers {
		w.Stop()
	}
	for _, reader := range s.readers {
		reader.stop()
	}
}

// judge: nothing that was acknowledged is lost, and no two servers acknowledged at the same time.
func (s *scene) judge() {
	s.t.Helper()
	s.stop()
	ctx, cancel := context.WithTimeout(all, 30*time.Second)
	defer cancel()
	for _, w := range s.writers {
		lost, err := w.Lost(ctx, s.r.WriteDSN())
		if err != nil {
			s.t.Fatal(err)
		}
		if len(lost) > 0 {
			s.t.Errorf("%d acknowledged commits lost that were written through %s: %v", len(lost), w.name, lost[:min(len(lost), 10)])
		}
	}
	s.oneAtATime()
}

// oneAtATime: no two servers acknowledged at the same time. It also tells of the outage.
func (s *scene) oneAtATime() {
	s.t.Helper()
	merged := s.merged()
	for _, o := range load.Overlaps(merged) {
		s.t.Errorf("two servers acknowledged at the same time: %+v after %+v", o.Older, o.Newer)
	}
	ops := s.writers[0].Ops()
	gap := load.LongestGap(ops, 0, s.writers[0].Elapsed())
	n := load.Count(merged)
	s.t.Logf("writes were out for %d ms at the floating address; %d commits, %d failed, %d refused, %d without a session",
		gap.Length().Milliseconds(), n[load.Acknowledged], n[load.Failed], n[load.Refused], n[load.NoSession])
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
