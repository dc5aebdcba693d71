package cli

import (
	"bytes"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"standfast/api"
	"standfast/cluster"
)

func wide() *api.Status {
	st := &api.Status{Cluster: "production", Term: 1234, Primary: "database_one", Phase: cluster.Reigning, Since: time.Unix(0, 0), Timeline: 120,
		Warnings: []string{"database_two is not heard from for 3 min: see whether the host is up and its network is connected; automatic failover still works"}}
	st.Address = []api.Address{{Address: "10.0.1.50", Follows: "primary", Holder: "database_one"},
		{Address: "2001:db8:1234:5678:9abc:def0:1234:5678", Follows: "standby"}}
	st.ReplicationClients = []api.ReplicationClient{{Name: "barman", Held: 3 << 30, WALStatus: "extended"}}
	lag := int64(123 << 20)
	seconds := 4000.0
	for _, n := range []string{"database_one", "database_two", "witness_one"} {
		st.Members = append(st.Members, api.Member{
			Member: cluster.Member{Name: n, Kind: cluster.Data, Postgres: "192.168.100.111:15432", Location: "building 7, room 2"}, Role: api.Standby,
			State: api.Initialising, Timeline: 120, LSN: 0xFFFF_FFFF_FFFF_FFFF, Lag: &lag, LagSeconds: &seconds, PendingRestart: true, Sessions: 10000,
		})
	}
	return st
}

func TestStatusFits(t *testing.T) {
	for _, width := range []int{80, 100, 120} {
		var b bytes.Buffer
		writeStatus(&b, style{width: width}, wide(), nil, time.Unix(90000, 0))
		for _, line := range strings.Split(b.String(), "\n") {
			if n := utf8.RuneCountInString(line); n > width {
				t.Errorf("at %d columns a line has %d: %s", width, n, line)
			}
		}
		if !strings.Contains(b.String(), "replication client barman is not connected · 3.0 GB of WAL kept for it") {
			t.Errorf("the replication client is gone:\n%s", b.String())
		}
		for _, must := range []string{"database_one", "MEMBER", "ROLE", "STATE", "LAG", "! database_two",
			"10.0.1.50 follows the primary · held by database_one", "held by nobody"} {
			if !strings.Contains(b.String(), must) {
				t.Errorf("at %d columns %s is gone:\n%s", width, must, b.String())
			}
		}
	}
}

func TestColourOnlyWhereItIsSeen(t *testing.T) {
	t.Setenv("NO_COLOR", "")
	if s := styleOf(&bytes.Buffer{}, false); s.colour || s.terminal {
		t.Errorf("a pipe: %+v", s)
	}
	if got := (style{}).bad("x"); got != "x" {
		t.Errorf("plain text: %q", got)
	}
	if got := (style{colour: true}).bad("x"); got != "\x1b[31mx\x1b[0m" {
		t.Errorf("colour: %q", got)
	}
}

func TestHuman(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 999: "999 B", 1000: "1.0 kB", 1536: "1.5 kB", 1 << 20: "1.0 MB", 300 << 30: "300 GB"} {
		if got := human(n); got != want {
			t.Errorf("human(%d) = %s, want %s", n, got, want)
		}
	}
}

func TestMeterTellsTheRate(t *testing.T) {
	var m meter
	t0 := time.Unix(0, 0)
	if got := m.text(0, 4<<30, t0); got != "0 B of 4.0 GB" {
		t.Error(got)
	}
	if got := m.text(1<<30, 4<<30, t0.Add(10*time.Second)); got != "1.0 GB of 4.0 GB, 102 MB/s" {
		t.Error(got)
	}
}
