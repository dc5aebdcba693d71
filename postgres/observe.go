package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"standfast/cluster"
	"standfast/pgconf"
)

// Observation is what one look at the server has seen.
type Observation struct {
	Postgres cluster.Postgres

	ReceiverPID  int  // the WAL receiver's process, 0 if there is none
	ReceiverGone bool // there was none before the positions were read, so that they can't rise any more without a new one

	// Streamed says that since the server started a WAL receiver was asked for. Until then the received position is not
	// known at all; from then on all WAL that was there at the start has been replayed, and max(received, replayed) is the
	// end of what this server has.
	Streamed bool

	Impostors bool // somebody who is no member receives WAL under a member's name (see EndImpostors)

	Version pgconf.Version
	Started time.Time // of the postmaster, by the server's clock
}

// observeSQL is sent as one message and answered in one round trip. The statements run in order, which matters: the WAL
// receiver's absence has to be seen before the positions are read. A receiver flushes what it holds before its entry
// goes.
//
// A promotion may happen between two expressions, so the server counts as a primary exactly if it gave a flush position.
const observeSQL = `
select coalesce((select pid from pg_stat_activity where backend_type = 'walreceiver' limit 1), 0);
select case when pg_is_in_recovery() then null else pg_current_wal_flush_lsn() end,
	case when pg_is_in_recovery() then null else left(pg_walfile_name(pg_current_wal_flush_lsn()), 8) end,
	pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn(), current_setting('synchronous_standby_names'),
	current_setting('server_version_num'), extract(epoch from pg_postmaster_start_time())::float8;
select application_name, state, flush_lsn, replay_lsn, usename from pg_stat_replication order by backend_start`

// Observe asks the server how it stands, in one round trip on a connection of its own. Without an answer the error says
// why; Running is then left to the caller (see Running).
func (s *Server) Observe(ctx context.Context) (Observation, error) {
	var o Observation
	err := s.observer.use(ctx, func(conn *pgx.Conn) error {
		results, err := conn.PgConn().Exec(ctx, observeSQL).ReadAll()
		if err != nil {
			return err
		}
		o, err = s.interpret(results)
		return err
	})
	if err == nil {
		err = s.place(ctx, &o)
	}
	if err != nil {
		return Observation{}, fmt.Errorf("observe PostgreSQL: %w", err)
	}
	return o, nil
}

// interpret reads the three results of observeSQL.
func (s *Server) interpret(results []*pgconn.Result) (Observation, error) {
	var o Observation
	if len(results) != 3 || len(results[0].Rows) != 1 || len(results[1].Rows) != 1 {
		return o, fmt.Errorf("unexpected answer of %d results", len(results))
	}
	p := textParser{}
	o.ReceiverPID = p.number(results[0].Rows[0][0])
	o.ReceiverGone = o.ReceiverPID == 0
	row := results[1].Rows[0]
	pg := &o.Postgres
	pg.Running, pg.Up, pg.Recovery = true, true, row[0] == nil
	received := p.lsn(row[2])
	pg.Replayed = p.lsn(row[3])
	if pg.Recovery {
		o.Streamed, pg.Ready = row[2] != nil, true
		pg.Position.LSN = max(received, pg.Replayed)
	} else {
		tl, err := strconv.ParseUint(string(row[1]), 16, 32)
		if err != nil {
			return o, fmt.Errorf("read the timeline: %w", err)
		}
		pg.Position = cluster.Position{Timeline: cluster.Timeline(tl), LSN: p.lsn(row[0])}
		pg.Replayed = 0
	}
	rule, err := pgconf.ParseSyncNames(string(row[4]))
	if err != nil {
		return o, err
	}
	pg.Names = rule
	o.Version = pgconf.VersionNum(p.number(row[5]))
	o.Started = p.time(row[6])
	for _, r := range results[2].Rows {
		if string(r[4]) != pgconf.ReplicationRole { // somebody else, whatever it calls itself
			o.Impostors = o.Impostors || slices.Contains(s.config().Members, string(r[0]))
			continue
		}
		pg.Standbys = addStandby(pg.Standbys, s.config().Members, cluster.Standby{
			Name: string(r[0]), Streaming: string(r[1]) == "streaming", Flushed: p.lsn(r[2]), Replayed: p.lsn(r[3])})
	}
	return o, p.err
}

// addStandby keeps one entry for each member: a newer connection replaces an older one.
func addStandby(have []cluster.Standby, members []string, sb cluster.Standby) []cluster.Standby {
	if !slices.Contains(members, sb.Name) {
		return have
	}
	have = slices.DeleteFunc(have, func(o cluster.Standby) bool { return o.Name == sb.Name })
	return append(have, sb)
}

// textParser reads values in text form and keeps the first error. A missing value is zero.
type textParser struct{ err error }

func (p *textParser) note(err error) {
	if p.err == nil {
		p.err = err
	}
}

func (p *textParser) number(b []byte) int {
	n, err := strconv.Atoi(string(b))
	if b != nil {
		p.note(err)
	}
	return n
}

func (p *textParser) lsn(b []byte) cluster.LSN {
	if b == nil {
		return 0
	}
	l, err := cluster.ParseLSN(string(b))
	p.note(err)
	return l
}

func (p *textParser) float(b []byte) float64 {
	if b == nil {
		return 0
	}
	f, err := strconv.ParseFloat(string(b), 64)
	p.note(err)
	return f
}

func (p *textParser) time(b []byte) time.Time { return time.UnixMicro(int64(p.float(b) * 1e6)) }

// when is time, and zero if there is none.
func (p *textParser) when(b []byte) time.Time {
	if b == nil {
		return time.Time{}
	}
	return p.time(b)
}

// place adds what is read from files: the system identifier, a standby's timeline, a primary's history and fork.
func (s *Server) place(ctx context.Context, o *Observation) error {
	k, err := s.lookup(ctx)
	if err != nil {
		return err
	}
	c, pg := s.config(), &o.Postgres
	pg.SystemID = k.systemID
	if pg.Recovery {
		pg.Position.Timeline, err = c.timelineOf(pg.Position.LSN, k.segment)
		if pg.Position.Timeline == 0 && err == nil {
			pg.Position.Timeline, err = s.controlTimeline(ctx)
		}
		return err
	}
	pg.History, pg.Fork, err = c.history(pg.Position.Timeline)
	return err
}

// timelineOf says on which timeline the WAL that ends at lsn was written: the highest one that has a segment file over
// the byte before lsn and whose fork is below it. A timeline's first segment begins with WAL of its parent, so a file
// alone proves nothing. Zero: no file covers it.
func (c Config) timelineOf(lsn cluster.LSN, segment uint64) (cluster.Timeline, error) {
	if lsn == 0 {
		return 0, nil
	}
	dir, err := os.Open(c.walDir())
	if err != nil {
		return 0, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return 0, err
	}
	var best cluster.Timeline
	for _, n := range names {
		seg, ok := pgconf.ParseSegment(n, segment)
		if !ok || seg.Timeline <= best || seg.Number != pgconf.SegmentAt(seg.Timeline, lsn-1, segment).Number {
			continue
		}
		_, fork, err := c.history(seg.Timeline)
		if err != nil {
			return 0, err
		}
		if fork < lsn {
			best = seg.Timeline
		}
	}
	return best, nil
}

// controlTimeline is the timeline of the last checkpoint, for a standby that has no WAL at its position yet.
func (s *Server) controlTimeline(ctx context.Context) (cluster.Timeline, error) {
	var tl uint32
	err := s.observer.use(ctx, func(conn *pgx.Conn) error {
		return conn.QueryRow(ctx, "select timeline_id from pg_control_checkpoint()").Scan(&tl)
	})
	return cluster.Timeline(tl), err
}

// history reads a timeline's ancestors and where it begins. Timeline 1 has neither.
func (c Config) history(tl cluster.Timeline) (cluster.History, cluster.LSN, error) {
	b, err := os.ReadFile(filepath.Join(c.walDir(), pgconf.HistoryName(tl)))
	if errors.Is(err, os.ErrNotExist) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	h, err := pgconf.ParseHistory(string(b))
	if err != nil || len(h) == 0 {
		return nil, 0, err
	}
	return h, h[len(h)-1].End, nil
}
