package node

import (
	"maps"
	"testing"
	"time"

	"standfast/api"
	"standfast/beat"
	"standfast/cluster"
	"standfast/measure"
)

// TestChangesAreCounted: what was in the history at the first look is not news, and what the history forgets is still counted.
func TestChangesAreCounted(t *testing.T) {
	var c changes
	h := []api.Entry{{Term: 1, Kind: "bootstrap"}, {Term: 2, Kind: "failover"}}
	c.count(h)
	if n := len(c.told()); n != 0 {
		t.Errorf("at the first look: %v", c.told())
	}
	h = append(h, api.Entry{Term: 3, Kind: "switchover"}, api.Entry{Term: 4, Kind: "failover"})
	c.count(h)
	c.count(h)
	c.count(append(h[2:], api.Entry{Term: 6, Kind: "failover"}))
	if want := map[string]uint64{"switchover": 1, "failover": 2}; !maps.Equal(c.told(), want) {
		t.Errorf("counted %v, want %v", c.told(), want)
	}
	var empty changes
	empty.count(nil) // the store answered before there was anything
	empty.count(h[:1])
	if want := map[string]uint64{"bootstrap": 1}; !maps.Equal(empty.told(), want) {
		t.Errorf("a new cluster: %v, want %v", empty.told(), want)
	}
}

func TestDisks(t *testing.T) {
	dir := t.TempDir()
	d, wal, err := disks(dir, dir)
	if err != nil || d.Size <= 0 || d.Free < 0 || d.Free > d.Size || wal != nil {
		t.Errorf("one file system: %+v, %+v, %v", d, wal, err)
	}
	if _, _, err := disks(dir+"/none", ""); err == nil {
		t.Error("a directory that is not there has a size")
	}
	if _, wal, err := disks(dir, "/proc"); err != nil || wal == nil {
		t.Errorf("WAL on a file system of its own: %+v, %v", wal, err)
	}
}

func TestLinked(t *testing.T) {
	v := cluster.View{Self: "pg1", Now: 10 * time.Second, Wall: 1_000_000, Settings: cluster.Settings{Lease: 3 * time.Second}, Peers: map[string]cluster.Peer{
		"pg2": {Beat: cluster.Beat{Wall: 1_004_960}, Heard: 9960 * time.Millisecond},
		"pg3": {Beat: cluster.Beat{Wall: 1_000_000}, Heard: time.Second},
	}}
	links := map[string]beat.Link{"pg2": {Heard: 7, Lost: 1, Trip: 1500 * time.Microsecond}, "pg3": {Heard: 1}}
	of := func(name string) api.Member { return linked(api.Member{Member: cluster.Member{Name: name}}, links, v) }
	if m := of("pg2"); m.BeatsHeard != 7 || m.BeatsLost != 1 || *m.RoundTripMS != 1.5 || *m.ClockMS != 5000 {
		t.Errorf("pg2: %+v, %v, %v", m, *m.RoundTripMS, *m.ClockMS)
	}
	if m := of("pg3"); m.RoundTripMS != nil || m.ClockMS != nil { // silent: its clock is not known any more
		t.Errorf("pg3: %+v", m)
	}
	if m := of("pg1"); m.BeatsHeard != 0 || m.ClockMS != nil {
		t.Errorf("itself: %+v", m)
	}
}

// TestMeasuredInStatus: the status takes what is young, and of two disks the fuller one.
func TestMeasuredInStatus(t *testing.T) {
	now := time.Now()
	m := measure.All{
		Postgres: &measure.Postgres{At: now, Connections: []measure.Count{{N: 2}, {N: 3}}, MaxConnections: 50, Slots: []measure.Slot{{Held: 5}, {Held: 9}, {Held: 1}}, ReplayPaused: true},
		Host:     &measure.Host{At: now, Data: measure.Disk{Size: 100, Free: 50}, WAL: &measure.Disk{Size: 20, Free: 10}},
	}
	var p api.Postgres
	addMeasured(&p, &m, now)
	if p.Connections != 5 || p.MaxConnections != 50 || p.WALRetained != 9 || !p.ReplayPaused || p.DiskFree != 10 || p.DiskSize != 20 {
		t.Errorf("%+v", p)
	}
	p = api.Postgres{}
	addMeasured(&p, &m, now.Add(2*time.Minute))
	if p.Connections != 0 || p.DiskSize != 0 {
		t.Errorf("of two minutes ago: %+v", p)
	}
}

func TestSenders(t *testing.T) {
	m := &measure.Postgres{Receivers: []measure.Receiver{{Name: "pg2", Client: "10.0.0.12", Sync: "async"}}}
	if s := sender("pg2", "streaming", m); s.Client != "10.0.0.12" || s.SyncState != "async" || s.SyncPriority != 0 || s.State != "streaming" {
		t.Errorf("measured: %+v", s)
	}
	for _, m := range []*measure.Postgres{m, nil} {
		if s := sender("pg3", "catchup", m); s.SyncState != "quorum" || s.SyncPriority != 1 || s.Client != "" {
			t.Errorf("not measured yet: %+v", s)
		}
	}
}

func TestSizesAreAskedRarely(t *testing.T) {
	now := time.Now()
	s := &sizes{at: now.Add(-2 * time.Minute), databases: map[string]int64{"a": 1}}
	known, more := []measure.Database{{Name: "a"}}, []measure.Database{{Name: "a"}, {Name: "b"}}
	if s.due(known, now) || !s.due(known, now.Add(4*time.Minute)) || !s.due(more, now) || s.due(more, now.Add(-90*time.Second)) || !(&sizes{}).due(known, now) {
		t.Error("asked at the wrong time")
	}
}
