package probe

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Existing is a PostgreSQL that runs on a host, whoever started it.
type Existing struct {
	Data    string `json:"data"`            // directory
	Unit    string `json:"unit"`            // systemd's, that it belongs to; "": none
	Owner   string `json:"owner"`           // the user that it runs as
	Port    int    `json:"port"`            //
	Sockets string `json:"sockets"`         // directory; "": none
	HBA     string `json:"hba"`             // pg_hba.conf, the text
	Ident   string `json:"ident"`           // pg_ident.conf, the text
	Locked  string `json:"locked"`          // a directory with its configuration that its user may not write to; "": none
	Manager string `json:"manager"`         // a program beside it that promotes, restarts or moves servers; "": none that is known
	Error   string `json:"error,omitempty"` // why it could not be asked
	Says    Says   `json:"says"`
}

// Says is what a server says of itself.
type Says struct {
	Version     int               `json:"version"` // server_version_num
	Standby     bool              `json:"standby"`
	System      string            `json:"system"` // identifier
	Config      string            `json:"config"` // paths
	HBA         string            `json:"hba"`
	Ident       string            `json:"ident"`
	Listen      string            `json:"listen"`
	WALLevel    string            `json:"wal_level"`
	Senders     int               `json:"senders"` // max_wal_senders
	Slots       int               `json:"slots"`   // max_replication_slots
	Hints       bool              `json:"hints"`   // wal_log_hints, or checksums
	Names       string            `json:"names"`   // synchronous_standby_names
	Superuser   bool              `json:"superuser"`
	Size        int64             `json:"size"`     // of all databases, bytes
	Settings    map[string]string `json:"settings"` // from its own files, not from ALTER SYSTEM
	SSL         bool              `json:"ssl"`
	Tablespaces []string          `json:"tablespaces"`
	Held        []Held            `json:"held"`
	Streams     []Stream          `json:"streams"`
	Upstream    string            `json:"upstream"` // of a standby: the host that it receives from
}

// Held is a replication slot.
type Held struct {
	Name   string `json:"name"`
	Type   string `json:"type"` // physical or logical
	Active bool   `json:"active"`
}

// Stream is somebody who receives WAL.
type Stream struct {
	Name    string `json:"name"` // application_name
	Address string `json:"address"`
	State   string `json:"state"`
	Slot    string `json:"slot"`
}

const saysSQL = `select json_build_object(
	'version', current_setting('server_version_num')::int, 'standby', pg_is_in_recovery(),
	'system', (select system_identifier::text from pg_control_system()),
	'config', current_setting('config_file'), 'hba', current_setting('hba_file'), 'ident', current_setting('ident_file'),
	'listen', current_setting('listen_addresses'), 'wal_level', current_setting('wal_level'),
	'senders', current_setting('max_wal_senders')::int, 'slots', current_setting('max_replication_slots')::int,
	'hints', current_setting('wal_log_hints') = 'on' or current_setting('data_checksums') = 'on',
	'names', current_setting('synchronous_standby_names'), 'ssl', current_setting('ssl') = 'on',
	'superuser', exists (select from pg_roles where rolname = 'postgres' and rolsuper and rolcanlogin),
	'size', (select sum(pg_database_size(oid)) from pg_database),
	'settings', (select coalesce(json_object_agg(name, current_setting(name)), '{}') from pg_settings
		where source = 'configuration file' and sourcefile not like '%/postgresql.auto.conf'),
	'tablespaces', (select coalesce(json_agg(pg_tablespace_location(oid)), '[]') from pg_tablespace where pg_tablespace_location(oid) <> ''),
	'held', (select coalesce(json_agg(json_build_object('name', slot_name, 'type', slot_type, 'active', active)), '[]') from pg_replication_slots),
	'streams', (select coalesce(json_agg(json_build_object('name', application_name, 'address', host(client_addr), 'state', state,
		'slot', (select slot_name from pg_replication_slots s where s.active_pid = r.pid))), '[]') from pg_stat_replication r),
	'upstream', (select sender_host from pg_stat_wal_receiver))`

// existing lists the servers that run here.
func existing(ctx context.Context) ([]Existing, error) {
	dirs, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var out []Existing
	manager := ""
	for _, d := range dirs {
		pid, err := strconv.Atoi(d.Name())
		if err != nil {
			continue
		}
		if name := program(pid); slices.Contains(managers, name) {
			manager = name
		}
		if e, ok := postmaster(pid); ok {
			e.ask(ctx)
			out = append(out, e)
		}
	}
	for i := range out {
		out[i].Manager = manager
	}
	return out, nil
}

// managers are programs that take PostgreSQL's role into their own hands.
var managers = []string{"repmgrd", "patroni", "pg_autoctl", "stolon-keeper", "pacemakerd", "efm"}

// program is what a process runs; of an interpreter the script.
func program(pid int) string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return ""
	}
	words := strings.Split(string(text), "\x00")
	if name := filepath.Base(words[0]); len(words) < 2 || !strings.HasPrefix(name, "python") {
		return name
	}
	return filepath.Base(words[1])
}

// postmaster recognises one by its lock file ("Database File Layout"), which names the process, the port and the socket's directory.
func postmaster(pid int) (Existing, bool) {
	proc := fmt.Sprintf("/proc/%d/", pid)
	exe, err := os.Readlink(proc + "exe")
	if err != nil || strings.TrimSuffix(filepath.Base(exe), " (deleted)") != "postgres" {
		return Existing{}, false
	}
	data, err := os.Readlink(proc + "cwd")
	if err != nil {
		return Existing{}, false
	}
	text, err := os.ReadFile(filepath.Join(data, "postmaster.pid"))
	lines := strings.Split(string(text), "\n")
	if err != nil || len(lines) < 6 || strings.TrimSpace(lines[0]) != strconv.Itoa(pid) {
		return Existing{}, false
	}
	e := Existing{Data: data, Unit: unitOf(proc + "cgroup"), Sockets: strings.TrimSpace(lines[4])}
	e.Port, _ = strconv.Atoi(lines[3]) // PostgreSQL has written it
	if info, err := os.Stat(proc); err == nil {
		if u, err := user.LookupId(strconv.Itoa(int(info.Sys().(*syscall.Stat_t).Uid))); err == nil {
			e.Owner = u.Username
		}
	}
	return e, true
}

// unitOf is the last part of a control group's path that is a service.
func unitOf(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	parts := strings.Split(strings.TrimSpace(string(text)), "/")
	slices.Reverse(parts)
	for _, p := range parts {
		if strings.HasSuffix(p, ".service") {
			return strings.ReplaceAll(p, "\\x2d", "-")
		}
	}
	return ""
}

// askTime bounds a question to a server that may hang.
const askTime = 10 * time.Second

// ask is psql's, as the user that it runs as, over its Unix socket.
func (e *Existing) ask(ctx context.Context) {
	if e.Sockets == "" {
		e.Error = "it has no Unix socket (unix_socket_directories)"
		return
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, "runuser", "-u", e.Owner, "--", "psql", "-XAtqw", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-h", e.Sockets, "-p", strconv.Itoa(e.Port), "-d", "postgres", "-c", saysSQL)
	cmd.Dir = "/"
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err == nil {
		err = json.Unmarshal(out, &e.Says)
	}
	if err != nil {
		e.Error = strings.TrimSpace(fmt.Sprintf("%v %s", err, said.String()))
		return
	}
	e.HBA, e.Ident = original(e.Says.HBA), original(e.Says.Ident)
	for _, path := range []string{e.Says.Config, e.Says.HBA, e.Says.Ident} {
		dir := filepath.Dir(path)
		if exec.CommandContext(ctx, "runuser", "-u", e.Owner, "--", "test", "-w", dir).Run() != nil {
			e.Locked = dir
		}
	}
}

// original reads a file of the site's.
func original(path string) string {
	text, _ := os.ReadFile(path) // it is missed where its lines are looked at
	return string(text)
}
