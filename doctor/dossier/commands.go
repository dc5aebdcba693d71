package dossier

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"standfast/internal/redact"
	"standfast/packaging"
)

// outputEnd is how many bytes of a command's output are given, its end.
const outputEnd = 1 << 20

// command is a question to the host. None shows the arguments of other processes, in which a secret could stand.
type command struct {
	file  string // below host/
	words []string
	log   bool // its output is a log
}

func (h Host) commands() []command {
	units := []string{packaging.Unit, packaging.ServerUnit}
	out := []command{
		{file: "kernel.txt", words: []string{"uname", "-a"}},
		{file: "system.txt", words: []string{"cat", "/etc/os-release"}},
		{file: "addresses.txt", words: []string{"ip", "-brief", "address"}},
		{file: "routes.txt", words: []string{"ip", "route"}},
		{file: "ports.txt", words: []string{"ss", "-lntu"}},
		{file: "disks.txt", words: []string{"df", "-h"}},
		{file: "memory.txt", words: []string{"free", "-m"}},
		{file: "clusters.txt", words: []string{"pg_lsclusters"}},
		{file: "packages.txt", words: []string{"dpkg-query", "-W", "postgresql*", "standfast*", "haproxy", "keepalived", "repmgr", "patroni", "etcd*"}},
		{file: "packages-rpm.txt", words: []string{"rpm", "-qa", "postgresql*", "standfast*", "haproxy", "keepalived", "repmgr*", "patroni", "etcd"}},
	}
	if underSystemd() {
		out = append(out, h.systemd(units)...)
	}
	if bin := h.Node.Postgres.BinDir; bin != "" {
		out = append(out, command{file: "postgresql.txt", words: []string{filepath.Join(bin, "postgres"), "--version"}})
	}
	return out
}

// underSystemd reports whether systemd runs this host (sd_booted(3)).
func underSystemd() bool {
	_, err := os.Lstat("/run/systemd/system")
	return err == nil
}

func (h Host) systemd(units []string) []command {
	out := []command{
		{file: "units.txt", words: append([]string{"systemctl", "show", "--no-pager", "-p", "Id,LoadState,ActiveState,SubState,UnitFileState,Result,NRestarts,ExecMainStatus,ActiveEnterTimestamp,FragmentPath,DropInPaths"}, units...)},
		{file: "units-failed.txt", words: []string{"systemctl", "list-units", "--failed", "--no-pager", "--plain", "--no-legend"}},
		{file: "clock.txt", words: []string{"timedatectl", "status", "--no-pager"}},
		{file: "unit-files.txt", words: append([]string{"systemctl", "cat", "--no-pager"}, units...)},
	}
	if h.Journal {
		out = append(out,
			command{file: "journal.txt", log: true, words: []string{"journalctl", "-u", units[0], "-u", units[1], "-n", "5000", "--no-pager", "-o", "short-iso"}},
			command{file: "journal-kernel.txt", log: true, words: []string{"journalctl", "-k", "-p", "warning", "-n", "200", "--no-pager", "-o", "short-iso"}})
	}
	return out
}

// run gives what a command says. One that the host does not have is no loss; one that fails and says why gives that.
func (c command) run(ctx context.Context, red redact.Redactor) ([]File, error) {
	cmd := exec.CommandContext(ctx, c.words[0], c.words[1:]...)
	cmd.WaitDelay = Bound // what it has said may be read late on a busy host; Collect gives up by itself
	out, err := cmd.CombinedOutput()
	if errors.Is(err, exec.ErrNotFound) {
		return nil, nil
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("no answer within %v", Bound)
	}
	if err != nil && len(out) == 0 {
		return nil, err
	}
	if len(out) > outputEnd {
		_, out, _ = bytes.Cut(out[len(out)-outputEnd:], []byte("\n"))
	}
	text := "$ " + strings.Join(c.words, " ") + "\n" + string(out)
	if err != nil {
		text += fmt.Sprintf("(%v)\n", err)
	}
	if c.log {
		return []File{{"host/" + c.file, red.Log(text)}}, nil
	}
	return []File{{"host/" + c.file, red.Text(text)}}, nil
}
