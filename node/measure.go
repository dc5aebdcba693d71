package node

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"standfast/api"
	"standfast/beat"
	"standfast/cluster"
	"standfast/internal/grid"
	"standfast/measure"
)

// Paces of measuring. A scrape is answered from what was measured last.
const (
	measurePace = 15 * time.Second
	measureTime = 5 * time.Second // for one measurement
	sizesPace   = 5 * time.Minute // of what looks at every file
	sizesTime   = time.Minute
)

// gauges holds what was measured last.
type gauges struct {
	postgres atomic.Pointer[measure.Postgres]
	host     atomic.Pointer[measure.Host]
	store    atomic.Pointer[measure.Store]

	mu       sync.Mutex
	failures map[string]uint64
	asked    chan struct{} // closed when the look at the disks that is under way has ended; nil: none is
}

func (g *gauges) all() measure.All {
	g.mu.Lock()
	defer g.mu.Unlock()
	return measure.All{Postgres: g.postgres.Load(), Host: g.host.Load(), Store: g.store.Load(), Failures: maps.Clone(g.failures)}
}

func (g *gauges) failed(of string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.failures == nil {
		g.failures = map[string]uint64{}
	}
	g.failures[of]++
}

// sizes are asked rarely, and put into every measurement since.
type sizes struct {
	at        time.Time
	databases map[string]int64
	wal       int64
}

// due also is what has a database that was not there the last time, though not at once: somebody may be making many.
func (s *sizes) due(databases []measure.Database, now time.Time) bool {
	unknown := slices.ContainsFunc(databases, func(d measure.Database) bool { _, ok := s.databases[d.Name]; return !ok })
	return now.Sub(s.at) > sizesPace || unknown && now.Sub(s.at) > sizesPace/5
}

// keepMeasures measures PostgreSQL, the host and the store again and again until ctx ends.
func (n *Node) keepMeasures(ctx context.Context) error {
	var s sizes
	for {
		n.measureHost(ctx)
		n.measureStore(ctx)
		n.measurePostgres(ctx, &s)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(grid.Until(time.Now(), measurePace)):
		}
	}
}

// measurePostgres leaves a server in peace that does not answer, or is being promoted or stopped: each session is one more
// process that it would have to wait for.
func (n *Node) measurePostgres(ctx context.Context, s *sizes) {
	v := n.view.Load()
	if n.pg == nil || v == nil || !v.Postgres.Up {
		return
	}
	switch v.Doing.(type) {
	case cluster.Promote, cluster.Handover, cluster.Stop:
		return
	}
	mctx, cancel := context.WithTimeout(ctx, measureTime)
	defer cancel()
	m, err := n.pg.Measure(mctx)
	if err != nil {
		n.notMeasured("postgres", err)
		return
	}
	if s.due(m.Databases, time.Now()) {
		n.measureSizes(ctx, s)
	}
	m.SizesAt, m.WALFiles = s.at, s.wal
	for i := range m.Databases {
		if size, ok := s.databases[m.Databases[i].Name]; ok {
			m.Databases[i].Size = size
		}
	}
	n.gauges.postgres.Store(&m)
}

func (n *Node) measureSizes(ctx context.Context, s *sizes) {
	ctx, cancel := context.WithTimeout(ctx, sizesTime)
	defer cancel()
	s.at = time.Now() // of a failed attempt as well: where it is slow it must not be repeated at once
	databases, wal, err := n.pg.Sizes(ctx)
	if err != nil {
		n.notMeasured("postgres", err)
		return
	}
	s.databases, s.wal = databases, wal
}

func (n *Node) notMeasured(of string, err error) {
	n.gauges.failed(of)
	n.log.Debug("measure", "of", of, "error", err)
}

// measureHost looks at the disks and the certificate. A file system that hangs holds whoever asks, and nobody can call him back:
// so it has a goroutine of its own, and while one hangs there is no second one.
func (n *Node) measureHost(ctx context.Context) {
	g := &n.gauges
	g.mu.Lock()
	if g.asked == nil {
		g.asked = make(chan struct{})
		go n.askHost(g.asked)
	}
	asked := g.asked
	g.mu.Unlock()
	select {
	case <-asked:
	case <-ctx.Done():
	case <-time.After(measureTime):
		n.notMeasured("host", errors.New("no answer from the disk"))
	}
}

func (n *Node) askHost(asked chan struct{}) {
	h := measure.Host{At: time.Now()}
	var err error
	if n.pg != nil {
		h.Data, h.WAL, err = disks(n.cfg.Postgres.DataDir, n.cfg.Postgres.WALDir)
	} else {
		h.Data, _, err = disks(n.cfg.StateDir, "")
	}
	if err != nil {
		n.notMeasured("host", err)
	}
	if cert, err := n.tls.files.Leaf(); err == nil {
		h.Certificate = cert.NotAfter
	} else {
		n.notMeasured("host", err)
	}
	n.gauges.host.Store(&h)
	n.gauges.mu.Lock()
	defer n.gauges.mu.Unlock()
	n.gauges.asked = nil
	close(asked)
}

// disks looks at the file systems of the data and of the WAL, if that has one of its own.
func disks(data, wal string) (measure.Disk, *measure.Disk, error) {
	d, id, err := disk(data)
	if err != nil || wal == "" {
		return d, nil, err
	}
	w, of, err := disk(wal)
	if err != nil || of == id {
		return d, nil, err
	}
	return d, &w, nil
}

func disk(path string) (d measure.Disk, id unix.Fsid, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return d, id, fmt.Errorf("look at the file system of %s: %w", path, err)
	}
	return measure.Disk{Size: int64(st.Blocks) * st.Bsize, Free: int64(st.Bavail) * st.Bsize}, st.Fsid, nil
}

func (n *Node) measureStore(ctx context.Context) {
	if n.etcd == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	size, err := n.etcd.admin.Size(ctx)
	if err != nil {
		n.notMeasured("store", err)
		return
	}
	n.gauges.store.Store(&measure.Store{At: time.Now(), Size: size})
}

// changes counts what the history gains while this member's agent runs.
type changes struct {
	last  cluster.Term // the newest term counted, or there at the first look
	known bool
	by    atomic.Pointer[map[string]uint64]
}

func (c *changes) count(entries []api.Entry) {
	by := maps.Clone(c.told())
	if by == nil {
		by = map[string]uint64{}
	}
	for _, e := range entries {
		if c.known && e.Term > c.last {
			by[e.Kind]++
		}
	}
	if len(entries) > 0 {
		c.last = max(c.last, entries[len(entries)-1].Term)
	}
	c.known = true
	c.by.Store(&by)
}

// told may be called from any goroutine; what it returns is never changed.
func (c *changes) told() map[string]uint64 {
	if by := c.by.Load(); by != nil {
		return *by
	}
	return nil
}

func (n *Node) links() map[string]beat.Link {
	if n.beats == nil {
		return nil
	}
	return n.beats.Links()
}

// linked adds how well the member is heard here.
func linked(m api.Member, links map[string]beat.Link, v cluster.View) api.Member {
	p := v.Peers[m.Name]
	l, ok := links[m.Name]
	if !ok || m.Name == v.Self {
		return m
	}
	m.BeatsHeard, m.BeatsLost = l.Heard, l.Lost
	if l.Trip > 0 {
		m.RoundTripMS = new(float64(l.Trip.Microseconds()) / 1000)
	}
	if p.Beat.Wall != 0 && p.Heard != 0 && v.Now-p.Heard < v.Settings.Lease {
		m.ClockMS = new(offset(v, p).Milliseconds())
	}
	return m
}

// addMeasured puts into the status what was measured within the last minute.
func addMeasured(p *api.Postgres, m *measure.All, now time.Time) {
	if s := m.Postgres; s != nil && now.Sub(s.At) < 4*measurePace {
		for _, c := range s.Connections {
			p.Connections += int(c.N)
		}
		p.MaxConnections = s.MaxConnections
		for _, slot := range s.Slots {
			p.WALRetained = max(p.WALRetained, slot.Held)
		}
		p.ReplayedAt, p.ReplayPaused = s.Replayed, s.ReplayPaused
	}
	if h := m.Host; h != nil && now.Sub(h.At) < 4*measurePace {
		p.DiskSize, p.DiskFree = h.Data.Size, h.Data.Free
		if h.WAL != nil && h.WAL.Free < h.Data.Free {
			p.DiskSize, p.DiskFree = h.WAL.Size, h.WAL.Free
		}
	}
}
