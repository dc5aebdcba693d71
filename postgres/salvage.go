package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"standfast/cluster"
	"standfast/pgconf"
)

// DiscardedWAL is what one rewind has set aside: WAL that this member had and the cluster's history has not.
type DiscardedWAL struct {
	Dir          string
	At           time.Time // of the rewind
	Timeline     cluster.Timeline
	Fork         cluster.LSN // where the cluster's history left this member's
	Files        int
	Bytes        int64
	Partial      bool // more was discarded than was kept, or can be told of
	Transactions []pgconf.WALTransaction
	Trouble      string // why nothing, or not all, could be read; "" if it could
}

// KeptRewinds is of how many rewinds the discarded WAL is kept; older ones go by themselves.
const KeptRewinds = keepRewinds

// Salvage lists what rewinds have discarded on this member and is still kept, newest first, with the transactions in it. It only reads,
// and takes its time: ctx bounds it.
func (s *Server) Salvage(ctx context.Context) ([]DiscardedWAL, error) {
	c := s.config()
	entries, err := os.ReadDir(c.discarded()) // sorted by name, hence by time
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for discarded WAL: %w", err)
	}
	var out []DiscardedWAL
	for i := len(entries) - 1; i >= 0; i-- {
		d, ok := parseDiscardedDir(entries[i].Name())
		if !ok {
			continue
		}
		d.Dir = filepath.Join(c.discarded(), entries[i].Name())
		c.readDiscarded(ctx, &d)
		out = append(out, d)
	}
	return out, nil
}

// parseDiscardedDir reads the name that discardedDir gives.
func parseDiscardedDir(name string) (d DiscardedWAL, ok bool) {
	at, rest, ok := strings.Cut(name, "-timeline-")
	tl, from, ok2 := strings.Cut(rest, "-from-")
	if !ok || !ok2 {
		return d, false
	}
	n, err := strconv.ParseUint(tl, 10, 32)
	if err != nil {
		return d, false
	}
	d.Timeline = cluster.Timeline(n)
	var err2 error
	d.At, err = time.Parse("20060102T150405.000", at)
	d.Fork, err2 = cluster.ParseLSN(strings.Replace(from, "-", "/", 1))
	return d, err == nil && err2 == nil
}

// readDiscarded fills in what is in the directory.
func (c Config) readDiscarded(ctx context.Context, d *DiscardedWAL) {
	files, err := os.ReadDir(d.Dir)
	if err != nil {
		d.Trouble = err.Error()
		return
	}
	for _, f := range files {
		if info, err := f.Info(); err == nil {
			d.Files++
			d.Bytes += info.Size()
		}
	}
	if d.Partial = d.Files >= keepSegments; d.Files == 0 {
		return
	}
	if err := c.transactionsIn(ctx, d); err != nil {
		d.Trouble = err.Error()
	}
}

// transactionsIn has pg_waldump tell what the WAL holds from the fork on. That it ends with an error is as it should be: WAL ends where the next
// record is none.
func (c Config) transactionsIn(ctx context.Context, d *DiscardedWAL) error {
	cmd := c.command(ctx, "pg_waldump", "-p", d.Dir, "-t", fmt.Sprint(uint32(d.Timeline)), "-s", d.Fork.String())
	cmd.Env = append(cmd.Env, "TZ=UTC", "PGTZ=UTC")
	said := &tail{max: 4 << 10}
	cmd.Stderr = said
	out, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("read discarded WAL: %w", err)
	}
	if err := start(cmd); err != nil {
		return fmt.Errorf("read discarded WAL: %w", err)
	}
	var cut bool
	var read error
	d.Transactions, cut, read = pgconf.ParseWALDump(out)
	d.Partial = d.Partial || cut
	_, _ = io.Copy(io.Discard, out) // so that it can end
	ended := cmd.Wait()
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("read discarded WAL: %w", context.Cause(ctx))
	case read != nil:
		return fmt.Errorf("read discarded WAL: %w", read)
	case ended != nil && !strings.Contains(string(said.buf), "error in WAL record at") && !strings.Contains(string(said.buf), "could not find a valid record"):
		return fmt.Errorf("read discarded WAL: %w: %s", ended, strings.TrimSpace(string(said.buf)))
	}
	return nil
}

// RelationNames finds the names of relations by the databases and files that WAL names them by, as "database: schema.relation". Those that are
// not there any more, or never were in the cluster's history, are left out.
func (s *Server) RelationNames(ctx context.Context, rels []pgconf.WALRelation) (map[pgconf.WALRelation]string, error) {
	names := map[pgconf.WALRelation]string{}
	byDatabase := map[uint32][]pgconf.WALRelation{}
	for _, r := range rels {
		key := pgconf.WALRelation{Tablespace: r.Tablespace, Database: r.Database, Filenode: r.Filenode}
		if names[key] == "" {
			byDatabase[r.Database] = append(byDatabase[r.Database], key)
			names[key] = "?"
		}
	}
	var err error
	for db, keys := range byDatabase {
		err = errors.Join(err, s.namesIn(ctx, db, keys, names))
	}
	for key, name := range names {
		if name == "?" {
			delete(names, key)
		}
	}
	return names, err
}

// defaultTablespace is pg_default's OID, which pg_filenode_relation calls 0.
const defaultTablespace = 1663

func (s *Server) namesIn(ctx context.Context, db uint32, keys []pgconf.WALRelation, names map[pgconf.WALRelation]string) error {
	c := s.config()
	first, err := c.connect(ctx, "standfast_salvage")
	if err != nil {
		return err
	}
	var database string
	err = first.QueryRow(ctx, "select coalesce((select datname from pg_catalog.pg_database where oid = $1 or $1 = 0 and datname = 'postgres'), '')", db).Scan(&database)
	closeConn(first)
	if err != nil || database == "" {
		return err
	}
	conn, err := c.connectTo(ctx, database, "standfast_salvage")
	if err != nil {
		return err
	}
	defer closeConn(conn)
	for _, k := range keys {
		space := k.Tablespace
		if space == defaultTablespace {
			space = 0
		}
		var name string
		err := conn.QueryRow(ctx, `select coalesce((select n.nspname || '.' || c.relname from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
			where c.oid = pg_catalog.pg_filenode_relation($1, $2)), '')`, space, k.Filenode).Scan(&name)
		if err != nil {
			return fmt.Errorf("find a relation's name: %w", err)
		}
		if name != "" {
			names[k] = database + ": " + name
		}
	}
	return nil
}
