package agent

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"standfast/cluster"
	"standfast/store"
)

// TestFoundsAlone: a single member makes its cluster by itself, and nobody is let in before the term's row is written.
func TestFoundsAlone(t *testing.T) {
	inWorld(t, "pg1", members("pg1"), func(w *world) {
		w.settings.AllowSingleCopy = true
		w.start()
		w.until("clients are admitted", func() bool { return w.beats.said().Admitted == 1 })
		w.order(0, "cas 1 elected", "pg init", "done: pg init", "cas 1 reigning", "pg term row", "pg open")
		if s := w.recorded(); s.Primary != "pg1" || s.SystemID != "7" || s.Timeline != 1 {
			t.Errorf("recorded: %+v", s)
		}
		if r := w.router.now(); r.Write != "pg1" || r.Hold {
			t.Errorf("the route is %+v", r)
		}
		w.until("the history is written", func() bool {
			h, err := w.admin.History(context.Background())
			return err == nil && len(h) == 1 && h[0].Kind == "bootstrap" && h[0].Primary == "pg1"
		})
	})
}

// TestNobodyIsFoundedUntilAllAreHeard: a founder that counted on a part of the founders could make a second cluster.
func TestNobodyIsFoundedUntilAllAreHeard(t *testing.T) {
	inWorld(t, "pg1", three(), func(w *world) {
		w.beats.forget("pg3")
		w.start()
		w.never(5*time.Second, "cas")
		w.beats.say("pg3", cluster.Beat{Data: cluster.NoData})
		w.untilDone("cas 1 elected")
	})
}

// TestElectedTakesOffice: from a report to clients let in, each step relies on the one before.
func TestElectedTakesOffice(t *testing.T) {
	inWorld(t, "pg2", three(), func(w *world) {
		w.following(cluster.NewRule(1, "pg2", "pg3"))
		w.beats.silence("pg1")
		w.beats.change("pg3", func(b *cluster.Beat) { b.Suspects = []string{"pg1"} })
		w.untilDone("cas 3 electing")
		w.until("attached to nobody", func() bool { return w.relay.Status().Term == 0 })
		w.relay.connect()
		w.must(w.admin.PutReport(context.Background(), cluster.Report{Term: 3, Member: "pg3", Position: cluster.Position{Timeline: 2, LSN: 0x1F00000}, Priority: 100}))
		w.beats.change("pg3", func(b *cluster.Beat) { b.Term, b.Promised, b.Attached = 3, 3, 0 })
		w.until("clients are admitted", func() bool { return w.beats.said().Admitted == 3 })
		w.order(0, "cas 3 electing", "relay raise 3", "store report, promise on disk 3", "cas 3 elected ANY 1 of pg1, pg3",
			"pg promote", "cas 3 reigning", "pg term row", "pg open", "store put history/")
		if s := w.recorded(); s.Timeline != 3 || s.Fork != 0x2000000 || s.Primary != "pg2" {
			t.Errorf("recorded: %+v", s)
		}
	})
}

// TestAdmissionIsOverruled: a newer term that is heard of while pg_hba is being opened ends the admission before anybody
// is told of it.
func TestAdmissionIsOverruled(t *testing.T) {
	inWorld(t, "pg1", three(), func(w *world) {
		w.pg.runs(cluster.Postgres{Position: cluster.Position{Timeline: 2, LSN: 0x2000000}, Fork: 0x1000000, Names: cluster.NewRule(1, "pg2", "pg3"), Standbys: streaming("pg2", "pg3")})
		w.pg.inTheMidst("open", func() { w.beats.say("pg3", cluster.Beat{Term: 3, Promised: 3, Data: cluster.DataReady}) })
		w.beats.say("pg2", cluster.Beat{Term: 2, Promised: 2, Attached: 2, Data: cluster.DataReady, Up: true})
		w.record(reigns(2, "pg1", cluster.NewRule(1, "pg2", "pg3")))
		w.start()
		w.untilDone("pg kill")
		w.order(0, "pg term row", "pg open", "relay detach", "pg kill")
		if w.beats.everSaid(func(b cluster.Beat) bool { return b.Admitted != 0 }) {
			t.Error("it told others that clients are admitted")
		}
		if w.count("store put history") > 0 {
			t.Error("a reign that admitted nobody is in the history")
		}
	})
}

// TestDeathIsAnsweredAtOnce: the end of the server's process is an event, not something a poll finds.
func TestDeathIsAnsweredAtOnce(t *testing.T) {
	inWorld(t, "pg1", three(), func(w *world) {
		w.reigning(cluster.NewRule(1, "pg2", "pg3"))
		w.pass(10 * time.Second) // everything is calm: nothing is polled often
		mark, died := w.mark(), time.Now()
		w.pg.dies()
		w.untilDone("cas 3 electing")
		at := w.order(mark, "relay detach", "pg kill", "done: pg kill", "cas 3 electing")
		if took := at[3].Sub(died); took > time.Millisecond {
			t.Errorf("it took %v", took)
		}
		if s := w.recorded(); s.Avoid != "pg1" || !s.Rule.Equal(cluster.NewRule(1, "pg2", "pg3")) {
			t.Errorf("recorded: %+v", s)
		}
		if r := w.router.now(); r.Write != "" || !r.Hold {
			t.Errorf("the route is %+v", r)
		}
	})
}

// TestHandoverWaitsUntilAllHold: a connection made while the server shuts down would be refused, so every router that is
// heard has said that it lets new ones wait before the stop begins.
func TestHandoverWaitsUntilAllHold(t *testing.T) {
	inWorld(t, "pg1", three(), func(w *world) {
		w.reigning(cluster.NewRule(1, "pg2", "pg3"))
		mark := w.mark()
		w.ask("pg2")
		w.untilDone("store put request")
		w.beats.change("pg2", func(b *cluster.Beat) { b.Holding = true })
		w.never(detect/2, "pg stop")
		if !w.beats.said().Holding || !w.router.now().Hold {
			t.Error("this member's own router does not hold")
		}
		held := time.Now()
		w.beats.change("pg3", func(b *cluster.Beat) { b.Holding = true })
		w.untilDone("cas 3 electing")
		at := w.order(mark, "pg checkpoint", "store put request", "pg stop", "pg kill", "cas 3 electing")
		if took := at[2].Sub(held); took > 10*time.Millisecond {
			t.Errorf("the stop began %v after the last router held", took)
		}
		if s := w.recorded(); s.Prefer != "pg2" || !strings.Contains(s.Reason, "op asked for a switchover") {
			t.Errorf("recorded: %+v", s)
		}
	})
}

// TestHandoverGoesOnWithoutTheDeaf: a member that does not say it holds delays a switchover by the detection time at most.
func TestHandoverGoesOnWithoutTheDeaf(t *testing.T) {
	inWorld(t, "pg1", three(), func(w *world) {
		w.reigning(cluster.NewRule(1, "pg2", "pg3"))
		asked := time.Now()
		w.ask("pg2")
		w.untilDone("pg stop")
		if took := time.Since(asked); took < detect || took > detect+50*time.Millisecond {
			t.Errorf("the stop began after %v", took)
		}
	})
}

// TestFailedHandoverIsWithdrawn: the same primary goes on, and the operator learns why.
func TestFailedHandoverIsWithdrawn(t *testing.T) {
	inWorld(t, "pg1", three(), func(w *world) {
		w.reigning(cluster.NewRule(1, "pg2", "pg3"))
		w.untilDone("done: pg checkpoint") // that of the admission
		w.pg.failOnce("checkpoint", errors.New("no space left on device"))
		w.ask("pg2")
		w.untilDone("store put notes/")
		notes, err := w.admin.Notes(context.Background())
		if err != nil || len(notes) != 1 || notes[0].Kind != "refused" || !strings.Contains(notes[0].Text, "no space left on device") {
			t.Errorf("notes: %+v, %v", notes, err)
		}
		w.never(5*time.Second, "pg stop")
		if b := w.beats.said(); b.Admitted != 2 || b.Holding || w.recorded().Term != 2 {
			t.Errorf("it says %+v", b)
		}
	})
}

// TestLateRequestIsNotCarriedOut: one that nobody stands by was recorded after its operator had been told that it failed. It
// is taken back; one that the asking member stands by, as its beat says, is carried out.
func TestLateRequestIsNotCarriedOut(t *testing.T) {
	inWorld(t, "pg1", three(), func(w *world) {
		w.reigning(cluster.NewRule(1, "pg2", "pg3"))
		w.untilDone("done: pg checkpoint") // that of the admission
		late := cluster.Request{ID: "2", Kind: cluster.Failover, Term: 2, By: "op", From: "pg2"}
		put := func() {
			_, err := w.admin.PutRequest(context.Background(), late, 0)
			w.must(err)
		}
		put()
		w.never(9*time.Second, "cas 3 electing")
		w.untilDone("store put notes/")
		if notes, err := w.admin.Notes(context.Background()); err != nil || !strings.Contains(notes[0].Text, "pg2 does not stand by it") {
			t.Errorf("notes: %+v, %v", notes, err)
		}
		w.never(time.Second, "cas 3 electing")
		if _, err := w.admin.Request(context.Background()); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("the late request is still there: %v", err)
		}
		put()
		w.beats.change("pg2", func(b *cluster.Beat) { b.Asked = "2" })
		w.untilDone("cas 3 electing")
	})
}

// TestImpossibleSwitchoverIsRefused before anything is touched.
func TestImpossibleSwitchoverIsRefused(t *testing.T) {
	inWorld(t, "pg1", three(), func(w *world) {
		w.reigning(cluster.NewRule(1, "pg2", "pg3"))
		w.untilDone("done: pg checkpoint") // that of the admission
		w.ask("pg9")
		w.untilDone("store put notes/")
		if notes, err := w.admin.Notes(context.Background()); err != nil || !strings.Contains(notes[0].Text, "pg9 is not a member") {
			t.Errorf("notes: %+v, %v", notes, err)
		}
		if w.count("pg checkpoint") > 1 {
			t.Error("the hand-over had begun")
		}
	})
}

// TestExpelled: a primary that hears no majority for the lease cuts its clients and stays up; it lets them in again when it
// hears one.
func TestExpelled(t *testing.T) {
	inWorld(t, "pg1", three(), func(w *world) {
		w.reigning(cluster.NewRule(1, "pg2", "pg3"))
		opened := w.count("pg open")
		cut := time.Now()
		w.beats.silence("pg2")
		w.beats.silence("pg3")
		w.until("the route is gone", func() bool { return w.router.now().Write == "" })
		if took := time.Since(cut); took < lease || took > lease+100*time.Millisecond {
			t.Errorf("the route went after %v", took)
		}
		w.untilDone("done: pg close")
		if w.beats.said().Admitted != 0 || w.count("pg kill") > 0 {
			t.Error("it says that it admits clients, or was killed")
		}
		w.beats.say("pg2", cluster.Beat{Term: 2, Promised: 2, Attached: 2, Data: cluster.DataReady, Up: true, Recovery: true})
		w.until("clients are admitted again", func() bool { return w.beats.said().Admitted == 2 && w.count("pg open") > opened })
	})
}

// TestNobodyIsLeftAfterAFence: clients that were still being cut when the server was killed need not be kept out of the next
// one: a server that has only just been started would die of the signal.
func TestNobodyIsLeftAfterAFence(t *testing.T) {
	inWorld(t, "pg1", three(), func(w *world) {
		w.reigning(cluster.NewRule(1, "pg2", "pg3"))
		w.pg.failOnce("close", errors.New("the server is going down"))
		w.pg.inTheMidst("close", func() {
			w.record(reigns(3, "pg2", cluster.NewRule(1, "pg1", "pg3")))
			w.pg.dies()
		})
		release := w.pg.hold("start")
		w.beats.silence("pg2")
		w.beats.silence("pg3")
		w.untilDone("pg start")
		before := w.count("pg close")
		w.pass(time.Second)
		release()
		w.untilDone("done: pg start")
		w.pass(time.Second)
		if n := w.count("pg close"); n != before || before == 0 {
			t.Errorf("clients were closed out %d times before the start, and %d times after that", before, n-before)
		}
	})
}

// TestAStartIsNotDisturbed: clients were to be kept out of a server that died by itself. The start of the next one keeps them
// out, and its postmaster, once it is there and before it answers, would die of a SIGHUP.
func TestAStartIsNotDisturbed(t *testing.T) {
	inWorld(t, "pg1", three(), func(w *world) {
		w.reigning(cluster.NewRule(1, "pg2", "pg3"))
		w.pg.failOnce("close", errors.New("the server is going down"))
		w.pg.inTheMidst("close", func() {
			w.pg.dies()
			w.record(reigns(3, "pg2", cluster.NewRule(1, "pg1", "pg3")))
		})
		begun, over, kills := 0, 0, 0
		w.pg.inTheMidst("start", func() {
			w.pg.mu.Lock()
			w.pg.running, w.pg.standby, w.pg.silent = true, true, true
			w.pg.mu.Unlock()
			begun, kills = w.count("pg close"), w.count("pg kill") // a fence may have come upon the server that died
			time.Sleep(2 * time.Second)
			over = w.count("pg close")
			w.pg.mu.Lock()
			w.pg.silent = false
			w.pg.mu.Unlock()
		})
		w.beats.silence("pg2")
		w.beats.silence("pg3")
		w.untilDone("done: pg start")
		if begun == 0 || over != begun || w.count("pg kill") > kills {
			t.Errorf("clients were closed out %d times before the start and %d times in it; the server was killed %d times", begun, over-begun, w.count("pg kill")-kills)
		}
	})
}

// TestAdoptsAReigningServer: an agent restarted under its server goes on with it and stops nothing.
func TestAdoptsAReigningServer(t *testing.T) {
	inWorld(t, "pg1", three(), func(w *world) {
		w.reigning(cluster.NewRule(1, "pg2", "pg3"))
		w.stop()
		mark := w.mark()
		w.start()
		w.until("clients are admitted again", func() bool { return w.view().Admitted == 2 })
		w.order(mark, "cas 2 reigning ANY 1 of pg2, pg3", "pg term row", "pg open")
		for _, what := range []string{"pg kill", "pg stop", "pg start", "cas 3"} {
			if w.count(what) > 0 {
				t.Errorf("%q was done", what)
			}
		}
	})
}
