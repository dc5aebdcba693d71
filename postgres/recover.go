package postgres

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"standfast/cluster"
	"standfast/pgconf"
)

// Recovery says to where restored data is recovered ("Recovery Target" in PostgreSQL's "Write Ahead Log" settings). At most one of Time,
// LSN and TargetName is given; none: to the end of all WAL there is.
type Recovery struct {
	Command    string // restore_command; "": only the WAL that lies in the data directory
	Time       string // a timestamp as PostgreSQL reads it
	LSN        cluster.LSN
	TargetName string           // of pg_create_restore_point()
	Exclusive  bool             // end just before the target instead of just after
	Timeline   cluster.Timeline // to follow; 0: the newest that the data can follow
	Above      cluster.Timeline // numbers up to this one are known to have been used
}

// Recovered is where a recovery has ended.
type Recovered struct {
	SystemID string           // the data's identity from now on: no other cluster's
	Timeline cluster.Timeline // above all that are known of
	LSN      cluster.LSN
	Term     cluster.Term // the newest that the data has a row of; 0: none
	Last     time.Time    // of the last transaction recovered; zero: there was none
}

// ErrOccupied says that there is data where a restore would have to go.
var ErrOccupied = errors.New("there is data already")

// BeginRestore makes room for a restore: the data directory must be empty, or what a restore that was cut short has left. From now on,
// until Recover has ended, a marker says that what lies there is worth nothing.
func (s *Server) BeginRestore(ctx context.Context) error {
	c := s.config()
	if err := c.vacant(); err != nil {
		return err
	}
	if err := s.KillAll(ctx); err != nil {
		return fmt.Errorf("make room for a restore: %w", err)
	}
	if err := c.mark(workRestore); err != nil {
		return err
	}
	s.forget()
	for _, dir := range []string{c.WALDir, c.DataDir} {
		if dir == "" {
			continue
		}
		if err := errors.Join(clearDir(dir), c.makeDir(dir), os.Chmod(dir, 0o700)); err != nil {
			return fmt.Errorf("make room for a restore: %w", err)
		}
	}
	return nil
}

// Vacant reports ErrOccupied, with the directory, unless a restore may begin.
func (s *Server) Vacant() error { return s.config().vacant() }

func (c Config) vacant() error {
	work, err := c.marked()
	if err != nil || work == workRestore {
		return err
	}
	for _, dir := range []string{c.DataDir, c.WALDir} {
		if dir == "" {
			continue
		}
		empty, err := isEmpty(dir)
		if err != nil {
			return fmt.Errorf("look at the data directory: %w", mine(err, dir))
		}
		if !empty || work != "" {
			return fmt.Errorf("%s: %w", dir, ErrOccupied)
		}
	}
	return nil
}

// Recover brings restored data to the target and makes it the beginning of a new cluster: on a timeline above all that are known of, with
// an identity of its own, Standfast's roles in it, stopped in order. Nobody can connect meanwhile, nothing is archived, nothing is
// sent. The data counts as data only when Recover has returned without an error. tell is given what PostgreSQL says it is doing.
func (s *Server) Recover(ctx context.Context, r Recovery, tell func(string)) (Recovered, error) {
	release, err := s.exclusive(ctx)
	if err != nil {
		return Recovered{}, fmt.Errorf("recover: %w", err)
	}
	defer release()
	out, err := s.recover(ctx, r, tell)
	if err != nil {
		err = errors.Join(err, s.KillAll(context.WithoutCancel(ctx)))
		return Recovered{}, fmt.Errorf("recover: %w", err)
	}
	return out, nil
}

func (s *Server) recover(ctx context.Context, r Recovery, tell func(string)) (Recovered, error) {
	var out Recovered
	c := s.config()
	if work, err := c.marked(); err != nil || work != workRestore {
		return out, errors.Join(err, errors.New("the data is not a restore's"))
	}
	control, err := c.controlData(ctx)
	if err != nil {
		return out, err
	}
	if err := c.useWALDir(); err != nil {
		return out, err
	}
	if err := c.proveArchive(ctx, r.Command); err != nil {
		return out, err
	}
	if r.Timeline, err = c.prepareTimelines(ctx, r, control.Checkpoint.Timeline); err != nil {
		return out, err
	}
	socket, err := os.MkdirTemp("", "sf-restore-") // a short path: a socket's may have 107 bytes
	if err != nil {
		return out, err
	}
	defer os.RemoveAll(socket)
	defer s.SetConfig(c)
	if err := errors.Join(c.own(socket), s.recoverAlone(ctx, c, socket, r, control, tell)); err != nil {
		return out, err
	}
	if out, err = s.found(ctx); err != nil {
		return out, err
	}
	if err := s.Stop(ctx, Fast); err != nil {
		return out, err
	}
	if control, err = c.controlData(ctx); err != nil || !control.Clean() {
		return out, errors.Join(err, fmt.Errorf("PostgreSQL was not stopped in order: %s", control.State))
	}
	word := strings.ToLower(rand.Text()[:10])
	if err := c.writeFile(filepath.Join(c.DataDir, lineageName), []byte(word+"\n"), true); err != nil {
		return out, err
	}
	s.forget()
	if out.SystemID, err = c.identity(control); err != nil {
		return out, err
	}
	return out, errors.Join(c.settle(nil), c.unmark())
}

// useWALDir moves restored WAL to where this member keeps its WAL.
func (c Config) useWALDir() error {
	if c.WALDir == "" {
		return nil
	}
	info, err := os.Lstat(c.walDir())
	if err != nil || info.Mode()&fs.ModeSymlink != 0 {
		return err
	}
	entries, err := os.ReadDir(c.walDir())
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := os.Rename(filepath.Join(c.walDir(), e.Name()), filepath.Join(c.WALDir, e.Name())); err != nil {
			return fmt.Errorf("move the WAL to %s: %w", c.WALDir, err)
		}
	}
	return errors.Join(os.Remove(c.walDir()), os.Symlink(c.WALDir, c.walDir()))
}

// recoverAlone starts PostgreSQL where nobody else reaches it, as a child of this process, and waits until it has recovered and takes
// writes. With hot_standby off it lets nobody in before.
func (s *Server) recoverAlone(ctx context.Context, c Config, socket string, r Recovery, control pgconf.Control, tell func(string)) error {
	c.SocketDir, c.Listen, c.Unit, c.CA, c.recovers, c.unseen = socket, "", "", "", true, true
	s.SetConfig(c)
	if err := removeFile(c.standbyFile()); err != nil {
		return err
	}
	if err := errors.Join(c.settle(control.Floors), c.dropStaleLocks(), c.addTarget(r)); err != nil {
		return err
	}
	if err := c.writeFile(filepath.Join(c.DataDir, "recovery.signal"), nil, true); err != nil {
		return err
	}
	log, err := c.openLog()
	if err != nil {
		return err
	}
	defer log.Close()
	begin, err := log.Seek(0, 2)
	if err != nil {
		return err
	}
	w, err := c.spawn(ctx, log, alone)
	if err != nil {
		return err
	}
	s.setWatch(w)
	if err := c.awaitLock(ctx, w, begin); err != nil {
		return err
	}
	return s.awaitRecovered(ctx, begin, tell)
}

// alone keeps a recovery from touching anything outside.
var alone = []pgconf.Setting{
	{Name: "archive_mode", Value: "off"}, {Name: "synchronous_standby_names", Value: ""}, {Name: "autovacuum", Value: "off"},
	{Name: "max_logical_replication_workers", Value: "0"}, {Name: "logging_collector", Value: "off"}, {Name: "log_destination", Value: "stderr"},
}

// addTarget puts the recovery's settings into postgresql.auto.conf, which others can't read as they could a command line. The next
// start takes them out again, for they are among those that Standfast owns.
func (c Config) addTarget(r Recovery) error {
	text, err := os.ReadFile(c.autoFile())
	if err != nil {
		return err
	}
	auto, err := pgconf.Auto(string(text))
	if err != nil {
		return err
	}
	maps.Copy(auto, r.settings())
	return c.writeFile(c.autoFile(), []byte(pgconf.RenderAuto(auto)), true)
}

func (r Recovery) settings() map[string]string {
	m := map[string]string{
		"restore_command": r.Command, "recovery_target_timeline": strconv.FormatUint(uint64(r.Timeline), 10), "recovery_target_action": "promote",
	}
	if r.Command == "" {
		m["restore_command"] = "false" // PostgreSQL wants one, and then looks into pg_wal
	}
	switch {
	case r.Time != "":
		m["recovery_target_time"] = r.Time
	case r.LSN != 0:
		m["recovery_target_lsn"] = r.LSN.String()
	case r.TargetName != "":
		m["recovery_target_name"] = r.TargetName
	}
	if r.Exclusive {
		m["recovery_target_inclusive"] = "off"
	}
	return m
}

// awaitRecovered waits until a session is let in, and tells what the server says meanwhile.
func (s *Server) awaitRecovered(ctx context.Context, begin int64, tell func(string)) error {
	c := s.config()
	t := time.NewTicker(50 * time.Millisecond)
	defer t.Stop()
	said := ""
	for {
		if s.Ping(ctx) == nil {
			return nil
		}
		if now := lastMessage(c.logSince(begin)); now != "" && now != said {
			said = now
			tell(now)
		}
		select {
		case <-t.C:
		case <-s.Exited():
			return fmt.Errorf("PostgreSQL has ended: %s (all of it in %s)", complaints(c.logFrom(begin)), c.LogFile)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// lastMessage is the newest message of a log's last lines, without what stands before it.
func lastMessage(lines string) string {
	i := strings.LastIndex(lines, "LOG:  ")
	if i < 0 {
		return ""
	}
	text, _, _ := strings.Cut(lines[i+len("LOG:  "):], ";")
	return text
}

// logFrom is the server's log from an offset on.
func (c Config) logFrom(offset int64) string {
	b, err := os.ReadFile(c.LogFile)
	if err != nil || int64(len(b)) < offset {
		return ""
	}
	return string(b[offset:])
}

// complaints are the errors and hints of a log; the end of it where there are none.
func complaints(log string) string {
	var out []string
	for line := range strings.SplitSeq(log, "\n") {
		for _, level := range []string{"FATAL:  ", "PANIC:  ", "ERROR:  ", "DETAIL:  ", "HINT:  "} {
			if _, text, ok := strings.Cut(line, level); ok && !strings.Contains(text, "the database system is") && !slices.Contains(out, text) {
				out = append(out, text)
			}
		}
	}
	if len(out) == 0 {
		return lastLines(log, 4)
	}
	return strings.Join(out[max(len(out)-4, 0):], "; ")
}

// found makes what has been recovered a beginning: no slots of the old cluster's, Standfast's roles, everything on disk.
func (s *Server) found(ctx context.Context) (Recovered, error) {
	var out Recovered
	password, err := s.config().password(pgconf.MonitorRole)
	if err != nil {
		return out, err
	}
	err = s.fresh(ctx, func(conn *pgx.Conn) error {
		var tl uint32
		var lsn string
		var term int64
		var last *time.Time
		if err := conn.QueryRow(ctx, `select ('x' || left(pg_walfile_name(pg_current_wal_flush_lsn()), 8))::bit(32)::bigint, pg_current_wal_flush_lsn()::text,
			pg_last_xact_replay_timestamp()`).Scan(&tl, &lsn, &last); err != nil {
			return err
		}
		if _, err := conn.Exec(ctx, "select pg_drop_replication_slot(slot_name) from pg_replication_slots where not active"); err != nil {
			return err
		}
		if err := restoreRoles(ctx, conn, password); err != nil {
			return err
		}
		if err := conn.QueryRow(ctx, "select coalesce(max(term), 0) from standfast.term").Scan(&term); err != nil {
			return err
		}
		out.Timeline, out.Term = cluster.Timeline(tl), cluster.Term(term)
		if last != nil {
			out.Last = *last
		}
		if out.LSN, err = cluster.ParseLSN(lsn); err != nil {
			return err
		}
		_, err := conn.Exec(ctx, "checkpoint")
		return err
	})
	if err != nil {
		return out, fmt.Errorf("make it the beginning of a cluster: %w", err)
	}
	return out, nil
}

// restoreRoles makes those of Standfast's roles that are not there: the backup may be of a server that Standfast never ran.
func restoreRoles(ctx context.Context, conn *pgx.Conn, password string) error {
	for _, r := range []struct{ name, with string }{
		{pgconf.ReplicationRole, "login replication"}, {pgconf.RewindRole, "login"}, {pgconf.MonitorRole, "login in role pg_monitor"},
	} {
		var there bool
		if err := conn.QueryRow(ctx, "select exists (select from pg_roles where rolname = $1)", r.name).Scan(&there); err != nil {
			return err
		}
		if there {
			continue
		}
		if _, err := conn.Exec(ctx, "create role "+r.name+" "+r.with); err != nil {
			return err
		}
	}
	for _, f := range rewindFunctions {
		if _, err := conn.Exec(ctx, "grant execute on function pg_catalog."+f+" to "+pgconf.RewindRole); err != nil {
			return err
		}
	}
	if _, err := conn.Exec(ctx, "alter role "+pgconf.MonitorRole+" password "+pgconf.Literal(password)); err != nil {
		return err
	}
	_, err := conn.Exec(ctx, termSchema)
	return err
}
