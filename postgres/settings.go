package postgres

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"standfast/cluster"
	"standfast/pgconf"
)

// wal_sender_timeout makes an idle stream speak every 200 ms (a keepalive is sent at half of it), so that the relay
// hears a living primary; it is asked for by the standby's own connection.
const receiverOptions = "-c wal_sender_timeout=400ms"

// retryInterval is wal_retrieve_retry_interval: how soon after the last attempt that failed a standby looks for WAL again.
// A failover makes two such attempts, one when the relay detaches and one where the old timeline ends, so the default of
// five seconds would be added to it. It costs nothing while a receiver is held; while the relay's socket is gone
// PostgreSQL makes a process and a line of log at this pace, until the agent is back or the guard has ended it.
const retryInterval = "50ms"

// commandLine gives the parameters that safety rests on. On the command line they outrank every file and ALTER SYSTEM
// ("Setting Parameters", section "Parameter Interaction via the Shell").
func (c Config) commandLine() []pgconf.Setting {
	out := []pgconf.Setting{
		{Name: "data_directory", Value: c.DataDir},
		{Name: "config_file", Value: c.confFile()},
		{Name: "hba_file", Value: c.hbaFile()},
		{Name: "ident_file", Value: c.identFile()},
		{Name: "listen_addresses", Value: c.Listen},
		{Name: "port", Value: strconv.Itoa(c.Port)},
		{Name: "unix_socket_directories", Value: c.SocketDir},
		{Name: "cluster_name", Value: c.Name},
		{Name: "primary_conninfo", Value: c.relayConninfo()},
		{Name: "primary_slot_name", Value: c.slot()},
		{Name: "hot_standby", Value: onOff(!c.unseen)},
		{Name: "wal_log_hints", Value: "on"},
		{Name: "fsync", Value: "on"},
		{Name: "full_page_writes", Value: "on"},
		{Name: "restart_after_crash", Value: "off"},
		{Name: "wal_retrieve_retry_interval", Value: retryInterval},
		{Name: "data_sync_retry", Value: "off"},
		{Name: "update_process_title", Value: "on"}, // tells who is logging in (endEntering)
	}
	if !c.recovers { // a recovery before a cluster is founded has its own (see Recover)
		out = append(out, pgconf.Setting{Name: "recovery_target_timeline", Value: "latest"}, pgconf.Setting{Name: "restore_command", Value: ""})
	}
	if c.CA != "" {
		out = append(out,
			pgconf.Setting{Name: "ssl", Value: "on"},
			pgconf.Setting{Name: "ssl_ca_file", Value: c.CA},
			pgconf.Setting{Name: "ssl_cert_file", Value: c.Cert},
			pgconf.Setting{Name: "ssl_key_file", Value: c.Key})
	}
	return out
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

// relayConninfo is how the WAL receiver finds the relay: a Unix socket that carries no TLS, for the relay speaks TLS to
// the primary itself.
func (c Config) relayConninfo() string {
	return pgconf.Conninfo{
		{"host", c.RelayDir}, {"port", strconv.Itoa(c.RelayPort)}, {"user", pgconf.ReplicationRole},
		{"dbname", pgconf.SyncDatabase}, // for slot synchronization alone: a WAL receiver replaces it
		{"application_name", c.Name}, {"sslmode", "disable"}, {"gssencmode", "disable"}, {"options", receiverOptions},
	}.String()
}

// owned reports whether a parameter is Standfast's, with the reason.
func (c Config) owned(name string) (string, bool) {
	name = strings.ToLower(name)
	for _, s := range c.commandLine() {
		if s.Name == name {
			return "Standfast gives it on PostgreSQL's command line", true
		}
	}
	switch name {
	case "synchronous_standby_names", "synchronized_standby_slots":
		return "it follows the cluster's commit rule", true
	case "sync_replication_slots":
		return "Standfast turns it on where wal_level is logical", true
	case "external_pid_file", "promote_trigger_file", "trigger_file", "standby_mode",
		"recovery_target", "recovery_target_action", "recovery_target_inclusive", "recovery_target_lsn",
		"recovery_target_name", "recovery_target_time", "recovery_target_xid", "recovery_end_command",
		"include", "include_dir", "include_if_exists", "ssl", "ssl_ca_file", "ssl_cert_file", "ssl_key_file":
		return "it would change what the member's data or its recovery is", true
	}
	return "", false
}

// defaults are values that a site may change.
func (c Config) defaults() map[string]string {
	return map[string]string{
		"wal_level":                      c.walLevel(),
		"max_wal_senders":                "20",
		"max_replication_slots":          "20",
		"synchronous_commit":             "on",
		"password_encryption":            "scram-sha-256",
		"wal_sender_timeout":             "2s",
		"wal_receiver_status_interval":   "1s",
		"hot_standby_feedback":           "on",
		"superuser_reserved_connections": "5",
		"max_slot_wal_keep_size":         c.slotKeep(),
		"wal_keep_size":                  "128MB",
		"log_line_prefix":                "%m [%p] %q%u@%d %h ",
		"logging_collector":              "off",
		"log_destination":                "stderr",
	}
}

// slotKeep bounds the WAL that is kept for an absent standby to a quarter of its file system, so that it can't fill
// the primary's disk.
func (c Config) slotKeep() string {
	var st unix.Statfs_t
	for _, dir := range []string{c.walDir(), c.WALDir, c.DataDir, filepath.Dir(c.DataDir)} {
		if dir != "" && unix.Statfs(dir, &st) == nil {
			return fmt.Sprintf("%dMB", max(st.Blocks*uint64(st.Bsize)/4>>20, 256))
		}
	}
	return "4GB"
}

// walLevel is what a site that says nothing gets: declared logical slots need it to be logical.
func (c Config) walLevel() string {
	if len(c.Slots) > 0 {
		return walLogical
	}
	return "replica"
}

// settings are our defaults with the cluster's parameters over them, but for those that are ours.
func (c Config) settings() map[string]string {
	m := c.defaults()
	for k, v := range c.Parameters {
		if _, ours := c.owned(k); !ours {
			m[strings.ToLower(k)] = v
		}
	}
	return m
}

// confText renders our configuration file: the site's own postgresql.conf lowest, then our defaults, then the cluster's
// parameters. floors are what a standby must not go below (see pgconf.Control); a primary has none.
func (c Config) confText(floors map[string]int) string {
	m := c.settings()
	for k, least := range floors {
		if v, ok := wanted(m, k); ok && v < least {
			m[k] = strconv.Itoa(least)
		}
	}
	if c.inPlace { // the site's own file includes this one
		return pgconf.Render("Written by Standfast; in force as long as the server runs that was taken over.", append(pgconf.Sorted(m), c.reloadable()...))
	}
	settings := append([]pgconf.Setting{{Name: "include_if_exists", Value: "postgresql.conf"}}, pgconf.Sorted(m)...)
	return pgconf.Render("Written by Standfast at every start and change; edit the cluster's configuration instead.", settings)
}

// hba and ident render the authentication files.
func (c Config) hba(open bool) string {
	return pgconf.HBA{Superuser: c.Superuser, TLS: c.CA != "", Open: open, Site: c.HBA, Receivers: c.clientRoles()}.String()
}

func (c Config) ident() string {
	i := pgconf.Ident{Superuser: c.Superuser, Members: c.Members, Site: c.Ident}
	if u, err := user.Current(); err == nil {
		i.OSUsers = append(i.OSUsers, u.Username)
	}
	if c.RunAs != nil {
		if u, err := user.LookupId(strconv.Itoa(int(c.RunAs.Uid))); err == nil {
			i.OSUsers = append(i.OSUsers, u.Username)
		}
	}
	return i.String()
}

// settle writes everything that a start reads: our files, closed to clients, and in postgresql.auto.conf names that
// nobody can meet and nothing of ours (a clone or a rewind has brought the source's).
func (c Config) settle(floors map[string]int) error {
	if err := errors.Join(
		c.writeFile(c.confFile(), []byte(c.confText(floors)), false),
		c.writeFile(c.hbaFile(), []byte(c.hba(false)), false),
		c.writeFile(c.identFile(), []byte(c.ident()), false),
	); err != nil {
		return err
	}
	if err := removeFile(c.inPlaceFile()); err != nil {
		return err
	}
	text, err := os.ReadFile(c.autoFile())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	auto, err := pgconf.Auto(string(text))
	if err != nil {
		return fmt.Errorf("%s: %w", c.autoFile(), err)
	}
	want := maps.Clone(auto)
	maps.DeleteFunc(want, func(k, _ string) bool { _, ours := c.owned(k); return ours })
	want["synchronous_standby_names"] = pgconf.SyncNames(cluster.NewRule(1))
	if maps.Equal(want, auto) {
		return nil
	}
	return c.writeFile(c.autoFile(), []byte(pgconf.RenderAuto(want)), true)
}
