//go:build e2e

package deployed_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"standfast/test/netlab"

	"github.com/jackc/pgx/v5"
)

// writer commits a row after another through the floating address, and remembers those that were acknowledged.
type writer struct {
	config *pgx.ConnConfig
	stop   context.CancelFunc
	wait   sync.WaitGroup

	acknowledged []int
	longest      time.Duration // between two acknowledged commits
	errors       int
}

// write begins; end ends it and looks for every acknowledged row.
func write(t *testing.T) *writer {
	t.Helper()
	word, err := os.ReadFile(filepath.Join(admin.Dir, "standfast-main", "app.password"))
	ok(t, err)
	cfg, err := pgx.ParseConfig("host=10.99.0.50 port=5000 user=app dbname=app sslmode=prefer connect_timeout=5")
	ok(t, err)
	cfg.DialFunc, cfg.Password = admin.Lab.Dial, strings.TrimSpace(string(word))
	return writing(t, cfg)
}

// writing begins with an empty table, and goes on until the writer ends.
func writing(t *testing.T, cfg *pgx.ConnConfig) *writer {
	t.Helper()
	w := &writer{config: cfg}
	conn, err := pgx.ConnectConfig(all, cfg)
	ok(t, err)
	defer conn.Close(all)
	_, err = conn.Exec(all, "DROP TABLE IF EXISTS rows_written; CREATE TABLE rows_written (i int PRIMARY KEY)")
	ok(t, err)
	ctx, stop := context.WithCancel(all)
	w.stop = stop
	w.wait.Go(func() { w.work(ctx) })
	t.Cleanup(func() { stop(); w.wait.Wait() })
	return w
}

func (w *writer) work(ctx context.Context) {
	var conn *pgx.Conn
	last := time.Now()
	for i := 0; ctx.Err() == nil; i++ {
		err := error(nil)
		if conn == nil {
			conn, err = pgx.ConnectConfig(ctx, w.config)
		}
		if err == nil {
			one, cancel := context.WithTimeout(ctx, 5*time.Second)
			_, err = conn.Exec(one, "INSERT INTO rows_written VALUES ($1)", i)
			cancel()
		}
		if err != nil {
			if ctx.Err() == nil {
				w.errors++
			}
			if conn != nil {
				conn.Close(ctx)
			}
			conn = nil
			continue
		}
		w.acknowledged = append(w.acknowledged, i)
		w.longest, last = max(w.longest, time.Since(last)), time.Now()
		time.Sleep(5 * time.Millisecond) // the hosts share two processors
	}
	if conn != nil {
		conn.Close(context.WithoutCancel(ctx))
	}
}

// end fails if an acknowledged row is missing, or writes were out for longer than that.
func (w *writer) end(t *testing.T, most time.Duration) {
	t.Helper()
	w.stop()
	w.wait.Wait()
	conn, err := pgx.ConnectConfig(all, w.config)
	ok(t, err)
	defer conn.Close(all)
	rows, err := conn.Query(all, "SELECT i FROM rows_written")
	ok(t, err)
	found, err := pgx.CollectRows(rows, pgx.RowTo[int])
	ok(t, err)
	there := map[int]bool{}
	for _, i := range found {
		there[i] = true
	}
	lost := 0
	for _, i := range w.acknowledged {
		if !there[i] {
			lost++
		}
	}
	t.Logf("%d commits acknowledged, %d lost, %d errors; the longest time between two was %s", len(w.acknowledged), lost, w.errors, w.longest.Round(time.Millisecond))
	if lost > 0 || len(w.acknowledged) == 0 || w.longest > most {
		t.Errorf("lost %d of %d acknowledged commits; writes were out for %s, at most %s is expected", lost, len(w.acknowledged), w.longest, most)
	}
}

// TestMembers changes the members of the cluster that TestDeploy has made, or of one of its own, while a client writes: a fourth host is
// added and removed again, and one that has lost its power for good is replaced by a bare machine.
func TestMembers(t *testing.T) {
	three := guideFile(t) + more
	ok(t, admin.Write("cluster.yml", three))
	run0(t, "deploy")
	const after = "  - {name: pg3, address: 10.99.0.13}\n"
	pg4, err := admin.Lab.Add(all)
	ok(t, err)
	ok(t, admin.Use(admin.Lab))
	isolate(t, pg4)
	four := strings.Replace(three, after, after+"  - {name: pg4, address: 10.99.0.14}\n", 1)
	if four == three {
		t.Fatal("the guide's cluster.yml has changed")
	}
	w := write(t)
	ok(t, admin.Write("cluster.yml", four))
	t.Run("add", addMember)
	t.Run("remove", func(t *testing.T) { removeMember(t, three) })
	t.Run("replace", replaceMember)
	t.Run("the primary, and back", primaryAndBack)
	w.end(t, 5*time.Second)
}

// isolate takes away the packages that are at hand on a host, as on a site that no mirror reaches.
func isolate(t *testing.T, h *netlab.Host) {
	t.Helper()
	_, err := h.Shell(all, "rm -rf /var/cache/apt/archives /var/lib/apt/lists /etc/apt/sources.list /etc/apt/sources.list.d/*; mkdir -p /var/cache/apt/archives/partial")
	ok(t, err)
}

// bundle is made on this machine, which reaches a mirror; the administrator's, from which hosts are reached, gets the file.
func bundle(t *testing.T) string {
	t.Helper()
	mirror, err := netlab.Mirror(all)
	ok(t, err)
	began := time.Now()
	made := exec.CommandContext(all, admin.Program(), "bundle", "-f", "cluster.yml", "--system", netlab.Image{}.System(), "--mirror", mirror, "-o", "bundle.tar")
	made.Dir = admin.Dir
	said, err := made.CombinedOutput()
	t.Logf("took %s\n%s", time.Since(began).Round(time.Millisecond), said)
	ok(t, err)
	return "bundle.tar"
}

func addMember(t *testing.T) {
	if code, said, err := admin.Standfast(all, "deploy"); err != nil || code != 3 || !strings.Contains(said, "standfast node add") {
		t.Errorf("a deployment takes pg4 in: exits with %d\n%s (%v)", code, said, err)
	}
	if said := run0(t, "node", "add", "--dry-run"); !strings.Contains(said, "due  take pg4 into the cluster") {
		t.Errorf("a dry run says\n%s", said)
	}
	before := agents3(t)
	file := bundle(t)
	began := time.Now()
	said := run0(t, "node", "add", "--bundle", file)
	t.Logf("took %s\n%s", time.Since(began).Round(time.Millisecond), said)
	if after := agents3(t); after != before {
		t.Errorf("agents were restarted: %s, then %s", before, after)
	}
	out, err := admin.Lab.Host("pg1").Shell(all, "standfast status")
	ok(t, err)
	if !strings.Contains(out, "pg4") {
		t.Errorf("pg1 does not know it:\n%s", out)
	}
	if said := run0(t, "node", "add"); !strings.Contains(said, "nothing was to be done") {
		t.Errorf("again:\n%s", said)
	}
}

// agents3 tells when the founders' were started.
func agents3(t *testing.T) string { return strings.Join(strings.Fields(agents(t))[:3], " ") }

func removeMember(t *testing.T, three string) {
	primary := strings.Fields(reign(t))[0]
	if code, said, err := admin.Standfast(all, "node", "remove", primary); err != nil || code != 3 || !strings.Contains(said, "hand its role over first") {
		t.Errorf("the primary is removed: exits with %d\n%s (%v)", code, said, err)
	}
	if said := run0(t, "node", "remove", "pg4", "--dry-run"); !strings.Contains(said, "due  take pg4 out of the cluster") {
		t.Errorf("a dry run says\n%s", said)
	}
	began := time.Now()
	said := run0(t, "node", "remove", "pg4")
	t.Logf("took %s\n%s", time.Since(began).Round(time.Millisecond), said)
	pg4 := admin.Lab.Host("pg4")
	out, err := pg4.Shell(all, "systemctl is-active standfast standfast-postgres || :; ls /var/lib/standfast/data/PG_VERSION")
	if err != nil || strings.Count(out, "inactive") != 2 {
		t.Errorf("pg4 runs on, or its data is gone: %s (%v)", out, err)
	}
	ok(t, admin.Write("cluster.yml", three))
	// It comes back by mistake.
	_, err = pg4.Shell(all, "systemctl start standfast")
	ok(t, err)
	for end := time.Now().Add(time.Minute); ; time.Sleep(500 * time.Millisecond) {
		if out, err = pg4.Shell(all, "standfast status 2>&1 || :; curl -s http://10.99.0.14:8008/status || :"); strings.Contains(out, "pg4 was removed from this cluster and stays out") {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("it does not say that it was removed: %s (%v)", out, err)
		}
	}
	if out, err = pg4.Shell(all, "systemctl is-active standfast-postgres || :"); err != nil || !strings.Contains(out, "inactive") {
		t.Errorf("its PostgreSQL runs: %s (%v)", out, err)
	}
	_, err = pg4.Shell(all, "systemctl stop standfast")
	ok(t, err)
	if said := run0(t, "deploy"); strings.Contains(said, "done ") {
		t.Errorf("a deployment without it changes something:\n%s", said)
	}
}

// replaceMember takes the power of a standby for good, or of the primary if pg3 is it, and puts a bare machine there.
func replaceMember(t *testing.T) {
	if code, said, err := admin.Standfast(all, "node", "replace", "pg3"); err != nil || code != 3 || !strings.Contains(said, "it has not died") {
		t.Errorf("a member that lives is replaced: exits with %d\n%s (%v)", code, said, err)
	}
	pg3 := admin.Lab.Host("pg3")
	ok(t, pg3.Renew(all))
	ok(t, admin.Use(admin.Lab))
	began := time.Now()
	said := run0(t, "node", "replace", "pg3")
	t.Logf("took %s\n%s", time.Since(began).Round(time.Millisecond), said)
	out, err := pg3.Shell(all, "grep join: /etc/standfast/standfast.yml; standfast status")
	if err != nil || !strings.Contains(out, "join: true") {
		t.Errorf("%s (%v)", out, err)
	}
	if said := run0(t, "deploy"); strings.Contains(said, "done ") {
		t.Errorf("a deployment afterwards changes something:\n%s", said)
	}
}

// primaryAndBack removes the primary, a founder, whose role is handed over first, and adds it again with what it has.
func primaryAndBack(t *testing.T) {
	primary := strings.Fields(reign(t))[0]
	began := time.Now()
	said := run0(t, "node", "remove", primary, "--switchover")
	t.Logf("took %s\n%s", time.Since(began).Round(time.Millisecond), said)
	began = time.Now()
	said = run0(t, "node", "add")
	t.Logf("took %s\n%s", time.Since(began).Round(time.Millisecond), said)
	out, err := admin.Lab.Host(primary).Shell(all, "grep join: /etc/standfast/standfast.yml; standfast status")
	if err != nil || !strings.Contains(out, "join: true") {
		t.Errorf("%s (%v)", out, err)
	}
}
