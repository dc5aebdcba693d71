package gather

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"standfast/doctor/facts"
	"standfast/pgconf"
)

// query is one question to PostgreSQL. Those that a server can't answer are told as not known, the others go on.
type query struct {
	what string
	ask  func(context.Context, *pgx.Conn, *facts.Postgres) error
}

var queries = []query{
	{"the server", askServer}, {"commits that wait", askWaiting}, {"parameters", askSettings}, {"errors in its files", askFiles}, {"roles", askRoles},
	{"synchronous_commit of roles and databases", askOptOuts}, {"replication slots", askSlots}, {"replication", askReplication}, {"databases", askDatabases},
	{"sessions", askClients}, {"long transactions", askOldest}, {"blocked sessions", askBlocked}, {"prepared transactions", askPrepared}, {"pg_hba.conf", askHBA},
	{"archiving", askArchive}, {"WAL", askWAL}, {"libraries", askLocale},
}

// few are asked every minute.
var few = []query{{"the server", askServer}, {"replication slots", askSlots}, {"sessions", askClients}}

// postgres asks everything in one session.
func (g *Gatherer) postgres(queries []query) question {
	return func(ctx context.Context) (func(*facts.Member), error) {
		var p facts.Postgres
		var unknown []facts.Question
		began := time.Now()
		err := g.cfg.Inspect(ctx, func(conn *pgx.Conn) error {
			for _, q := range queries {
				if err := q.ask(ctx, conn, &p); err != nil {
					if conn.IsClosed() || ctx.Err() != nil {
						return fmt.Errorf("%s: %w", q.what, err)
					}
					unknown = append(unknown, facts.Question{What: "PostgreSQL's " + q.what, Why: err.Error()})
				}
			}
			if p.Waiting.Commits > 0 {
				return confirmWaiting(ctx, conn, &p, began)
			}
			return nil
		})
		p.Took = time.Since(began)
		if err != nil && p.Version == 0 {
			return nil, err
		}
		return func(m *facts.Member) { m.Postgres = &p; m.Unknown = append(m.Unknown, unknown...) }, err
	}
}

// rows runs a query and calls row for each line that it yields.
func rows(ctx context.Context, conn *pgx.Conn, sql string, row func(pgx.Rows) error, args ...any) error {
	rs, err := conn.Query(ctx, sql, args...)
	if err != nil {
		return err
	}
	defer rs.Close()
	for rs.Next() {
		if err := row(rs); err != nil {
			return err
		}
	}
	return rs.Err()
}

// seconds turns what extract(epoch) gives into a duration.
func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// moment turns an epoch into a time; 0 is none.
func moment(epoch float64) time.Time {
	if epoch == 0 {
		return time.Time{}
	}
	return time.UnixMicro(int64(epoch * 1e6)).UTC()
}

func askServer(ctx context.Context, conn *pgx.Conn, p *facts.Postgres) error {
	var started float64
	err := conn.QueryRow(ctx, `select current_setting('server_version_num')::int, pg_is_in_recovery(), extract(epoch from pg_postmaster_start_time())::float8,
		(select system_identifier::text from pg_control_system()),
		case when pg_is_in_recovery() then pg_is_wal_replay_paused() else false end`).Scan(&p.Version, &p.Recovery, &started, &p.SystemID, &p.ReplayPaused)
	p.Started = moment(started)
	return err
}

// waitingSQL gives the sessions whose commit waits for a standby now.
const waitingSQL = `select count(*), coalesce(extract(epoch from max(now() - query_start)), 0)::float8 from pg_stat_activity
	where wait_event_type = 'IPC' and wait_event = 'SyncRep' and query_start < now() - $1 * interval '1 second'`

func askWaiting(ctx context.Context, conn *pgx.Conn, p *facts.Postgres) error {
	var longest float64
	err := conn.QueryRow(ctx, waitingSQL, 0.0).Scan(&p.Waiting.Commits, &longest)
	p.Waiting.Longest = seconds(longest)
	return err
}

// waitGap is how far two looks at commits that wait lie apart: each commit waits for a moment, and that is no news.
const waitGap = time.Second

// confirmWaiting looks again a while later, and counts only whose statement had begun before the first look.
func confirmWaiting(ctx context.Context, conn *pgx.Conn, p *facts.Postgres, first time.Time) error {
	select {
	case <-time.After(time.Until(first.Add(waitGap))):
	case <-ctx.Done():
		return nil // what was seen stays
	}
	var longest float64
	if err := conn.QueryRow(ctx, waitingSQL, time.Since(first).Seconds()).Scan(&p.Waiting.Commits, &longest); err != nil {
		return err
	}
	p.Waiting.Longest = seconds(longest)
	return nil
}

// secret are parameters whose values may hold passwords or keys.
var secret = []string{"primary_conninfo", "ssl_passphrase_command", "archive_command", "restore_command", "archive_cleanup_command", "recovery_end_command"}

// known are extensions whose parameters hold no secrets; what a site calls its own may.
var known = regexp.MustCompile(`^(pg_stat_statements|auto_explain|pgaudit|pg_prewarm|pg_trgm|plpgsql|timescaledb|postgis|cron|pg_hint_plan)\.`)

func askSettings(ctx context.Context, conn *pgx.Conn, p *facts.Postgres) error {
	return rows(ctx, conn, `select name, coalesce(setting, ''), source, coalesce(sourcefile, ''), pending_restart from pg_settings
		where source not in ('default', 'override', 'client', 'session') or pending_restart`, func(r pgx.Rows) error {
		var s facts.Setting
		var file string
		if err := r.Scan(&s.Name, &s.Value, &s.Source, &file, &s.Pending); err != nil {
			return err
		}
		if slices.Contains(secret, s.Name) || strings.Contains(s.Name, ".") && !known.MatchString(s.Name) {
			s.Value = ""
		}
		s.Auto = strings.HasSuffix(file, "/postgresql.auto.conf")
		p.Settings = append(p.Settings, s)
		return nil
	})
}

func askFiles(ctx context.Context, conn *pgx.Conn, p *facts.Postgres) error {
	// That a value takes a restart is an "error" there too.
	return rows(ctx, conn, `select regexp_replace(sourcefile, '.*/', ''), coalesce(sourceline, 0), coalesce(name, ''), error from pg_file_settings
		where error is not null and (name is null or name not in (select name from pg_settings where pending_restart)) order by sourcefile, sourceline`, func(r pgx.Rows) error {
		var file, name, text string
		var line int
		if err := r.Scan(&file, &line, &name, &text); err != nil {
			return err
		}
		p.Files = append(p.Files, fmt.Sprintf("%s line %d: %s %s", file, line, name, text))
		return nil
	})
}

func askRoles(ctx context.Context, conn *pgx.Conn, p *facts.Postgres) error {
	return rows(ctx, conn, `select a.rolname, case when isfinite(a.rolvaliduntil) then extract(epoch from a.rolvaliduntil)::float8 else 0 end, a.rolsuper, a.rolconnlimit,
		coalesce(a.rolpassword like 'md5%', false), array(select datname::text from pg_database where datdba = a.oid and datallowconn and not datistemplate)
		from pg_authid a where a.rolcanlogin and a.rolname not like 'standfast\_%' order by 1`, func(r pgx.Rows) error {
		var role facts.Role
		var until *float64
		if err := r.Scan(&role.Name, &until, &role.Super, &role.Limit, &role.MD5, &role.Databases); err != nil {
			return err
		}
		if until != nil {
			role.Until = moment(*until)
		}
		p.Roles = append(p.Roles, role)
		return nil
	})
}

func askOptOuts(ctx context.Context, conn *pgx.Conn, p *facts.Postgres) error {
	return rows(ctx, conn, `select coalesce(r.rolname, ''), coalesce(d.datname, ''), split_part(c, '=', 2) from pg_db_role_setting s
		left join pg_roles r on r.oid = s.setrole left join pg_database d on d.oid = s.setdatabase, unnest(s.setconfig) c
		where c ~* '^synchronous_commit=(off|local|remote_write|false|no|0)$' order by 1, 2`, func(r pgx.Rows) error {
		var o facts.OptOut
		if err := r.Scan(&o.Role, &o.Database, &o.Value); err != nil {
			return err
		}
		p.OptOuts = append(p.OptOuts, o)
		return nil
	})
}

func askSlots(ctx context.Context, conn *pgx.Conn, p *facts.Postgres) error {
	return rows(ctx, conn, `select slot_name, slot_type, active, coalesce(wal_status, ''), coalesce(pg_wal_lsn_diff(
		case when pg_is_in_recovery() then coalesce(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) else pg_current_wal_lsn() end, restart_lsn), 0)::bigint
		from pg_replication_slots where not temporary order by 1`, func(r pgx.Rows) error {
		var s facts.Slot
		if err := r.Scan(&s.Name, &s.Type, &s.Active, &s.Status, &s.Held); err != nil {
			return err
		}
		p.Slots = append(p.Slots, s)
		return nil
	})
}

func askReplication(ctx context.Context, conn *pgx.Conn, p *facts.Postgres) error {
	err := rows(ctx, conn, `select application_name, state, coalesce(pg_wal_lsn_diff(at, sent_lsn), 0)::bigint, coalesce(pg_wal_lsn_diff(sent_lsn, flush_lsn), 0)::bigint,
		coalesce(pg_wal_lsn_diff(flush_lsn, replay_lsn), 0)::bigint from pg_stat_replication,
		lateral (select case when pg_is_in_recovery() then pg_last_wal_receive_lsn() else pg_current_wal_lsn() end at) x order by 1`, func(r pgx.Rows) error {
		var s facts.Sender
		if err := r.Scan(&s.Name, &s.State, &s.Sent, &s.Flush, &s.Replay); err != nil {
			return err
		}
		p.Senders = append(p.Senders, s)
		return nil
	})
	if err != nil {
		return err
	}
	return rows(ctx, conn, "select status, coalesce(extract(epoch from now() - last_msg_receipt_time), 0)::float8 from pg_stat_wal_receiver", func(r pgx.Rows) error {
		var rec facts.Receiver
		var silent float64
		if err := r.Scan(&rec.Status, &silent); err != nil {
			return err
		}
		rec.Silent = seconds(silent)
		p.Receiver = &rec
		return nil
	})
}

func askDatabases(ctx context.Context, conn *pgx.Conn, p *facts.Postgres) error {
	versions := "'', ''"
	if p.Version >= 150000 {
		versions = "coalesce(d.datcollversion, ''), coalesce(pg_database_collation_actual_version(d.oid), '')"
	}
	return rows(ctx, conn, `select d.datname, age(d.datfrozenxid)::bigint, mxid_age(d.datminmxid)::bigint, `+versions+`, d.datcollate,
		coalesce(s.checksum_failures, -1)::bigint, coalesce(s.conflicts, 0)::bigint, coalesce(s.deadlocks, 0)::bigint, d.datconnlimit
		from pg_database d left join pg_stat_database s on s.datid = d.oid where d.datallowconn order by 1`, func(r pgx.Rows) error {
		var d facts.Database
		if err := r.Scan(&d.Name, &d.Age, &d.MultiAge, &d.Collation, &d.Now, &d.Locale, &d.Checksum, &d.Conflicts, &d.Deadlocks, &d.Limit); err != nil {
			return err
		}
		p.Databases = append(p.Databases, d)
		return nil
	})
}

func askClients(ctx context.Context, conn *pgx.Conn, p *facts.Postgres) error {
	return conn.QueryRow(ctx, `select count(*) filter (where backend_type = 'client backend' and pid <> pg_backend_pid()), current_setting('max_connections')::int,
		current_setting('superuser_reserved_connections')::int + coalesce(current_setting('reserved_connections', true), '0')::int,
		count(*) filter (where backend_type = 'client backend' and state = 'active' and pid <> pg_backend_pid()),
		count(*) filter (where state like 'idle in transaction%') from pg_stat_activity`).Scan(&p.Clients.Used, &p.Clients.Max, &p.Clients.Reserved, &p.Clients.Active, &p.Clients.Idle)
}

// sessionColumns are those of a session, to be completed by how long and for whom.
const sessionColumns = "a.pid, coalesce(a.usename, ''), coalesce(a.datname, ''), a.application_name, coalesce(host(a.client_addr), 'local'), coalesce(a.state, '')"

func sessions(ctx context.Context, conn *pgx.Conn, into *[]facts.Session, sql string) error {
	return rows(ctx, conn, sql, func(r pgx.Rows) error {
		var s facts.Session
		var since float64
		if err := r.Scan(&s.PID, &s.User, &s.Database, &s.Program, &s.Client, &s.State, &since, &s.By); err != nil {
			return err
		}
		s.Since = seconds(since)
		*into = append(*into, s)
		return nil
	})
}

func askOldest(ctx context.Context, conn *pgx.Conn, p *facts.Postgres) error {
	return sessions(ctx, conn, &p.Oldest, "select "+sessionColumns+`, extract(epoch from now() - coalesce(case when a.state like 'idle in%' then a.state_change end, a.xact_start))::float8, 0
		from pg_stat_activity a where a.backend_type = 'client backend' and a.pid <> pg_backend_pid() and a.xact_start < now() - interval '1 minute' order by a.xact_start limit 5`)
}

func askBlocked(ctx context.Context, conn *pgx.Conn, p *facts.Postgres) error {
	return sessions(ctx, conn, &p.Blocked, "select "+sessionColumns+`, extract(epoch from now() - a.query_start)::float8, coalesce((pg_blocking_pids(a.pid))[1], 0)
		from pg_stat_activity a where a.wait_event_type = 'Lock' and a.query_start < now() - interval '10 seconds' order by a.query_start limit 5`)
}

func askPrepared(ctx context.Context, conn *pgx.Conn, p *facts.Postgres) error {
	return rows(ctx, conn, "select gid, owner, database, extract(epoch from now() - prepared)::float8 from pg_prepared_xacts order by prepared limit 5", func(r pgx.Rows) error {
		var s facts.Session
		var since float64
		if err := r.Scan(&s.GID, &s.User, &s.Database, &since); err != nil {
			return err
		}
		s.Since = seconds(since)
		p.Prepared = append(p.Prepared, s)
		return nil
	})
}

func askHBA(ctx context.Context, conn *pgx.Conn, p *facts.Postgres) error {
	return rows(ctx, conn, `select coalesce(line_number, 0), coalesce(type, ''), coalesce(database, '{}'), coalesce(user_name, '{}'), coalesce(address, ''), coalesce(netmask, ''),
		coalesce(auth_method, ''), coalesce(error, '') from pg_hba_file_rules order by 1`, func(r pgx.Rows) error {
		var h facts.HBA
		if err := r.Scan(&h.Line, &h.Type, &h.Databases, &h.Users, &h.Address, &h.Mask, &h.Method, &h.Error); err != nil {
			return err
		}
		ours := func(u string) bool {
			return slices.Contains([]string{pgconf.ReplicationRole, pgconf.RewindRole, pgconf.MonitorRole}, u)
		}
		h.Ours = len(h.Users) > 0 && !slices.ContainsFunc(h.Users, func(u string) bool { return !ours(u) }) || h.Type == "local" && h.Method == "peer" && h.Line <= 2
		p.HBA = append(p.HBA, h)
		return nil
	})
}

// nothing matches commands that succeed and store nothing.
var nothing = regexp.MustCompile(`^\s*(/usr)?(/bin/)?(true|:|cd \.|exit 0|echo\b[^|>&;]*|test 1)\s*$|%p\S*\s+/dev/null|>\s*/dev/null\s*<\s*%p`)

func askArchive(ctx context.Context, conn *pgx.Conn, p *facts.Postgres) error {
	var command, library string
	var ok, failed *float64
	err := conn.QueryRow(ctx, `select current_setting('archive_mode'), current_setting('archive_command'), coalesce(current_setting('archive_library', true), ''),
		archived_count, failed_count, extract(epoch from last_archived_time)::float8, extract(epoch from last_failed_time)::float8 from pg_stat_archiver`).
		Scan(&p.Archive.Mode, &command, &library, &p.Archive.Archived, &p.Archive.Failed, &ok, &failed)
	if err != nil {
		return err
	}
	p.Archive.Command = commandKind(command, library)
	if ok != nil {
		p.Archive.LastOK = moment(*ok)
	}
	if failed != nil {
		p.Archive.LastFailed = moment(*failed)
	}
	if p.Archive.Mode == "off" {
		return nil
	}
	return conn.QueryRow(ctx, `select count(*) from pg_ls_archive_statusdir() where name like '%.ready'`).Scan(&p.Archive.Waiting)
}

// commandKind says whether WAL is stored anywhere. archive_command shows as "(disabled)" while archiving is off.
func commandKind(command, library string) string {
	switch {
	case library != "":
		return "set"
	case strings.TrimSpace(command) == "" || command == "(disabled)":
		return ""
	case nothing.MatchString(command):
		return "nothing"
	}
	return "set"
}

func askWAL(ctx context.Context, conn *pgx.Conn, p *facts.Postgres) error {
	checkpoints := "(select checkpoints_timed from pg_stat_bgwriter), (select checkpoints_req from pg_stat_bgwriter)"
	if p.Version >= 170000 {
		checkpoints = "(select num_timed from pg_stat_checkpointer), (select num_requested from pg_stat_checkpointer)"
	}
	return conn.QueryRow(ctx, `select (select coalesce(sum(size), 0)::bigint from pg_ls_waldir()),
		(select coalesce(wal_bytes / greatest(extract(epoch from now() - stats_reset), 1), 0)::float8 from pg_stat_wal),
		(select setting::bigint * case when setting = '-1' then 1 else 1024 * 1024 end from pg_settings where name = 'max_slot_wal_keep_size'),
		(select setting::bigint * 1024 * 1024 from pg_settings where name = 'max_wal_size'), `+checkpoints).
		Scan(&p.WAL.Size, &p.WAL.Rate, &p.WAL.Keep, &p.WAL.MaxSize, &p.WAL.Timed, &p.WAL.Forced)
}

// askLocale finds the versions of the libraries that sort text by any collation of theirs: indexes are only as good on another host as the
// library there sorts alike.
func askLocale(ctx context.Context, conn *pgx.Conn, p *facts.Postgres) error {
	return rows(ctx, conn, `select * from (select 'icu', pg_collation_actual_version(oid) v from pg_collation where collprovider = 'i' and collname = 'und-x-icu'
		union all (select 'libc', pg_collation_actual_version(oid) from pg_collation where collprovider = 'c' and collname not in ('C', 'POSIX', 'ucs_basic')
		and collname not ilike 'C.%' limit 1)) x where v is not null`, func(r pgx.Rows) error {
		var v facts.Version
		if err := r.Scan(&v.Library, &v.Version); err != nil {
			return err
		}
		p.Locale = append(p.Locale, v)
		return nil
	})
}
