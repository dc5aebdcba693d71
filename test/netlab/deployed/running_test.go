//go:build e2e

package deployed_test

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// bare puts bare machines in the places of the three, unless they are bare yet.
func bare(t *testing.T) {
	t.Helper()
	var wait sync.WaitGroup
	for _, h := range admin.Lab.Hosts[:3] {
		wait.Go(func() {
			if out, err := h.Shell(all, "ls -d /etc/postgresql /etc/standfast 2>/dev/null || :"); err == nil && out == "" {
				return
			}
			if err := h.Renew(all); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	if t.Failed() {
		t.FailNow()
	}
	ok(t, admin.Use(admin.Lab))
	ok(t, os.RemoveAll(filepath.Join(admin.Dir, "standfast-main")))
}

// debians is what each release of Debian brings.
var debians = map[string]string{"": "17", "trixie": "17", "bookworm": "15"}

// here has a script speak of the version that the hosts have, not of 17.
func here(script string) string {
	return strings.ReplaceAll(script, "17", debians[os.Getenv("STANDFAST_NETLAB_SUITE")])
}

// shell runs a script on a host and returns what it says.
func shell(t *testing.T, host, script string) string {
	t.Helper()
	out, err := admin.Lab.Host(host).Shell(all, here(script))
	if err != nil {
		t.Fatalf("%s: %v\n%s", host, err, out)
	}
	return strings.TrimSpace(out)
}

// site is what an administrator has done to a server that serves an application, the distribution's way.
const site = `
DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install postgresql-17 >/var/log/site.log 2>&1 || { tail -n 20 /var/log/site.log; exit 1; }
cd /etc/postgresql/17/main
sed -i "s/^#\?listen_addresses.*/listen_addresses = '*'/; s/^#\?work_mem .*/work_mem = 5MB/" postgresql.conf
echo "host app app 10.99.0.0/24 scram-sha-256 # the site's" >>pg_hba.conf
systemctl restart postgresql@17-main
su postgres -c "psql -qc \"create role app login password 'secret'\" -c 'create database app owner app' -c \"alter system set maintenance_work_mem = '33MB'\""
`

// direct writes to a server without anything between, as the application did before there was a cluster.
func direct(t *testing.T, address string) *writer {
	t.Helper()
	cfg, err := pgx.ParseConfig("host=" + address + " user=app dbname=app password=secret sslmode=prefer connect_timeout=5")
	ok(t, err)
	cfg.DialFunc = admin.Lab.Dial
	return writing(t, cfg)
}

const postmaster = "head -n 1 /var/lib/postgresql/17/main/postmaster.pid; su postgres -c \"psql -XAtc 'select pg_postmaster_start_time()' 2>/dev/null\" || :"

// quiet are the settings of a lab whose two processors are busy with three machines.
const quiet = "bootstrap: {lease: 6s}\n"

// TestAdoptOneServer makes one server that serves an application a cluster of three while it writes, gives it back, makes it one again, and
// commits that.
func TestAdoptOneServer(t *testing.T) {
	bare(t)
	shell(t, "pg1", site)
	ok(t, admin.Describe(quiet))
	process := shell(t, "pg1", postmaster)
	files := shell(t, "pg1", "cd /etc/postgresql/17/main; sha256sum pg_hba.conf pg_ident.conf postgresql.conf")
	w := direct(t, "10.99.0.11")

	said := run0(t, "adopt", "--dry-run")
	for _, want := range []string{"goes on as it runs: no restart", here("postgresql@17-main.service is masked"), "copied from pg1", "nothing was changed"} {
		if !strings.Contains(said, want) {
			t.Errorf("a dry run does not say %q:\n%s", want, said)
		}
	}
	if got := shell(t, "pg1", "ls -d /etc/standfast /usr/bin/standfast 2>/dev/null || :"); got != "" {
		t.Errorf("a dry run leaves %s", got)
	}
	adopted(t)
	if now := shell(t, "pg1", postmaster); now != process {
		t.Errorf("the server was restarted: %s, then %s", process, now)
	}
	for _, c := range []string{"systemctl stop postgresql@17-main", "systemctl restart postgresql@17-main", "pg_ctlcluster 17 main stop"} {
		if out, err := admin.Lab.Host("pg1").Shell(all, here(c)); err == nil {
			t.Errorf("%q works: %s", c, out)
		}
	}

	t.Log(run0(t, "adopt", "--back"))
	if now := shell(t, "pg1", postmaster); now != process {
		t.Errorf("the server was restarted when it was given back: %s, then %s", process, now)
	}
	if now := shell(t, "pg1", "cd /etc/postgresql/17/main; sha256sum pg_hba.conf pg_ident.conf postgresql.conf"); now != files {
		t.Errorf("the site's files are others: %s, then %s", files, now)
	}
	if got := shell(t, "pg1", "systemctl is-active standfast || :; pg_lsclusters -h; su postgres -c \"psql -XAtc \\\"select count(*) from pg_roles where rolname like 'standfast%'\\\"\""); !strings.HasPrefix(got, "inactive") || !strings.Contains(got, "online") || !strings.HasSuffix(got, "\n0") {
		t.Errorf("it is not as it was: %s", got)
	}
	time.Sleep(8 * time.Second) // longer than the guard would have waited
	w.end(t, 10*time.Second)    // two runs on busy processors: 1.5 s and 2.8 s; what is judged here is that no lease or clone holds writes up

	w = direct(t, "10.99.0.11")
	adopted(t)
	w.end(t, 10*time.Second) // two runs on busy processors: 1.5 s and 2.8 s; what is judged here is that no lease or clone holds writes up
	whole(t)
}

// adopted runs it, and again: then nothing is to be done.
func adopted(t *testing.T) {
	t.Helper()
	began := time.Now()
	said := run0(t, "adopt")
	t.Logf("took %s\n%s", time.Since(began).Round(time.Millisecond), said)
	if said := run0(t, "adopt"); strings.Contains(said, "done ") {
		t.Errorf("again it changes something:\n%s", said)
	}
}

// whole commits, and sees a cluster like any other: it moves, the old primary comes back with a start of Standfast's own, and what the site had set
// is in force everywhere.
func whole(t *testing.T) {
	t.Helper()
	t.Log(run0(t, "adopt", "--commit"))
	if code, said, err := admin.Standfast(all, "adopt", "--back"); err != nil || code != 3 || !strings.Contains(said, "is committed") {
		t.Errorf("a committed takeover is given back: exits with %d\n%s (%v)", code, said, err)
	}
	t.Log(shell(t, "pg1", "standfast switchover --to pg2 2>&1; standfast status"))
	for _, host := range []string{"pg1", "pg2", "pg3"} {
		const settings = "select string_agg(name || '=' || current_setting(name), ' ' order by name) from pg_settings where name in ('work_mem', 'maintenance_work_mem', 'wal_log_hints', 'restart_after_crash')"
		deadline := time.Now().Add(time.Minute)
		want := "maintenance_work_mem=33MB restart_after_crash=off wal_log_hints=on work_mem=5MB"
		got := ""
		for got != want && time.Now().Before(deadline) {
			got, _ = admin.Lab.Host(host).Shell(all, "su postgres -c \"psql -XAt -h /var/lib/standfast/run -c \\\""+settings+"\\\"\"")
			got = strings.TrimSpace(got)
			time.Sleep(200 * time.Millisecond)
		}
		if got != want {
			t.Errorf("%s has %s, want %s", host, got, want)
		}
	}
	run0(t, "validate")
}
