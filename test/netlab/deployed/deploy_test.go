//go:build e2e

package deployed_test

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"standfast/api"

	"github.com/jackc/pgx/v5"
)

// more is added to the guide's cluster.yml.
const more = `
bootstrap:
  lease: 6s # two processors are busy with three machines
  postgresql: {parameters: {max_wal_size: 256MB, work_mem: 7MB}}
`

var straight = flag.Bool("straight", false, "TestDeploy cuts no attempt short, so that the whole way from bare hosts can be timed")

// TestDeploy looks at bare hosts, makes a cluster of them with one command, after a dry run and two attempts that are cut short, and proves its failover
// while it is empty; the same command again changes nothing. What an application has made keeps the proof from running by itself;
// asked for by the cluster's name, it runs.
func TestDeploy(t *testing.T) {
	// The hosts are bare only once: what wants them so comes first.
	t.Run("plan", plan)
	t.Run("plan finds what is in the way", planFindsWhatIsInTheWay)
	t.Run("plan behind firewalls", planBehindFirewalls)
	t.Run("plan finds a filter", planFindsAFilter)
	whole := guideFile(t) + more
	ok(t, admin.Write("cluster.yml", whole))
	t.Run("dry run", func(t *testing.T) {
		said := run0(t, "deploy", "--dry-run")
		for _, want := range []string{"due  pg2: install PostgreSQL", "due  pg3: start standfast", "due  make the role app", "nothing was changed"} {
			if !strings.Contains(said, want) {
				t.Errorf("it does not say %q", want)
			}
		}
		out, err := admin.Lab.Hosts[0].Shell(all, "ls -d /etc/standfast /usr/lib/postgresql /usr/bin/standfast 2>/dev/null || :")
		if err != nil || out != "" {
			t.Errorf("a dry run leaves %q (%v)", out, err)
		}
	})
	if !*straight {
		t.Run("killed while packages are installed", func(t *testing.T) { killAt(t, "install PostgreSQL", 500*time.Millisecond) })
		t.Run("a host goes away midway", hostGoesAway)
		t.Run("killed when the first agent is to start", func(t *testing.T) { killAt(t, "put its configuration and secrets there", 0) })
		t.Run("a disk fills up midway", diskFillsUp)
	}
	t.Run("to the end", func(t *testing.T) {
		began := time.Now()
		said := run0(t, "deploy")
		t.Logf("took %s\n%s", time.Since(began).Round(time.Millisecond), said)
		proven(t, said)
		for _, h := range admin.Lab.Hosts {
			out, err := h.Shell(all, "sed -n '1p;$p' /var/log/dpkg.log; grep -c configure /var/log/dpkg.log; head -n 3 /var/log/standfast-install.log")
			t.Logf("%s: dpkg worked from and to (%v)\n%s", h.Name, err, out)
		}
	})
	t.Run("again", func(t *testing.T) {
		before := agents(t)
		if said := run0(t, "deploy"); !strings.Contains(said, "nothing was to be done") || strings.Contains(said, "done ") {
			t.Errorf("it has changed something:\n%s", said)
		}
		if after := agents(t); after != before {
			t.Errorf("agents were restarted: %s, then %s", before, after)
		}
	})
	t.Run("check", func(t *testing.T) { check(t, whole) })
	t.Run("another cluster is there", anotherCluster)
	t.Run("somebody else deploys", somebodyElse)
	t.Run("the application", application)
	t.Run("validate", validate)
	t.Run("the guide, word by word", guide)
	t.Run("secrets are secret", secrets)
}

var proof = regexp.MustCompile(`(pg\d) to (pg\d): writes out for (\d+) ms, 0 of \d+ acknowledged commits lost; and back, (pg\d) to (pg\d): writes out for (\d+) ms, 0 of \d+ acknowledged commits lost`)

// proven finds a failover in what was said, and the return from it.
func proven(t *testing.T, said string) {
	t.Helper()
	m := proof.FindStringSubmatch(said)
	if m == nil {
		t.Errorf("no failover and return is told:\n%s", said)
		return
	}
	if m[1] == m[2] || m[1] != m[5] || m[2] != m[4] || m[3] == "0" || m[6] == "0" {
		t.Errorf("it did not go there and back: %s", m[0])
	}
}

// validate looks, is not deceived by a wrong name, and strikes when the right one is given. The application's table is there by now.
func validate(t *testing.T) {
	before := agents(t)
	term := reign(t)
	said := run0(t, "validate")
	t.Log(said)
	if strings.Count(said, "holds ") < 7 || !strings.Contains(said, "every checkpoint of main holds") || reign(t) != term || agents(t) != before {
		t.Errorf("it does not only look:\n%s", said)
	}
	// As if the deployment had been cut short before its last phase, and the application had begun.
	mark := filepath.Join(admin.Dir, "standfast-main", "unproven")
	ok(t, os.WriteFile(mark, nil, 0o600))
	if said := run0(t, "deploy"); !strings.Contains(said, "the cluster holds public.t in the database app") || reign(t) != term {
		t.Errorf("with an application's data:\n%s", said)
	}
	code, said, err := admin.Standfast(all, "validate", "--failover", "--yes-cluster", "mian")
	ok(t, err)
	if code != 3 || reign(t) != term {
		t.Errorf("with a wrong name it exits with %d:\n%s", code, said)
	}
	began := time.Now()
	said = run0(t, "validate", "--failover", "--yes-cluster", "main")
	t.Logf("took %s\n%s", time.Since(began).Round(time.Millisecond), said)
	proven(t, said)
	if now := reign(t); now == term {
		t.Error("there was no failover")
	}
}

// reign is the primary and its term.
func reign(t *testing.T) string {
	t.Helper()
	out, err := admin.Lab.Hosts[0].Shell(all, "standfast status -o json")
	ok(t, err)
	var st api.Status
	ok(t, json.Unmarshal([]byte(out), &st))
	return fmt.Sprintf("%s in term %d", st.Primary, st.Term)
}

// run0 runs a command that is to succeed.
func run0(t *testing.T, args ...string) string {
	t.Helper()
	code, said, err := admin.Standfast(all, args...)
	ok(t, err)
	if code != 0 {
		logs(t)
		t.Fatalf("standfast %s exits with %d:\n%s", strings.Join(args, " "), code, said)
	}
	return said
}

func logs(t *testing.T) {
	for _, h := range admin.Lab.Hosts {
		text, err := h.Shell(all, "journalctl --no-pager -o short-precise -n 25 -u 'standfast*'; tail -n 5 /var/log/standfast-install.log 2>/dev/null")
		t.Logf("---- %s (%v)\n%s", h.Name, err, text)
	}
}

// killAt kills a deployment, and its connections with it, some time after it has entered a step: its log names the steps that ended.
func killAt(t *testing.T, step string, after time.Duration) {
	t.Helper()
	before := map[string]string{"install PostgreSQL": "set the distribution's empty cluster aside"}[step]
	if before == "" {
		before = step
	}
	strike(t, before, func(cmd *exec.Cmd) {
		time.Sleep(after) // so that it is in the middle of the next step
		ok(t, cmd.Process.Signal(syscall.SIGKILL))
	})
}

// strike begins a deployment, does something when it first speaks of a step, and returns how it ended.
func strike(t *testing.T, at string, do func(cmd *exec.Cmd), args ...string) (code int, said string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(all, 8*time.Minute)
	defer cancel()
	cmd := admin.Command(ctx, append([]string{"deploy"}, args...)...)
	out, err := cmd.StderrPipe()
	ok(t, err)
	ok(t, cmd.Start())
	struck := false
	for lines := bufio.NewScanner(out); lines.Scan(); {
		t.Log(lines.Text())
		said += lines.Text() + "\n"
		if !struck && strings.Contains(lines.Text(), at) {
			do(cmd)
			struck = true
		}
	}
	_ = cmd.Wait() // its code says it
	if !struck {
		t.Fatalf("the deployment ended before %q", at)
	}
	return cmd.ProcessState.ExitCode(), said
}

// hostGoesAway: the others come to the end of their own steps, the host is named, and nothing is begun that needs all.
func hostGoesAway(t *testing.T) {
	lab := admin.Lab
	pg3 := lab.Hosts[2]
	began := time.Now()
	code, said := strike(t, "set the distribution's empty cluster aside", func(*exec.Cmd) { ok(t, lab.Cut(all, pg3)) })
	ok(t, lab.Mend(all, pg3))
	t.Logf("took %s", time.Since(began).Round(time.Millisecond))
	if code != 1 || !strings.Contains(said, "phase 1: pg3: ") || !strings.Contains(said, "connection was lost") {
		t.Errorf("it exits with %d", code)
	}
	for _, h := range lab.Hosts[:2] {
		_, err := h.Shell(all, "test -x /usr/bin/standfast; test ! -e /etc/standfast/standfast.yml")
		if err != nil {
			t.Errorf("%s is not at the end of phase 1: %v", h.Name, err)
		}
	}
}

// diskFillsUp: what the member that has no room has said is shown; where there is room again, the next run ends what this one began.
func diskFillsUp(t *testing.T) {
	pg2 := admin.Lab.Hosts[1]
	code, said := strike(t, "phase 1", func(*exec.Cmd) { ok(t, pg2.FillDisk(4<<20)) }, "--wait", "20s")
	ok(t, pg2.FreeDisk())
	if code != 1 || !strings.Contains(said, "pg2: ") || !strings.Contains(strings.ToLower(said), "no space left on device") {
		t.Errorf("it exits with %d", code)
	}
}

// check: where all is done nothing is due; a change is shown, with a code of its own, and not made.
func check(t *testing.T, whole string) {
	code, said, err := admin.Standfast(all, "apply", "--check", "-o", "json")
	ok(t, err)
	if code != 0 || !strings.Contains(said, `"changed": false`) {
		t.Errorf("with nothing due it exits with %d:\n%s", code, said)
	}
	before := agents(t)
	ok(t, admin.Write("cluster.yml", strings.Replace(whole, "work_mem: 7MB", "work_mem: 8MB", 1)))
	code, said, err = admin.Standfast(all, "apply", "--check", "--diff", "-o", "json")
	ok(t, err)
	if code != 5 || !strings.Contains(said, `"changed": true`) || strings.Count(said, "/etc/standfast/standfast.yml") < 3 || !strings.Contains(said, "work_mem: 8MB") {
		t.Errorf("with a change it exits with %d:\n%s", code, said)
	}
	ok(t, admin.Write("cluster.yml", whole))
	if said := run0(t, "deploy"); !strings.Contains(said, "nothing was to be done") || agents(t) != before {
		t.Errorf("a check has changed something:\n%s", said)
	}
}

// anotherCluster is refused, and named.
func anotherCluster(t *testing.T) {
	path := filepath.Join(admin.Dir, "other.yml")
	text, err := os.ReadFile(filepath.Join(admin.Dir, "cluster.yml"))
	ok(t, err)
	ok(t, os.WriteFile(path, []byte(strings.Replace(string(text), "cluster: main", "cluster: other", 1)), 0o600))
	before := agents(t)
	code, said, err := admin.Standfast(all, "deploy", "-f", path)
	ok(t, err)
	if code != 3 || strings.Count(said, "is a member of the cluster main") != 3 || agents(t) != before {
		t.Errorf("it exits with %d:\n%s", code, said)
	}
}

// somebodyElse has a host locked, from another machine.
func somebodyElse(t *testing.T) {
	pg2 := admin.Lab.Hosts[1]
	_, err := pg2.Shell(all, "echo 'ann on laptop' >/run/standfast-deploy.lock; setsid flock -F -n /run/standfast-deploy.lock sleep 1000 >/dev/null 2>&1 & echo $! >/run/squatter")
	ok(t, err)
	t.Cleanup(func() {
		_, err := pg2.Shell(all, "kill $(cat /run/squatter)")
		ok(t, err)
	})
	code, said, err := admin.Standfast(all, "deploy")
	ok(t, err)
	if code != 3 || !strings.Contains(said, "pg2 is being deployed to already, by ann on laptop") {
		t.Errorf("it exits with %d:\n%s", code, said)
	}
}

// agents tells when each was started.
func agents(t *testing.T) string {
	t.Helper()
	var all3 []string
	for _, h := range admin.Lab.Hosts {
		out, err := h.Run(all, "systemctl", "show", "-p", "ExecMainPID", "--value", "standfast")
		ok(t, err)
		all3 = append(all3, strings.TrimSpace(out))
	}
	return strings.Join(all3, " ")
}

// application connects as cluster.yml promises, through the floating address, and only so.
func application(t *testing.T) {
	word, err := os.ReadFile(filepath.Join(admin.Dir, "standfast-main", "app.password"))
	ok(t, err)
	ctx, cancel := context.WithTimeout(all, 20*time.Second)
	defer cancel()
	cfg, err := pgx.ParseConfig("host=10.99.0.50 port=5000 user=app dbname=app sslmode=prefer")
	ok(t, err)
	cfg.DialFunc, cfg.Password = admin.Lab.Dial, strings.TrimSpace(string(word))
	conn, err := pgx.ConnectConfig(ctx, cfg)
	ok(t, err)
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, "CREATE TABLE t AS SELECT 1 AS i")
	ok(t, err)
	var memory string
	ok(t, conn.QueryRow(ctx, "SHOW work_mem").Scan(&memory))
	if memory != "7MB" {
		t.Errorf("work_mem is %s", memory)
	}
	cfg.Password = "guessed"
	if _, err := pgx.ConnectConfig(ctx, cfg); err == nil || !strings.Contains(err.Error(), "28P01") {
		t.Errorf("a wrong password gives %v", err)
	}
}

// secrets: nobody but postgres reads them there, nobody but the administrator here, and no log has them.
func secrets(t *testing.T) {
	token, err := os.ReadFile(filepath.Join(admin.Dir, "standfast-main", "token"))
	ok(t, err)
	word, err := os.ReadFile(filepath.Join(admin.Dir, "standfast-main", "app.password"))
	ok(t, err)
	for _, h := range admin.Lab.Hosts {
		out, err := h.Shell(all, "stat -c '%a %U %n' /etc/standfast/secret /etc/standfast/token /etc/standfast/tls/member.key")
		ok(t, err)
		for line := range strings.Lines(out) {
			if !strings.HasPrefix(line, "600 postgres ") {
				t.Errorf("%s: %s", h.Name, line)
			}
		}
		for _, secret := range [][]byte{token, word} {
			word := strings.TrimSpace(string(secret))
			out, err := h.Shell(all, fmt.Sprintf("journalctl --no-pager | grep -cF %[1]s || :; grep -rlF %[1]s /var/log /var/lib/standfast/log || :", word))
			if strings.Trim(out, "0\n") != "" {
				t.Errorf("%s: a log has a secret: %s (%v)", h.Name, out, err)
			}
		}
	}
}
