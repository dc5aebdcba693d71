package agent

import (
	"context"
	"testing"
	"time"

	"standfast/cluster"
	"standfast/decide"
)

// TestSupersededPrimaryEnds: a primary that hears of a higher epoch in one beat is ended at once, and nothing is served, written or
// started by this member any more, also when the other host is gone again.
func TestSupersededPrimaryEnds(t *testing.T) {
	inWorld(t, "pg1", three(), func(w *world) {
		w.reigning(cluster.NewRule(1, "pg2", "pg3"))
		was := w.recorded()
		w.beats.say("pg3", cluster.Beat{From: "pg3", Epoch: 7, Term: 102})
		w.untilDone("pg kill")
		w.until("no clients are let in", func() bool { return w.beats.said().Admitted == 0 && w.router.now().Write == "" })
		w.beats.silence("pg3")
		w.never(10*lease, "pg start")
		if v := w.view(); v.Superseded != 7 || decide.Over(v) == "" || w.router.now().Why != decide.Over(v) {
			t.Errorf("superseded by %d, clients are told %q", v.Superseded, w.router.now().Why)
		}
		if now := w.recorded(); now.Revision != was.Revision {
			t.Errorf("it has written %+v", now)
		}
	})
}

// TestSupersededStandbyReportsNothing: an election of the epoch before gets neither its promise nor its report.
func TestSupersededStandbyReportsNothing(t *testing.T) {
	inWorld(t, "pg2", three(), func(w *world) {
		w.following(cluster.NewRule(1, "pg2", "pg3"))
		w.beats.say("pg3", cluster.Beat{From: "pg3", Epoch: 7, Term: 102})
		w.untilDone("pg stop")
		w.record(elects(reigns(2, "pg1", cluster.NewRule(1, "pg2", "pg3"))))
		w.never(10*time.Second, "store report")
		if d := promiseOnDisk(w.dir); d != 2 {
			t.Errorf("it has promised term %d", d)
		}
		if st := w.relay.Status(); st.Term != 0 {
			t.Errorf("its relay carries in term %d", st.Term)
		}
	})
}

// TestStoreOfAnotherEpoch: a record of a higher epoch in the store that is reached ends a member like a beat does; its own is not
// given up for it, and it writes nothing over it.
func TestStoreOfAnotherEpoch(t *testing.T) {
	inWorld(t, "pg1", three(), func(w *world) {
		w.reigning(cluster.NewRule(1, "pg2", "pg3"))
		s := reigns(102, "pg3", cluster.NewRule(0))
		s.Epoch = 7
		was := w.recorded() // of its own epoch: each has a key of its own
		_, err := w.admin.WriteState(context.Background(), s)
		w.must(err)
		w.untilDone("pg kill")
		if v := w.view(); v.Superseded != 7 || v.State.Term != 2 {
			t.Errorf("superseded by %d, it goes by term %d", v.Superseded, v.State.Term)
		}
		w.never(5*time.Second, "pg start")
		if now := w.recorded(); now.Revision != was.Revision {
			t.Errorf("somebody wrote %+v", now)
		}
	})
}

// TestBeatsOfAnEpochBefore count for nothing: no majority, no term.
func TestBeatsOfAnEpochBefore(t *testing.T) {
	inWorld(t, "pg1", three(), func(w *world) {
		w.pg.runs(cluster.Postgres{
			Position: cluster.Position{Timeline: 2, LSN: 0x2000000}, Fork: 0x1000000,
			History: cluster.History{{Timeline: 1, End: 0x1000000}}, Names: cluster.NewRule(1, "pg2", "pg3"), Standbys: streaming("pg2", "pg3"),
		})
		s := reigns(2, "pg1", cluster.NewRule(1, "pg2", "pg3"))
		s.Epoch = 7
		w.must(Promise(w.dir, "main", "pg1", 2, 7))
		w.record(s)
		for _, n := range []string{"pg2", "pg3"} {
			w.beats.say(n, cluster.Beat{From: n, Epoch: 6, Term: 99, Promised: 99, Attached: 2, Data: cluster.DataReady, Up: true, Recovery: true})
		}
		w.start()
		w.never(5*time.Second, "pg kill") // term 99 is not this epoch's
		if v := w.view(); len(v.Peers) != 0 || v.Superseded != 0 || v.Admitted != 0 {
			t.Errorf("heard: %+v, admitted in %d", v.Peers, v.Admitted)
		}
	})
}

// TestNewcomerTakesTheEpoch: a host that has never taken part is not superseded by what it meets first; one that has is.
func TestNewcomerTakesTheEpoch(t *testing.T) {
	for promised, superseded := range map[bool]cluster.Epoch{false: 0, true: 7} {
		inWorld(t, "pg2", three(), func(w *world) {
			w.standby()
			if promised {
				w.must(Promise(w.dir, "main", "pg2", 2, 0))
			}
			s := reigns(102, "pg1", cluster.NewRule(0))
			s.Epoch = 7
			w.record(s)
			for _, n := range []string{"pg1", "pg3"} {
				w.beats.say(n, cluster.Beat{From: n, Epoch: 7, Term: 102, Promised: 102, Admitted: 102, Up: true})
			}
			w.start()
			w.pass(time.Second)
			v := w.view()
			if v.Superseded != superseded {
				t.Errorf("promised %v: superseded by %d", promised, v.Superseded)
			}
			if _, e, err := Promised(w.dir, "main", "pg2"); !promised && (e != 7 || err != nil) {
				t.Errorf("the promise is of epoch %d, %v", e, err)
			}
		})
	}
}
