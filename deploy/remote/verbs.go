package remote

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"time"

	"standfast/api"
	"standfast/config"
	"standfast/deploy"
	"standfast/packaging"
)

var _ deploy.Machine = (*Machine)(nil)

// quote makes one word of the shell's (POSIX 2.2.2).
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// run carries out a script and gives what it says without the blanks around it.
func (m *Machine) run(ctx context.Context, script string) (string, error) {
	out, err := m.shell.Run(ctx, script, nil)
	return strings.TrimSpace(string(out)), err
}

// Files describes those that exist.
func (m *Machine) Files(ctx context.Context, paths ...string) (map[string]deploy.FileState, error) {
	var script strings.Builder
	for _, p := range paths {
		fmt.Fprintf(&script, "if [ -e %[1]s ]; then sha256sum <%[1]s | cut -d' ' -f1; stat -c '%%a %%U %%Y %%n' %[1]s; fi\n", quote(p))
	}
	out, err := m.run(ctx, script.String())
	if err != nil {
		return nil, fmt.Errorf("look at files: %w", err)
	}
	found := map[string]deploy.FileState{}
	if out == "" {
		return found, nil
	}
	lines := strings.Split(out, "\n")
	for i := 0; i+1 < len(lines); i += 2 {
		f := strings.SplitN(lines[i+1], " ", 4)
		if len(f) != 4 {
			return nil, fmt.Errorf("look at files: %q", lines[i+1])
		}
		mode, err := strconv.ParseUint(f[0], 8, 32)
		if err != nil {
			return nil, fmt.Errorf("look at files: %w", err)
		}
		changed, err := strconv.ParseInt(f[2], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("look at files: %w", err)
		}
		found[f[3]] = deploy.FileState{Sum: lines[i], Mode: fs.FileMode(mode), Owner: f[1], Time: time.Unix(changed, 0)}
	}
	return found, nil
}

// Read gives a file's text.
func (m *Machine) Read(ctx context.Context, path string) ([]byte, error) {
	return m.shell.Run(ctx, "cat "+quote(path), nil)
}

// Write sends a file. It takes its place only when all of it has come: a connection that breaks looks like an end.
//
// The directory may be its owner's, who is not to lead root anywhere else by putting a link there: the new file is one that was not
// there (noclobber), and is then spoken of by its descriptor.
func (m *Machine) Write(ctx context.Context, f deploy.File) error {
	quiet := ""
	if f.Quiet {
		quiet = "[ ! -e \"$p\" ] || touch -r \"$p\" $f\n"
	}
	script := fmt.Sprintf(`umask 077
p=%s; d=%s; o=%s
[ -d "$d" ] || install -d -m 0755 -o "$o" -g "$o" "$d"
t="$p.standfast-new"
rm -f "$t"
set -C
exec 3>"$t"
f=/proc/$$/fd/3
cat >&3
[ "$(wc -c <$f)" = %d ] || { rm "$t"; echo "it did not arrive whole" >&2; exit 1; }
chown "$o:$o" $f
chmod %o $f
%ssync $f
mv -fT "$t" "$p"
sync "$d"`, quote(f.Path), quote(path.Dir(f.Path)), quote(f.Owner), len(f.Text), f.Mode, quiet)
	_, err := m.shell.Run(ctx, script, bytes.NewReader(f.Text))
	return err
}

// Alias makes the link, in one step with what makes it count, whatever becomes of the connection.
func (m *Machine) Alias(ctx context.Context, path, target string) error {
	_, err := m.run(ctx, fmt.Sprintf("trap '' HUP PIPE\nln -sfT %s %s.standfast-new\nmv -fT %[2]s.standfast-new %[2]s\nsystemctl daemon-reload", quote(target), quote(path)))
	return err
}

// SetAside stops a cluster and disables it (pg_createcluster(1), start.conf).
func (m *Machine) SetAside(ctx context.Context, version, name string) error {
	_, err := m.run(ctx, fmt.Sprintf(`systemctl stop postgresql@%[1]s-%[2]s.service
if pg_ctlcluster %[1]s %[2]s status >/dev/null; then pg_ctlcluster -m fast %[1]s %[2]s stop; fi
printf '# Standfast runs PostgreSQL on this host; this cluster was empty.\ndisabled\n' >/etc/postgresql/%[1]s/%[2]s/start.conf
systemctl daemon-reload`, version, name))
	return err
}

// HasUser looks for a user.
func (m *Machine) HasUser(ctx context.Context, name string) (bool, error) {
	out, err := m.run(ctx, "id -u "+name+" 2>/dev/null || :")
	return out != "", err
}

// AddUser makes one as the distribution's package of PostgreSQL would.
func (m *Machine) AddUser(ctx context.Context, name string) error {
	_, err := m.run(ctx, "useradd --system --user-group --home-dir /var/lib/postgresql --shell /bin/bash "+name)
	return err
}

// unixTime is how systemctl writes a time in UTC; a choice of formats (--timestamp) came with systemd 251 only.
const unixTime = "Mon 2006-01-02 15:04:05 MST"

// Unit asks systemd.
func (m *Machine) Unit(ctx context.Context, name string) (deploy.Unit, error) {
	out, err := m.run(ctx, "TZ=UTC systemctl show -p ActiveState -p UnitFileState -p NeedDaemonReload -p ExecMainStartTimestamp "+name)
	if err != nil {
		return deploy.Unit{}, fmt.Errorf("ask systemd about %s: %w", name, err)
	}
	var u deploy.Unit
	for line := range strings.Lines(out) {
		switch k, v, _ := strings.Cut(strings.TrimSpace(line), "="); k {
		case "ActiveState":
			u.Active = v == "active"
		case "UnitFileState":
			u.Enabled = v == "enabled"
		case "NeedDaemonReload":
			u.Stale = v == "yes"
		case "ExecMainStartTimestamp":
			if at, err := time.Parse(unixTime, v); err == nil { // it is empty, or n/a, of a service that has never run
				u.Since = at
			}
		}
	}
	return u, nil
}

// Reload makes systemd and udev read their files again.
func (m *Machine) Reload(ctx context.Context) error {
	_, err := m.run(ctx, "systemctl daemon-reload; udevadm control --reload 2>/dev/null || :; udevadm trigger --subsystem-match=watchdog 2>/dev/null || :")
	return err
}

// How long Start waits: for the second after the files', which is longer only where the clock was set back since, and for the service.
// A member that is ready in time is ready within moments; a unit that systemd itself gives up on says so earlier.
var (
	clockTime = 20 * time.Second
	startTime = 90 * time.Second
)

// Start waits for the second after, so that whole seconds tell what came first.
func (m *Machine) Start(ctx context.Context, name string, after time.Time) error {
	_, err := m.run(ctx, fmt.Sprintf(`end=$(($(cut -d. -f1 /proc/uptime) + %[3]d))
while [ "$(date +%%s)" -le %[2]d ]; do
	[ "$(cut -d. -f1 /proc/uptime)" -lt $end ] || { echo "the clock says $(date), and files of %[1]s were changed later ($(date -d @%[2]d)): set the clock (timedatectl set-ntp true) and run this again" >&2; exit 1; }
	sleep 0.1
done
systemctl reset-failed %[1]s 2>/dev/null || :
systemctl enable --quiet %[1]s
timeout %[4]d systemctl restart %[1]s || {
	status=$?
	[ $status -ne 124 ] || echo "it is not ready after %[4]d s" >&2
	echo "the last lines of journalctl -u %[1]s are:" >&2
	journalctl --no-pager -o cat -n 8 -u %[1]s >&2
	exit 1
}`, name, after.Unix(), int(clockTime.Seconds()), int(startTime.Seconds())))
	return err
}

// Refresh lets systemd choose between a reload and a start. Its files may be new too.
func (m *Machine) Refresh(ctx context.Context, name string) error {
	_, err := m.run(ctx, fmt.Sprintf(`systemctl daemon-reload
systemctl enable --quiet %[1]s
systemctl reload-or-restart %[1]s || {
	echo "the last lines of journalctl -u %[1]s are:" >&2
	journalctl --no-pager -o cat -n 8 -u %[1]s >&2
	exit 1
}`, name))
	return err
}

// Log asks the journal, for warnings first: what went wrong stands among much that did not.
func (m *Machine) Log(ctx context.Context, name string) (string, error) {
	return m.run(ctx, fmt.Sprintf(`w=$(journalctl --no-pager -q -o cat -n 200 -u %[1]s | grep -E 'level(=|":")(WARN|ERROR)' | tail -n 3)
[ -n "$w" ] || w=$(journalctl --no-pager -q -o cat -n 3 -u %[1]s)
printf '%%s\n' "$w"`, name))
}

// SQL is psql's, over the socket that only this host's root and postgres reach. There is one server's in its directory.
func (m *Machine) SQL(ctx context.Context, database, statements string) (string, error) {
	out, err := m.shell.Run(ctx, fmt.Sprintf(`cd /
s=$(ls -d %[1]s/.s.PGSQL.* | grep -v lock) || { echo "PostgreSQL does not run" >&2; exit 1; }
exec runuser -u postgres -- psql -XAtq -v ON_ERROR_STOP=1 -h %[1]s -p "${s##*.}" %[2]s`, path.Join(config.DefaultNode().StateDir, "run"), quote(database)), strings.NewReader(statements))
	return string(out), err
}

// Crash kills the postmaster, whose number stands in the first line of postmaster.pid ("Database File Layout"); its processes end when
// they notice.
func (m *Machine) Crash(ctx context.Context) error {
	out, err := m.SQL(ctx, "postgres", `SELECT split_part(pg_read_file('postmaster.pid'), chr(10), 1)::int;`)
	if err != nil {
		return fmt.Errorf("find PostgreSQL's process: %w", err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(out))
	if err != nil || pid <= 1 {
		return fmt.Errorf("find PostgreSQL's process: postmaster.pid says %q", out)
	}
	_, err = m.run(ctx, fmt.Sprintf("kill -KILL %d", pid))
	return err
}

// Switchover is the installed program's command.
func (m *Machine) Switchover(ctx context.Context, to string) error {
	if to != "" {
		to = " --to " + quote(to)
	}
	_, err := m.run(ctx, packaging.Binary+" switchover"+to)
	return err
}

// Stop disables services, so that the next boot does not start them, and stops them.
func (m *Machine) Stop(ctx context.Context, names ...string) error {
	var script strings.Builder
	for _, n := range names {
		fmt.Fprintf(&script, "systemctl disable --quiet %[1]s 2>/dev/null || :\nsystemctl stop %[1]s\n", n)
	}
	_, err := m.run(ctx, script.String())
	return err
}

// AddMember is the installed program's, as the two below: it has the cluster's token there.
func (m *Machine) AddMember(ctx context.Context, r api.AddMemberRequest) (bool, error) {
	return m.change(ctx, "add", r)
}

// RemoveMember is the same for one that goes.
func (m *Machine) RemoveMember(ctx context.Context, r api.RemoveMemberRequest) (bool, error) {
	return m.change(ctx, "remove", r)
}

func (m *Machine) change(ctx context.Context, what string, request any) (nothing bool, err error) {
	question, err := json.Marshal(request)
	if err != nil {
		return false, err
	}
	out, err := m.shell.Run(ctx, "exec "+packaging.Binary+" node change "+what, bytes.NewReader(question))
	if err != nil {
		return false, err
	}
	var last api.Progress
	if err := json.Unmarshal(out, &last); err != nil {
		return false, fmt.Errorf("read its answer: %w", err)
	}
	return last.Step == api.StepNothing, nil
}

// Command is the installed program's.
func (m *Machine) Command(ctx context.Context, args ...string) (string, error) {
	words := []string{packaging.Binary}
	for _, a := range args {
		words = append(words, quote(a))
	}
	return m.run(ctx, strings.Join(words, " "))
}

// Server is Command as postgres, with the directories that the service would have made.
func (m *Machine) Server(ctx context.Context, args ...string) (string, error) {
	words := []string{"cd /; exec runuser -u postgres --", packaging.Binary}
	for _, a := range args {
		words = append(words, quote(a))
	}
	dir := config.DefaultNode().StateDir
	return m.run(ctx, fmt.Sprintf("install -d -o postgres -g postgres -m 0700 %[1]s\n%[2]s", dir, strings.Join(words, " ")))
}

// Again is systemctl start. What failed once is not held against it.
func (m *Machine) Again(ctx context.Context, name string) error {
	_, err := m.run(ctx, fmt.Sprintf("systemctl daemon-reload\nsystemctl reset-failed %[1]s 2>/dev/null || :\nsystemctl start %[1]s", quote(name)))
	return err
}

// Remove takes directories too, and systemd reads its files again: some of them may have been its own.
func (m *Machine) Remove(ctx context.Context, paths ...string) error {
	var script strings.Builder
	for _, p := range paths {
		fmt.Fprintf(&script, "rm -rf %s\n", quote(p))
	}
	_, err := m.run(ctx, script.String()+"systemctl daemon-reload")
	return err
}

// Version asks a program.
func (m *Machine) Version(ctx context.Context, program string) (string, error) {
	flag := "--version"
	if path.Base(program) == "standfast" {
		flag = "version"
	}
	return m.run(ctx, program+" "+flag)
}
