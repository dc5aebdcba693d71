package agent

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"standfast/cluster"
)

// TestReadersAreLetIntoAReadableStandby, once, and again after each start of the server, which begins closed.
func TestReadersAreLetIntoAReadableStandby(t *testing.T) {
	inWorld(t, "pg2", three(), func(w *world) {
		w.following(cluster.NewRule(1, "pg2", "pg3"))
		w.never(time.Second, "pg open") // attached, and not consistent yet
		w.pg.edit(func(p *cluster.Postgres) { p.Ready = true })
		w.untilDone("done: pg open")
		if !w.beats.said().Readable {
			t.Error("it does not say that it is readable")
		}
		w.never(10*time.Second, "pg open")
		w.pg.dies()
		w.untilDone("done: pg start")
		w.until("readers are let in again", func() bool { return w.count("done: pg open") == 2 })
		w.never(10*time.Second, "pg open")
	})
}

// TestReadersStayThroughAnElection, and the winner has none when it is promoted: a promotion begins with clients kept out,
// and they are let in again by the admission alone.
func TestReadersStayThroughAnElection(t *testing.T) {
	inWorld(t, "pg2", three(), func(w *world) {
		w.pg.edit(func(p *cluster.Postgres) { p.Ready = true })
		w.standby()
		w.pg.edit(func(p *cluster.Postgres) { p.Ready, p.Replayed = true, 0x2000000 })
		r := reigns(2, "pg1", cluster.NewRule(1, "pg2", "pg3"))
		w.record(r)
		w.start()
		w.relay.connect()
		w.untilDone("done: pg open")
		mark := w.mark()
		w.record(elects(r))
		w.until("the relay is closed", func() bool { return w.relay.Status().Term == 0 })
		w.relay.connect()
		w.must(w.admin.PutReport(context.Background(), cluster.Report{Term: 3, Member: "pg3", Position: cluster.Position{Timeline: 2, LSN: 1}}))
		w.beats.change("pg3", func(b *cluster.Beat) { b.Term, b.Promised = 3, 3 })
		w.until("clients are admitted", func() bool { return w.beats.said().Admitted == 3 })
		w.order(mark, "done: pg promote", "pg term row", "pg open")
		if n := w.count("pg open"); n != 2 {
			t.Errorf("clients were let in %d times", n)
		}
		if w.count("pg close") > 0 {
			t.Error("readers were put out by the election itself")
		}
	})
}

// TestLeaseCountsFromSending: an answer that was long under way proves only that the term held when it was asked for.
func TestLeaseCountsFromSending(t *testing.T) {
	inWorld(t, "pg1", three(), func(w *world) {
		w.store.delay = 900 * time.Millisecond
		w.reigning(cluster.NewRule(1, "pg2", "pg3"))
		w.until("the lease is renewed", func() bool { return w.view().LeaseFrom > 0 })
		if v := w.view(); v.Now-v.LeaseFrom < 900*time.Millisecond || v.Now-v.LeaseFrom > 1100*time.Millisecond {
			t.Errorf("renewed %v ago by an answer that took 900 ms", v.Now-v.LeaseFrom)
		}
		before := w.view().LeaseFrom
		w.until("it is renewed again", func() bool { return w.view().LeaseFrom > before })
		if gap := w.view().LeaseFrom - before; gap > lease*2/3 {
			t.Errorf("two renewals are %v apart", gap)
		}
		w.store.set(func() { w.store.delay = 2 * time.Second }) // longer than is waited for an answer
		last := w.view().LeaseFrom
		w.pass(2 * lease)
		if v := w.view(); v.LeaseFrom != last || v.StoreOK {
			t.Errorf("renewed without an answer, or the store counts as well: %v, %v", v.LeaseFrom, v.StoreOK)
		}
	})
}

// TestLongLeaseDoesNotHideTheStore: whether the store answers is known from the last second or two, however long the
// lease is.
func TestLongLeaseDoesNotHideTheStore(t *testing.T) {
	inWorld(t, "pg1", three(), func(w *world) {
		w.settings.Lease = 30 * time.Second
		w.reigning(cluster.NewRule(1, "pg2", "pg3"))
		for range 40 {
			w.pass(500 * time.Millisecond)
			if !w.view().StoreOK {
				t.Fatal("the store counts as lost though it answers")
			}
		}
	})
}

// TestLeaseOfAnEarlierTermIsNone.
func TestLeaseOfAnEarlierTermIsNone(t *testing.T) {
	inWorld(t, "pg1", three(), func(w *world) {
		w.reigning(cluster.NewRule(1, "pg2", "pg3"))
		w.until("the lease is renewed", func() bool { return w.view().LeaseFrom > 0 })
		w.store.set(func() { w.store.read = func(s cluster.State) cluster.State { s.Term++; return s } })
		w.pass(lease)
		if v := w.view(); v.LeaseFrom != 0 {
			t.Errorf("a record of term 3 renewed the lease of term %d", v.State.Term)
		}
	})
}

// TestLonePrimaryEndsWithItsLease: with k = 0 a primary that no longer reaches the store ends itself, and the guard, which
// would do it otherwise, has no later deadline.
func TestLonePrimaryEndsWithItsLease(t *testing.T) {
	inWorld(t, "pg1", three(), func(w *world) {
		w.settings.Durability = cluster.Async
		w.reigning(cluster.NewRule(0))
		w.pass(5 * time.Second)
		w.store.SetDown(true)
		w.pass(time.Second)
		from := w.agent.origin.Add(w.view().LeaseFrom)
		w.untilDone("pg kill")
		if took := time.Since(from); took < lease || took > lease+60*time.Millisecond {
			t.Errorf("ended %v after the last renewal", took)
		}
		if _, deadline := w.guard.fed(); deadline.After(from.Add(lease)) {
			t.Errorf("the guard was fed beyond the lease, by %v", deadline.Sub(from.Add(lease)))
		}
	})
}

// TestLonePrimaryOfANewTermHasALease: its own write of the record is as good an answer of the store as a reading.
func TestLonePrimaryOfANewTermHasALease(t *testing.T) {
	inWorld(t, "pg2", three(), func(w *world) {
		w.settings.Durability = cluster.Async
		r := reigns(2, "pg1", cluster.NewRule(0))
		w.following(r.Rule)
		w.pass(5*time.Second + 10*time.Millisecond)
		e := elects(r)
		e.Prefer = "pg2"
		w.record(e)
		w.beats.change("pg1", func(b *cluster.Beat) { b.Term, b.Promised, b.Admitted = 3, 3, 0 })
		w.beats.change("pg3", func(b *cluster.Beat) { b.Term, b.Promised, b.Attached = 3, 3, 0 })
		w.until("the relay is closed", func() bool { return w.relay.Status().Term == 0 })
		w.relay.connect()
		w.must(w.admin.PutReport(context.Background(), cluster.Report{Term: 3, Member: "pg1", Position: cluster.Position{Timeline: 2, LSN: 0x2000000}, Priority: 100}))
		w.until("clients are admitted", func() bool { return w.beats.said().Admitted == 3 })
		w.never(10*time.Second, "pg kill")
		if w.count("pg kill") > 0 {
			t.Error("the new primary was ended at once")
		}
	})
}

// TestGuardIsFedWhileServing and not otherwise.
func TestGuardIsFedWhileServing(t *testing.T) {
	inWorld(t, "pg1", three(), func(w *world) {
		w.reigning(cluster.NewRule(1, "pg2", "pg3"))
		w.store.SetDown(true) // commits here need others: losing the store stops nothing
		w.pass(5 * lease)
		if _, deadline := w.guard.fed(); time.Until(deadline) < lease-100*time.Millisecond {
			t.Errorf("the guard's deadline is in %v", time.Until(deadline))
		}
		w.pg.dies()
		w.pass(100 * time.Millisecond)
		feeds, deadline := w.guard.fed()
		if !deadline.IsZero() {
			t.Error("the guard is armed though nothing runs")
		}
		w.pass(time.Second)
		if n, _ := w.guard.fed(); n != feeds {
			t.Error("it was fed though nothing runs")
		}
	})
}

// TestGuardIsNotFedForAStandby.
func TestGuardIsNotFedForAStandby(t *testing.T) {
	inWorld(t, "pg2", three(), func(w *world) {
		w.following(cluster.NewRule(1, "pg2", "pg3"))
		w.pass(5 * time.Second)
		if n, _ := w.guard.fed(); n != 0 {
			t.Errorf("fed %d times", n)
		}
	})
}

// TestGuardIsNotFedForAnUnknownLonePrimary: an agent restarted under a server that acknowledges all by itself knows
// nothing of the lease that its predecessor had, so the deadline it left behind stands until the store has answered.
func TestGuardIsNotFedForAnUnknownLonePrimary(t *testing.T) {
	inWorld(t, "pg1", three(), func(w *world) {
		w.settings.Durability = cluster.Async
		w.pg.runs(cluster.Postgres{Position: cluster.Position{Timeline: 2, LSN: 0x2000000}, Fork: 0x1000000, Names: cluster.NewRule(0)})
		w.record(reigns(2, "pg1", cluster.NewRule(0)))
		w.store.SetDown(true)
		w.start()
		w.pass(lease / 2)
		if n, _ := w.guard.fed(); n != 0 {
			t.Errorf("fed %d times", n)
		}
		w.store.SetDown(false)
		w.pass(lease / 2)
		if n, _ := w.guard.fed(); n == 0 {
			t.Error("not fed though the store has answered")
		}
	})
}

// TestRestartedAgentKeepsItsPrimary: an agent that starts while the store is away feeds the guard of a primary whose commits
// need others for as long as it hears a majority, and no longer once somebody knows of a newer term.
func TestRestartedAgentKeepsItsPrimary(t *testing.T) {
	inWorld(t, "pg1", three(), func(w *world) {
		w.reigning(cluster.NewRule(1, "pg2", "pg3"))
		w.stop()
		w.store.SetDown(true)
		c := w.config()
		c.Members = three
		w.run(c)
		w.pass(3 * lease)
		if w.view().State != nil || w.count("pg kill") > 0 {
			t.Fatal("the store answered, or the server was ended")
		}
		if _, deadline := w.guard.fed(); time.Until(deadline) < lease-200*time.Millisecond {
			t.Errorf("the guard's deadline is in %v", time.Until(deadline))
		}
		w.beats.change("pg2", func(b *cluster.Beat) { b.Term, b.Promised = 3, 3 })
		w.pass(lease)
		if _, deadline := w.guard.fed(); time.Until(deadline) > 0 {
			t.Errorf("the guard is fed on, for %v, beside a newer term", time.Until(deadline))
		}
	})
}

// TestRestoredStoreIsNoticed: revisions go back with it, and the record that the agent knew has never been written there.
func TestRestoredStoreIsNoticed(t *testing.T) {
	inWorld(t, "pg2", three(), func(w *world) {
		w.standby()
		w.record(reigns(2, "pg1", cluster.NewRule(1, "pg2", "pg3")))
		old := w.shared.Backup()
		w.record(reigns(3, "pg1", cluster.NewRule(1, "pg2", "pg3")))
		w.beats.say("pg1", cluster.Beat{Term: 3, Promised: 3, Admitted: 3, Data: cluster.DataReady, Up: true})
		w.start()
		w.until("the promise is on disk", func() bool { return promiseOnDisk(w.dir) == 3 })
		w.shared.Restore(old)
		w.untilDone("cas 4 electing ANY 1 of pg1, pg2, pg3")
		if s := w.recorded(); s.Term != 4 || !strings.Contains(s.Reason, "restored") {
			t.Errorf("recorded: %+v", s)
		}
	})
}

// TestReportIsWrittenOnce, though the watch does not show it.
func TestReportIsWrittenOnce(t *testing.T) {
	inWorld(t, "pg2", three(), func(w *world) {
		w.following(cluster.NewRule(1, "pg2", "pg3"))
		w.pg.edit(func(p *cluster.Postgres) { p.Position.LSN++ })
		w.record(elects(reigns(2, "pg1", cluster.NewRule(2, "pg2", "pg3"))))
		w.until("the promise is on disk", func() bool { return promiseOnDisk(w.dir) == 3 })
		w.relay.connect()
		w.untilDone("store report")
		w.pass(time.Second)
		if n := w.count("store report"); n != 1 {
			t.Errorf("it was written %d times", n)
		}
	})
}

// TestLonePrimaryIsAnsweredForAtOnce: its guard's deadline is running, so the store is asked as soon as the agent runs.
func TestLonePrimaryIsAnsweredForAtOnce(t *testing.T) {
	inWorld(t, "pg1", three(), func(w *world) {
		w.settings.Durability = cluster.Async
		w.pg.runs(cluster.Postgres{Position: cluster.Position{Timeline: 2, LSN: 0x2000000}, Fork: 0x1000000, Names: cluster.NewRule(0)})
		w.record(reigns(2, "pg1", cluster.NewRule(0)))
		w.start()
		w.pass(100 * time.Millisecond)
		if n, _ := w.guard.fed(); n == 0 {
			t.Error("not fed yet")
		}
	})
}

// TestPromiseFile: what can't be believed is an error, never "no promise".
func TestPromiseFile(t *testing.T) {
	for name, c := range map[string]struct{ content, want string }{
		"none":           {"", ""},
		"whole":          {`{"cluster":"main","member":"pg1","term":7}`, ""},
		"empty":          {" ", "read promise"},
		"cut short":      {`{"cluster":"main","member":"pg1","te`, "read promise"},
		"zeros":          {"\x00\x00\x00\x00", "read promise"},
		"negative":       {`{"cluster":"main","member":"pg1","term":-1}`, "read promise"},
		"no content":     {`{}`, "another node's"},
		"other member":   {`{"cluster":"main","member":"pg2","term":7}`, "another node's"},
		"other cluster":  {`{"cluster":"test","member":"pg1","term":7}`, "another node's"},
		"not a document": {`7`, "read promise"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if c.content != "" {
				damage(t, dir, c.content)
			}
			r := &fakeRelay{tr: &trace{}, changed: make(chan struct{}, 1)}
			a, err := New(Config{Self: "pg1", Cluster: "main", StateDir: dir, Relay: r})
			if c.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				if name == "whole" && (a.promised != 7 || r.Status().Floor != 7) {
					t.Errorf("promised %d, the relay's floor is %d", a.promised, r.Status().Floor)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), dir) {
				t.Errorf("%v, want %q and the file's name", err, c.want)
			}
		})
	}
}

// TestPromiseSurvives: what was saved is read again, whole, and leaves nothing beside it.
func TestPromiseSurvives(t *testing.T) {
	dir := t.TempDir()
	p := promises{path: filepath.Join(dir, "promise.json")}
	for _, term := range []cluster.Term{1, 2, 1 << 60} {
		if err := p.save("main", "pg1", term, 7); err != nil {
			t.Fatal(err)
		}
		if got, e, err := p.load("main", "pg1"); got != term || e != 7 || err != nil {
			t.Fatalf("%d, %v, want %d", got, err, term)
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

// TestWitnessVotes without a PostgreSQL or a relay.
func TestWitnessVotes(t *testing.T) {
	ms := append(members("pg1", "pg2"), cluster.Member{Name: "w", Kind: cluster.Witness})
	inWorld(t, "w", ms, func(w *world) {
		w.beats.say("pg1", cluster.Beat{Term: 2, Promised: 2, Admitted: 2, Data: cluster.DataReady, Up: true})
		w.beats.say("pg2", cluster.Beat{Term: 2, Promised: 2, Attached: 2, Data: cluster.DataReady, Up: true, Recovery: true})
		w.record(reigns(2, "pg1", cluster.NewRule(1, "pg2")))
		c := w.config()
		c.Postgres, c.Relay, c.Guard = nil, nil, nil
		w.run(c)
		w.until("the route is known", func() bool { return w.router.now().Write == "pg1" })
		w.beats.silence("pg1")
		w.beats.change("pg2", func(b *cluster.Beat) { b.Suspects = []string{"pg1"} })
		w.untilDone("cas 3 electing")
		if w.count("pg ")+w.count("relay ") > 0 {
			t.Error("it touched a server or a relay")
		}
	})
}

// TestRestartOnRequest: a standby is restarted in place, a primary is not, and who asks learns how it ended.
func TestRestartOnRequest(t *testing.T) {
	inWorld(t, "pg2", three(), func(w *world) {
		w.following(cluster.NewRule(1, "pg2", "pg3"))
		mark := w.mark()
		w.must(w.agent.Restart(context.Background(), "op asked for it"))
		w.order(mark, "pg stop", "done: pg stop", "pg start", "done: pg start")

		w.pg.hold("stop")
		answers := make(chan error, 2)
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		go func() { answers <- w.agent.Restart(ctx, "first") }()
		w.until("the first is under way", func() bool { return w.count("pg stop") == 2 })
		if err := w.agent.Restart(context.Background(), "second"); err == nil || !strings.Contains(err.Error(), "busy: restart: first") {
			t.Errorf("the second: %v", err)
		}
		cancel()
		if err := <-answers; !errors.Is(err, context.Canceled) {
			t.Errorf("the first: %v", err)
		}
	})
	inWorld(t, "pg1", three(), func(w *world) {
		w.reigning(cluster.NewRule(1, "pg2", "pg3"))
		if err := w.agent.Restart(context.Background(), "op"); err == nil || !strings.Contains(err.Error(), "not running as a standby") {
			t.Errorf("a primary: %v", err)
		}
	})
}

// TestRecloneOnRequest: the member asks to leave the rule, and is cloned once it has left.
func TestRecloneOnRequest(t *testing.T) {
	inWorld(t, "pg2", three(), func(w *world) {
		w.following(cluster.NewRule(1, "pg2", "pg3"))
		w.agent.Reclone("op asked for a new copy")
		w.until("it asks to leave", func() bool { return w.beats.said().NeedsOut })
		w.never(5*time.Second, "pg clone")
		w.record(reigns(2, "pg1", cluster.NewRule(1, "pg3")))
		w.untilDone("done: pg clone")
		w.until("it follows again", func() bool { return !w.beats.said().NeedsOut })
	})
}

// TestStarvedMemberIsClonedAnew: a primary that no longer has the WAL which this member needs never will, so it leaves the
// rule by itself and becomes a new copy.
func TestStarvedMemberIsClonedAnew(t *testing.T) {
	inWorld(t, "pg2", three(), func(w *world) {
		w.following(cluster.NewRule(1, "pg2", "pg3"))
		w.relay.starve("the segment has been removed")
		w.until("it asks to leave", func() bool { return w.beats.said().NeedsOut })
		w.never(5*time.Second, "pg clone")
		w.record(reigns(2, "pg1", cluster.NewRule(1, "pg3")))
		w.untilDone("done: pg clone")
		w.until("it follows again", func() bool { return !w.beats.said().NeedsOut })
	})
}

// TestStalledServerIsGivenUp: one that runs and answers nobody is no better than a dead one, once another can take over.
func TestStalledServerIsGivenUp(t *testing.T) {
	inWorld(t, "pg1", three(), func(w *world) {
		w.reigning(cluster.NewRule(1, "pg2", "pg3"))
		w.pg.mu.Lock()
		w.pg.silent = true
		w.pg.mu.Unlock()
		begun := time.Now()
		w.untilDone("cas 3 electing")
		if took := time.Since(begun); took > 3*time.Second {
			t.Errorf("it took %v", took)
		}
		if s := w.recorded(); !strings.Contains(s.Reason, "has not answered for") {
			t.Errorf("the reason is %q", s.Reason)
		}
		w.order(0, "pg kill", "cas 3 electing")
	})
}
