package probe_test

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"standfast/deploy/probe"
	"standfast/playground/load"
	"standfast/playground/load/loadtest"
)

// TestLoadWithoutAnotherServer writes to the one there is, in its own schema, and says that no other has taken over.
func TestLoadWithoutAnotherServer(t *testing.T) {
	s := loadtest.New(t)
	s.Run("psql", "-q", s.DSN(), "-c", `CREATE ROLE "an app" LOGIN; CREATE SCHEMA its AUTHORIZATION "an app"`)
	u, err := url.Parse(s.DSN())
	if err != nil {
		t.Fatal(err)
	}
	l := probe.Load{Addresses: []string{u.Host}, User: "an app", Password: "p@ss:/ w%rd", Database: "postgres", Schema: "its", Within: time.Second}
	w := ask(t, probe.Request{Load: &l}).Load
	if w == nil || !strings.Contains(w.Error, "no other server takes writes within 1s") || w.Acknowledged == 0 || w.From != "one" || w.To != "one" || w.Two != 0 {
		t.Errorf("%+v", w)
	}
	s.Run("psql", "-q", "-v", "ON_ERROR_STOP=1", s.DSN(), "-c", "SELECT 1 / count(*) FROM its.standfast_load")
	l.Schema = "nobodys"
	if w := ask(t, probe.Request{Load: &l}).Load; w == nil || w.Code != "3F000" {
		t.Errorf("without a schema: %+v", w)
	}
}

// TestJudge measures the silence between two servers, and one that has not ended.
func TestJudge(t *testing.T) {
	ms := time.Millisecond
	ack := func(server string, timeline uint32, at time.Duration) load.Op {
		return load.Op{Begin: at - ms, End: at, Executor: load.Executor{Server: server, Timeline: timeline}}
	}
	ops := []load.Op{ack("pg1", 1, 500*ms), ack("pg1", 1, 510*ms), {Begin: 511 * ms, End: 700 * ms, Outcome: load.Failed}, ack("pg2", 2, 910*ms), ack("pg2", 2, 915*ms)}
	if w, want := probe.Judge(ops, 920*ms), (probe.Work{From: "pg1", To: "pg2", Acknowledged: 4, Outage: 400 * ms}); w != want {
		t.Errorf("got %+v, want %+v", w, want)
	}
	if w := probe.Judge(ops[:3], 5*time.Second); w.Outage != 4490*ms || w.To != "pg1" {
		t.Errorf("a silence that lasts: %+v", w)
	}
	if w := probe.Judge(append(ops, ack("pg1", 1, 1000*ms)), 1010*ms); w.Two != 1 {
		t.Errorf("two at once: %+v", w)
	}
	if w := probe.Judge(nil, time.Second); w != (probe.Work{}) {
		t.Errorf("nothing at all: %+v", w)
	}
}
