package agent

import (
	"errors"
	"strings"
	"testing"
	"time"

	"standfast/cluster"
)

// TestPromiseIsOnDiskBeforeTheReport, and before the promise is written nothing of an earlier term passes any more.
func TestPromiseIsOnDiskBeforeTheReport(t *testing.T) {
	inWorld(t, "pg2", three(), func(w *world) {
		w.following(cluster.NewRule(1, "pg2", "pg3"))
		if d := promiseOnDisk(w.dir); d != 2 {
			t.Fatalf("attached with a promise of term %d on disk", d)
		}
		mark := w.mark()
		w.record(elects(reigns(2, "pg1", cluster.NewRule(1, "pg2", "pg3"))))
		w.until("the relay is closed", func() bool { return w.relay.Status().Term == 0 })
		w.never(5*time.Second, "store report") // the receiver that was there may still flush
		w.relay.connect()
		w.untilDone("store report")
		w.order(mark, "relay raise 3", "store report, promise on disk 3")
		w.never(5*time.Second, "store report")
	})
}

// TestUnwrittenPromiseStopsEverything: with a disk that takes no promise there is no report either.
func TestUnwrittenPromiseStopsEverything(t *testing.T) {
	inWorld(t, "pg2", three(), func(w *world) {
		w.standby()
		w.record(elects(reigns(2, "pg1", cluster.NewRule(1, "pg2", "pg3"))))
		dir := w.dir
		w.dir = dir + "/gone"
		w.start()
		w.relay.connect()
		w.untilDone("relay raise 3")
		w.never(2*time.Second, "store report")
		if p := w.beats.said().Promised; p != 0 {
			t.Errorf("it tells of a promise of term %d that is not on disk", p)
		}
	})
}

// TestReportNeedsAPositionReadWhileHeld: a position counts only if one and the same receiver waited at the relay before
// and after it was read.
func TestReportNeedsAPositionReadWhileHeld(t *testing.T) {
	inWorld(t, "pg2", three(), func(w *world) {
		w.standby()
		w.record(elects(reigns(2, "pg1", cluster.NewRule(1, "pg2", "pg3"))))
		w.pg.inTheMidst("observe", func() { // another receiver comes, with more WAL, whenever the position is read
			time.Sleep(time.Millisecond)
			w.relay.connect()
			w.pg.edit(func(p *cluster.Postgres) { p.Position.LSN++ })
		})
		w.relay.connect()
		w.start()
		w.untilDone("relay raise 3")
		w.never(5*time.Second, "store report")
		w.pg.inTheMidst("observe", nil)
		w.untilDone("store report")
		var end cluster.LSN
		w.pg.edit(func(p *cluster.Postgres) { end = p.Position.LSN })
		w.until("the report is seen", func() bool { return len(w.view().Reports) == 1 })
		if got := w.view().Reports["pg2"].Position.LSN; got != end {
			t.Errorf("reported %s, its WAL ends at %s", got, end)
		}
	})
}

// TestFailureDropsTheRest: what follows in a list may rely on what failed.
func TestFailureDropsTheRest(t *testing.T) {
	inWorld(t, "pg1", three(), func(w *world) {
		w.reigning(cluster.NewRule(1, "pg2", "pg3"))
		w.pg.failOnce("kill", errors.New("a process does not die"))
		mark := w.mark()
		w.pg.dies()
		w.untilDone("cas 3")
		at := w.order(mark, "pg kill", "pg kill", "done: pg kill", "cas 3 electing")
		if rest := at[1].Sub(at[0]); rest < retryAfter {
			t.Errorf("tried again after %v", rest)
		}
		if n := w.count("cas 3"); n != 1 {
			t.Errorf("CAS 1 was tried %d times", n)
		}
	})
}

// TestUnwantedQuickActionIsCancelled: a report that hangs in the store does not keep the member from a newer term.
func TestUnwantedQuickActionIsCancelled(t *testing.T) {
	inWorld(t, "pg2", three(), func(w *world) {
		w.standby()
		e := elects(reigns(2, "pg1", cluster.NewRule(1, "pg2", "pg3")))
		w.record(e)
		release := w.store.hang("reports/")
		w.relay.connect()
		w.start()
		w.untilDone("store report")
		mark, newer := w.mark(), time.Now()
		w.record(elects(e))
		w.untilDone("relay raise 4")
		at := w.order(mark, "cancelled: store report", "relay raise 4")
		if took := at[1].Sub(newer); took > time.Millisecond {
			t.Errorf("the promise came after %v", took)
		}
		release()
		w.untilDone("store report, promise on disk 4")
	})
}

// TestFenceWaitsForNobody: neither for a store that hangs nor for an operator's hand-over.
func TestFenceWaitsForNobody(t *testing.T) {
	for name, busy := range map[string]func(w *world) (until string){
		"store hangs": func(w *world) string {
			w.store.hang("state")
			w.pg.edit(func(p *cluster.Postgres) { p.Standbys = streaming("pg2", "pg3") }) // pg3 is to enter the rule
			return "cas 2 reigning ANY 1 of pg2, pg3"
		},
		"hand-over": func(w *world) string {
			w.untilDone("done: pg checkpoint") // that of the admission
			w.pg.hold("checkpoint")
			w.ask("pg2")
			w.until("the hand-over has begun", func() bool { return w.count("pg checkpoint") == 2 })
			return "pg checkpoint"
		},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, "pg1", three(), func(w *world) {
				w.reigning(cluster.NewRule(1, "pg2"))
				until := busy(w)
				w.untilDone(until)
				newer := time.Now()
				w.beats.change("pg3", func(b *cluster.Beat) { b.Term = 3 })
				w.untilDone("pg kill")
				if took := time.Since(newer); took > time.Millisecond {
					t.Errorf("the fence came after %v", took)
				}
				w.untilDone("cancelled: ")
				if b := w.beats.said(); b.Admitted != 0 || b.Term != 3 {
					t.Errorf("it says %+v", b)
				}
			})
		})
	}
}

// TestRewindYieldsToAPromise, for the marker on the data remembers that it was begun; what it was good for is over.
func TestRewindYieldsToAPromise(t *testing.T) {
	inWorld(t, "pg2", three(), func(w *world) {
		w.standby()
		w.pg.edit(func(p *cluster.Postgres) { p.Position.Timeline = 1 }) // beyond the fork: diverged
		w.pg.hold("rewind")
		r := reigns(2, "pg1", cluster.NewRule(1, "pg3"))
		w.record(r)
		w.relay.connect()
		w.start()
		w.untilDone("pg rewind from 10.0.0.1")
		mark, newer := w.mark(), time.Now()
		w.record(elects(r))
		w.untilDone("relay raise 3")
		at := w.order(mark, "cancelled: pg rewind")
		if took := at[0].Sub(newer); took > time.Millisecond {
			t.Errorf("the rewind was cancelled after %v", took)
		}
		if v := w.view(); v.Postgres.FailedAction != "" {
			t.Errorf("what was given up counts as failed: %s", v.Postgres.Failed)
		}
	})
}

// TestStartIsFinished though a newer term comes: a server that is half started serves nothing, and the promise does not
// wait for it.
func TestStartIsFinished(t *testing.T) {
	inWorld(t, "pg2", three(), func(w *world) {
		w.standby()
		w.pg.dies()
		release := w.pg.hold("start")
		r := reigns(2, "pg1", cluster.NewRule(1, "pg2", "pg3"))
		w.record(r)
		w.start()
		w.untilDone("pg start")
		mark := w.mark()
		w.record(elects(r))
		w.untilDone("relay raise 3")
		w.never(time.Second, "cancelled: ")
		release()
		w.untilDone("done: pg start")
		w.relay.connect()
		w.untilDone("store report")
		w.order(mark, "relay raise 3", "done: pg start", "store report")
		if n := w.count("pg start"); n != 1 {
			t.Errorf("it was started %d times", n)
		}
	})
}

// TestRuleIsReadAgainBeforeDataIsTouched: the watch may be behind. While the record itself counts on the member its data
// stays as it is, and that does not count as a failure.
func TestRuleIsReadAgainBeforeDataIsTouched(t *testing.T) {
	counted := func(s cluster.State) cluster.State { s.Rule = s.Rule.With("pg2"); return s }
	newer := func(s cluster.State) cluster.State { s.Term++; return s }
	electing := func(s cluster.State) cluster.State { s.Phase = cluster.Electing; return s }
	for verb, data := range map[string]cluster.DataState{"rewind": cluster.DataReady, "clone": cluster.NoData} {
		for name, truth := range map[string]func(cluster.State) cluster.State{"counted": counted, "newer": newer, "electing": electing} {
			t.Run(verb+"/"+name, func(t *testing.T) {
				inWorld(t, "pg2", three(), func(w *world) {
					w.standby()
					w.pg.edit(func(p *cluster.Postgres) { p.Position.Timeline = 1 })
					if data == cluster.NoData {
						w.pg.dies()
						w.pg.data = cluster.NoData
					}
					w.store.set(func() { w.store.read = truth })
					w.record(reigns(2, "pg1", cluster.NewRule(1, "pg3")))
					w.relay.connect()
					w.start()
					w.until("it is tried", func() bool { return w.count("store get state") >= 3 })
					w.never(3*time.Second, "pg "+verb)
					if n := w.count("store get state"); n > 60 {
						t.Errorf("the record was read %d times in 3 s", n)
					}
					if v := w.view(); v.Postgres.FailedAction != "" || w.count("pg kill") > 0 {
						t.Errorf("it counts as failed (%q), or a server was killed", v.Postgres.Failed)
					}
					w.store.set(func() { w.store.read = nil })
					w.untilDone("done: pg " + verb)
				})
			})
		}
	}
}

// TestPromiseWithdrawsTheLeaveToTouchData: a rewind that was about to begin leaves the data alone once a newer term is
// promised, though nobody has told it to end, and the report waits until it has ended.
func TestPromiseWithdrawsTheLeaveToTouchData(t *testing.T) {
	inWorld(t, "pg2", three(), func(w *world) {
		w.standby()
		w.pg.edit(func(p *cluster.Postgres) { p.Position.Timeline = 1 })
		reign := reigns(2, "pg1", cluster.NewRule(1, "pg3"))
		w.record(reign)
		w.relay.connect()
		goOn := make(chan struct{}) // it does not look at its context meanwhile
		w.pg.inTheMidst("rewind", func() { <-goOn; w.add("it comes to the marker") })
		w.start()
		w.untilDone("pg rewind")
		w.record(elects(reign))
		w.until("the promise is on disk", func() bool { return promiseOnDisk(w.dir) == 3 })
		w.relay.connect()
		w.never(time.Second, "store report")
		close(goOn)
		w.untilDone("store report")
		w.order(0, "pg rewind", "relay raise 3", "it comes to the marker", "store report")
		if w.count("mark:") > 0 {
			t.Error("the data was touched")
		}
	})
}

// TestFailedRewindIsFollowedByAClone.
func TestFailedRewindIsFollowedByAClone(t *testing.T) {
	inWorld(t, "pg2", three(), func(w *world) {
		w.standby()
		w.pg.edit(func(p *cluster.Postgres) { p.Position.Timeline = 1 })
		w.pg.failOnce("rewind", errors.New("could not find previous WAL record"))
		release := w.pg.hold("clone")
		w.record(reigns(2, "pg1", cluster.NewRule(1, "pg3")))
		w.relay.connect()
		w.start()
		w.untilDone("pg clone")
		w.until("it is told how far the clone is", func() bool { return strings.HasPrefix(w.beats.said().Note, "cloning 1 of 4 MB (25 %)") })
		if done, total := w.agent.Copied(); done != 1<<20 || total != 4<<20 {
			t.Errorf("copied %d of %d bytes", done, total)
		}
		release()
		w.untilDone("done: pg clone")
		w.until("there is nothing to tell any more", func() bool { done, total := w.agent.Copied(); return done == 0 && total == 0 })
		w.order(0, "pg rewind from 10.0.0.1", "pg kill", "pg clone from 10.0.0.1")
		if !w.beats.everSaid(func(b cluster.Beat) bool {
			return strings.Contains(b.Note, "rewind failed: could not find previous WAL record")
		}) {
			t.Error("nobody was told of the failure")
		}
	})
}

// TestLostWriteIsSettledFirst: a write of unknown outcome may take effect at any later time. Before anything is done by
// the record as it looks, the record is written once more, so that the lost write fails its own comparison.
func TestLostWriteIsSettledFirst(t *testing.T) {
	inWorld(t, "pg1", three(), func(w *world) {
		w.reigning(cluster.NewRule(1, "pg2"))
		mark := w.mark()
		w.store.set(func() { w.store.lose = true })
		w.pg.edit(func(p *cluster.Postgres) { p.Standbys = streaming("pg2", "pg3") }) // pg3 is to enter the rule
		w.untilDone("pg names ANY 1 of pg2, pg3")
		w.order(mark, "lost: cas 2 reigning ANY 1 of pg2, pg3", "cas 2 reigning ANY 1 of pg2", "cas 2 reigning ANY 1 of pg2, pg3", "pg names ANY 1 of pg2, pg3")
		before := w.recorded()
		w.store.mu.Lock()
		late := w.store.late
		w.store.mu.Unlock()
		if err := late(); err == nil {
			t.Error("the lost write took effect after it had been settled")
		}
		if got := w.recorded(); got.Revision != before.Revision {
			t.Errorf("recorded: %+v", got)
		}
	})
}

// TestLostWriteThatHappenedIsLearnt by the settling itself, for the watch may be behind.
func TestLostWriteThatHappenedIsLearnt(t *testing.T) {
	inWorld(t, "pg1", three(), func(w *world) {
		w.reigning(cluster.NewRule(1, "pg2"))
		w.store.LoseAnswers(1, true)
		w.pg.edit(func(p *cluster.Postgres) { p.Standbys = streaming("pg2", "pg3") })
		w.untilDone("pg names ANY 1 of pg2, pg3")
		if got := w.recorded().Rule; !got.Equal(cluster.NewRule(1, "pg2", "pg3")) {
			t.Errorf("recorded: %s", got)
		}
		w.until("the agent knows it", func() bool { return w.view().State.Rule.Has("pg3") })
	})
}

// TestProbeHoldsUpNothing: a probe of the silent primary that is never answered delays neither its repetition nor the
// election.
func TestProbeHoldsUpNothing(t *testing.T) {
	inWorld(t, "pg2", three(), func(w *world) {
		w.following(cluster.NewRule(1, "pg2", "pg3"))
		silent := time.Now()
		w.beats.silence("pg1")
		w.beats.change("pg3", func(b *cluster.Beat) { b.Suspects = []string{"pg1"} })
		w.untilDone("cas 3 electing")
		if took := time.Since(silent); took < detect || took > detect+60*time.Millisecond {
			t.Errorf("the election began after %v", took)
		}
	})
}
