package distro_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"standfast/deploy/distro"
)

// TestDebiansToolsRefuse asks postgresql-common itself, about a registered cluster below a directory of the test's own.
func TestDebiansToolsRefuse(t *testing.T) {
	if _, err := exec.LookPath("pg_ctlcluster"); err != nil {
		t.Skipf("postgresql-common is not installed: %v", err)
	}
	servers, _ := filepath.Glob("/usr/lib/postgresql/*/bin/pg_ctl")
	if len(servers) == 0 || os.Getuid() != 0 {
		t.Skip("needs a PostgreSQL of Debian's, and root")
	}
	version := strings.Split(servers[0], "/")[4]
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(dir, "data")
	// It looks as if it ran: a process under the name that the tools look for.
	server := exec.CommandContext(t.Context(), "sleep", "60")
	server.Args[0] = "postgres"
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = server.Process.Kill()
		_ = server.Wait() // it was killed
	}()
	script := `mkdir "$1"; echo "$2" >"$1/postmaster.pid"; chown -R postgres: "$1"`
	if out, err := exec.Command("sh", "-ec", script, "sh", data, strconv.Itoa(server.Process.Pid)).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	debian, _ := distro.Named("debian-13")
	for _, f := range debian.Register(distro.Server{Version: version, Port: 5999, Data: data, Sockets: dir, Logs: dir}) {
		rest, ok := strings.CutPrefix(f.Path, "/etc/postgresql/")
		if !ok {
			continue
		}
		path := filepath.Join(dir, "conf", rest)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, f.Text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	tool := func(name string, args ...string) (string, error) {
		cmd := exec.Command(name, args...)
		cmd.Env = append(os.Environ(), "PG_CLUSTER_CONF_ROOT="+filepath.Join(dir, "conf"), "LC_ALL=C")
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := tool("pg_lsclusters", "--no-header"); err != nil || !strings.Contains(out, version+" ") || !strings.Contains(out, "standfast 5999") || !strings.Contains(out, data) || !strings.Contains(out, "online") || !strings.Contains(out, dir+"/postgresql.log") {
		t.Errorf("pg_lsclusters: %v\n%s", err, out)
	}
	for _, action := range []string{"start", "restart", "reload", "promote"} {
		if out, err := tool("pg_ctlcluster", version, "standfast", action); err == nil || !strings.Contains(out, "disabled") {
			t.Errorf("%s: %v: %s", action, err, out)
		}
	}
	for _, args := range [][]string{{version, "standfast", "stop"}, {version, "standfast", "stop", "--force"}, {"-m", "immediate", version, "standfast", "stop"}} {
		out, err := tool("pg_ctlcluster", args...) // with --force it exits with 0 even so
		if err == nil && args[len(args)-1] != "--force" || !strings.Contains(out, "unrecognized option") || !strings.Contains(out, "use--standfast-node-stop") {
			t.Errorf("%v: %v: %s", args, err, out)
		}
	}
	if err := server.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("the server is gone: %v", err)
	}
	if _, err := os.Stat(filepath.Join(data, "postmaster.pid")); err != nil {
		t.Errorf("the server's files were touched: %v", err)
	}
}
