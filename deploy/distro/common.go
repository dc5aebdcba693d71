package distro

import (
	"fmt"
	"strings"
)

// ClusterName is what Debian's tools (postgresql-common) call the cluster that Standfast runs on a host: 17/standfast.
const ClusterName = "standfast"

// Refusal is a service in whose name Debian's postgresql.service answers on such a host, so that systemd, refusing, names the command
// that was meant.
const Refusal = "use-standfast-restart.service"

// Where that lies, and which name it takes over.
const (
	RefusalPath = "/etc/systemd/system/" + Refusal
	MetaPath    = "/etc/systemd/system/postgresql.service"
)

// Server is a PostgreSQL that Standfast runs.
type Server struct {
	Version string // major
	Port    int
	Data    string // directories
	Sockets string
	Logs    string
}

// Register tells Debian's tools of a server that is not theirs: pg_lsclusters(1) shows it as it is, and what would start, stop or promote
// it refuses. Nothing of this is read by PostgreSQL. Other families have no such tools.
//
// pg_ctlcluster(1) starts and promotes nothing whose start.conf says "disabled". It would stop it all the same, but hands pg_ctl
// the options of pg_ctl.conf first: one that pg_ctl does not know makes it refuse, and is quoted.
func (s System) Register(v Server) []File {
	if s.Family != Debian {
		return nil
	}
	dir := "/etc/postgresql/" + v.Version + "/" + ClusterName + "/"
	const note = "# Standfast runs this server: standfast status, standfast restart, standfast node stop.\n"
	conf := note + "# Debian's tools read this file, PostgreSQL does not: parameters are changed with standfast config edit.\n"
	for _, p := range [][2]string{
		{"data_directory", v.Data}, {"unix_socket_directories", v.Sockets}, {"external_pid_file", v.Data + "/postmaster.pid"},
		{"log_directory", v.Logs}, {"log_filename", "postgresql.log"},
	} {
		conf += fmt.Sprintf("%s = '%s'\n", p[0], strings.ReplaceAll(p[1], "'", "''"))
	}
	conf += fmt.Sprintf("port = %d\nlogging_collector = on\n", v.Port)
	const refuse = "[Unit]\nRefuseManualStart=yes\nRefuseManualStop=yes\n"
	return []File{
		{dir + "start.conf", []byte(note + "disabled\n")},
		{dir + "pg_ctl.conf", []byte(note + "pg_ctl_options = '--standfast-runs-this-server--use--standfast-node-stop'\n")},
		{"/etc/systemd/system/postgresql@" + v.Version + "-" + ClusterName + ".service.d/standfast.conf", []byte(note + refuse)},
		{RefusalPath, []byte(refusal)},
		{dir + "postgresql.conf", []byte(conf)}, // last: with it the cluster exists
	}
}

// refusal stands in for postgresql.service, which does nothing itself, and can still be started: the distribution's packages do that when
// they are configured. Stopping and restarting are what people mean PostgreSQL by.
const refusal = `# Debian's postgresql.service on a host where Standfast runs PostgreSQL (/etc/systemd/system/postgresql.service leads here).
[Unit]
Description=PostgreSQL, run by Standfast: standfast status, standfast restart, standfast node stop
Documentation=man:standfast(1)
RefuseManualStop=yes

[Service]
Type=oneshot
ExecStart=/bin/true
RemainAfterExit=yes
`
