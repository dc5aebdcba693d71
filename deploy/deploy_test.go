package deploy_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"standfast/config"
	"standfast/deploy"
	"standfast/deploy/distro"
	"standfast/deploy/plan"
	"standfast/deploy/probe"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func run(t *testing.T, s *deploy.Site, o deploy.Options) (deploy.Changed, []deploy.Event, error) {
	t.Helper()
	var told []deploy.Event
	o.Tell = func(e deploy.Event) { told = append(told, e) }
	changed, err := deploy.Run(t.Context(), s, o)
	return changed, told, err
}

// done fails unless every host is as a deployment leaves it.
func done(t *testing.T, w *world) {
	t.Helper()
	for _, name := range w.order {
		h := w.hosts[name]
		if h.packages["postgresql-17"] == "" || h.packages["polkitd"] == "" || !h.unit.Active || !h.unit.Enabled || h.unit.Stale {
			t.Errorf("%s: %+v %v", name, h.unit, h.packages)
		}
		for _, srv := range h.servers {
			t.Errorf("%s: the package has made %s", name, srv.Name)
		}
		if !strings.Contains(h.texts["/etc/postgresql/17/standfast/postgresql.conf"], "data_directory = '/var/lib/standfast/data'\n") || !strings.Contains(h.texts[distro.MetaPath], "RefuseManualStop=yes") {
			t.Errorf("%s: its PostgreSQL is not registered: %q, %q", name, h.texts["/etc/postgresql/17/standfast/postgresql.conf"], h.texts[distro.MetaPath])
		}
		for path, mode := range map[string]fs.FileMode{"/etc/standfast/secret": 0o600, "/etc/standfast/token": 0o600, "/etc/standfast/tls/member.key": 0o600} {
			if f := h.files[path]; f.Mode != mode || f.Owner != "postgres" {
				t.Errorf("%s: %s is %+v", name, path, f)
			}
		}
		n, err := config.ParseNode(name, []byte(h.texts[config.DefaultPath]), nil, nil)
		if err != nil || n.Name != name {
			t.Errorf("%s: %v", name, err)
		}
		for path, f := range h.files {
			if strings.HasPrefix(path, "/etc/standfast/") && !h.unit.Since.After(f.Time) {
				t.Errorf("%s: its agent is older than %s", name, path)
			}
		}
	}
	if !strings.HasPrefix(w.roles["app"], "SCRAM-SHA-256$4096:") || w.databases["app"] != "app" {
		t.Errorf("roles %v, databases %v", w.roles, w.databases)
	}
	if w.schema || w.primary != 0 && w.crashes == 1 {
		t.Errorf("the proof is not ended: schema %t, %s is primary", w.schema, w.order[w.primary])
	}
	if len(w.words) > 0 {
		t.Errorf("tables are left: %v", w.words)
	}
}

func TestDeployThenAgain(t *testing.T) {
	w, s := bare(t, t.TempDir())
	changed, _, err := run(t, s, deploy.Options{})
	if err != nil || changed == 0 {
		t.Fatalf("%d steps, %v", changed, err)
	}
	done(t, w)
	changed, told, err := run(t, s, deploy.Options{})
	if err != nil || changed != 0 {
		t.Errorf("again: %d steps, %v", changed, err)
	}
	for _, e := range told {
		if e.State == deploy.Did {
			t.Errorf("again: %+v", e)
		}
	}
	for _, name := range w.order {
		if w.hosts[name].starts != 1 {
			t.Errorf("%s was started %d times", name, w.hosts[name].starts)
		}
	}
}

func TestDryRun(t *testing.T) {
	dir := t.TempDir()
	w, s := bare(t, dir)
	w.budget = 0 // nothing may be changed
	changed, told, err := run(t, s, deploy.Options{DryRun: true})
	if err != nil || changed == 0 {
		t.Errorf("%d steps, %v", changed, err)
	}
	for _, e := range told {
		if e.State != deploy.Would && e.State != deploy.Was {
			t.Errorf("%+v", e)
		}
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("it has written %v", left)
	}
}

// TestInterruptedAnywhere cuts a deployment short at every change that it makes, before the change and after it.
func TestInterruptedAnywhere(t *testing.T) { synctest.Test(t, interruptedAnywhere) }

func interruptedAnywhere(t *testing.T) {
	dir := t.TempDir() // for all of them: certificates take the longest
	for _, after := range []bool{false, true} {
		for budget := 0; ; budget++ {
			w, s := bare(t, dir)
			founded(t, s)
			w.budget, w.after = budget, after
			_, _, err := run(t, s, deploy.Options{})
			if err == nil {
				if budget < 30 {
					t.Errorf("it needs only %d changes", budget)
				}
				break
			}
			var at *deploy.StepError
			if !errors.Is(err, errCut) || !errors.As(err, &at) {
				t.Fatalf("cut after %d changes: %v", budget, err)
			}
			w.budget = 1 << 30
			if _, _, err := run(t, s, deploy.Options{}); err != nil {
				t.Fatalf("cut after %d changes (%v), then: %v", budget, at, err)
			}
			done(t, w)
			if changed, _, err := run(t, s, deploy.Options{}); err != nil || changed != 0 {
				t.Errorf("cut after %d changes, the third run changes %d: %v", budget, changed, err)
			}
			if t.Failed() {
				return
			}
		}
	}
}

// TestSecretsStay: what is in use is not made anew.
func TestSecretsStay(t *testing.T) {
	_, s := bare(t, t.TempDir())
	if _, _, err := run(t, s, deploy.Options{}); err != nil {
		t.Fatal(err)
	}
	read := func() (all string) {
		err := filepath.WalkDir(s.Deployment.Secrets, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			if !strings.HasSuffix(path, ".crt") && info.Mode().Perm() != 0o600 {
				t.Errorf("%s can be read by others: %v", path, info.Mode())
			}
			text, err := os.ReadFile(path)
			all += path + "\n" + string(text)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	before := read()
	if err := os.Remove(filepath.Join(s.Deployment.Secrets, "app.password")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := run(t, s, deploy.Options{}); err != nil {
		t.Fatal(err)
	}
	cut := func(text string) string { before, _, _ := strings.Cut(text, "app.password"); return before }
	if after := read(); after == before || cut(after) != cut(before) {
		t.Errorf("more than the lost password has changed, or less:\n%s\n%s", before, after)
	}
}

// TestEmptyServerIsSetAside, and one that holds data is nobody's business here: the look before has refused it.
func TestEmptyServerIsSetAside(t *testing.T) {
	w, s := bare(t, t.TempDir())
	h := w.hosts["pg2"]
	h.servers = []probe.Server{{Version: "17", Name: "main", Online: true, Empty: true, Start: "auto"}, {Version: "17", Name: "other", Online: true, Start: "auto"}}
	if _, _, err := run(t, s, deploy.Options{}); err != nil {
		t.Fatal(err)
	}
	if h.servers[0].Online || h.servers[0].Start != "disabled" || !h.servers[1].Online || h.servers[1].Start != "auto" {
		t.Errorf("%+v", h.servers)
	}
	if text, taken := h.texts[distro.MetaPath]; taken {
		t.Errorf("postgresql.service is taken from 17/other: %s", text)
	}
}

// TestNewProgram is put there, and the agents run it one after another.
func TestNewProgram(t *testing.T) {
	w, s := bare(t, t.TempDir())
	if _, _, err := run(t, s, deploy.Options{}); err != nil {
		t.Fatal(err)
	}
	s.Program.Text = []byte("another program")
	_, told, err := run(t, s, deploy.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var order []string
	for _, e := range told {
		if e.State == deploy.Did && strings.HasPrefix(e.Step, "run what is installed on ") {
			order = append(order, strings.TrimPrefix(e.Step, "run what is installed on "))
		}
	}
	if fmt.Sprint(order) != "[pg1 pg2 pg3]" {
		t.Errorf("agents were renewed in the order %v", order)
	}
	for _, name := range w.order {
		if w.hosts[name].starts != 2 {
			t.Errorf("%s was started %d times", name, w.hosts[name].starts)
		}
	}
}

// TestOneHostFails: the others come to the end of their own steps, and nothing is begun that needs all.
func TestOneHostFails(t *testing.T) {
	w, s := bare(t, t.TempDir())
	s.Machines["pg2"] = noRoom{w.hosts["pg2"]}
	_, _, err := run(t, s, deploy.Options{})
	if err == nil || err.Error() != "phase 1: pg2: install PostgreSQL 17: no space left on device" {
		t.Errorf("%v", err)
	}
	for _, name := range []string{"pg1", "pg3"} {
		if h := w.hosts[name]; h.texts["/usr/bin/standfast"] != "program" || h.unit.Active {
			t.Errorf("%s: %+v", name, h.unit)
		}
	}
}

type noRoom struct{ *machine }

func (noRoom) Install(context.Context, deploy.Packages) error {
	return errors.New("no space left on device")
}

// TestRenewedCertificatesStay: what a member has renewed by itself is neither put back nor a reason to start it again.
func TestRenewedCertificatesStay(t *testing.T) {
	w, s := bare(t, t.TempDir())
	if _, _, err := run(t, s, deploy.Options{}); err != nil {
		t.Fatal(err)
	}
	h := w.hosts[w.order[0]]
	for _, path := range []string{"/etc/standfast/tls/member.crt", "/etc/standfast/tls/member.key"} {
		f := h.files[path]
		f.Sum, f.Time = "renewed", h.unit.Since.Add(time.Hour)
		h.files[path] = f
	}
	changed, told, err := run(t, s, deploy.Options{})
	if err != nil || changed != 0 || h.starts != 1 {
		t.Errorf("%d steps, %d starts, %v: %+v", changed, h.starts, err, told)
	}
	if f := h.files["/etc/standfast/tls/ca.sealed"]; f.Mode != 0o600 || f.Owner != "postgres" {
		t.Errorf("the sealed authority is %+v", f)
	}
}

// TestCheckShowsWhatWouldChange, line by line, without a secret, and changes nothing.
func TestCheckShowsWhatWouldChange(t *testing.T) {
	dir := t.TempDir()
	w, s := bare(t, dir)
	_, told, err := run(t, s, deploy.Options{DryRun: true, Diff: true})
	if err != nil || !strings.Contains(diffs(told), "pg2 /etc/standfast/standfast.yml @@ -0,0 +1") {
		t.Errorf("on bare hosts (%v):\n%s", err, diffs(told))
	}
	if _, _, err := run(t, s, deploy.Options{}); err != nil {
		t.Fatal(err)
	}
	w.budget = 0 // nothing may be changed
	text := strings.Replace(three, "vip:", "bootstrap: {postgresql: {parameters: {work_mem: 7MB}}}, vip:", 1)
	if s.Deployment, err = config.ParseDeployment(filepath.Join(dir, "cluster.yml"), []byte(text)); err != nil {
		t.Fatal(err)
	}
	s.Program.Text = []byte("another program")
	token := filepath.Join(s.Deployment.Secrets, "token")
	if err := os.WriteFile(token, []byte("hush-hush\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	changed, told, err := run(t, s, deploy.Options{DryRun: true, Diff: true})
	got := diffs(told)
	for _, want := range []string{"\n+bootstrap:", "work_mem: 7MB", "pg1 /usr/bin/standfast a program, which changes: SHA-256 ", "pg3 /etc/standfast/token a secret, which changes"} {
		if !strings.Contains(got, want) {
			t.Errorf("it does not show %q", want)
		}
	}
	if err != nil || changed == 0 || strings.Contains(got, "hush") {
		t.Errorf("%d steps (%v):\n%s", changed, err, got)
	}
}

// diffs is all that was told of files.
func diffs(told []deploy.Event) string {
	var b strings.Builder
	for _, e := range told {
		for _, d := range e.Diff {
			fmt.Fprintln(&b, e.Host, d.Path, d.Text)
		}
	}
	return b.String()
}

// TestTwoAtOnce: the second is told who is there, has taken nothing, and gets its turn.
func TestTwoAtOnce(t *testing.T) {
	w, s := bare(t, t.TempDir())
	hosts := map[string]plan.Host{}
	for name, m := range s.Machines {
		hosts[name] = m
	}
	w.hosts["pg2"].taken = "ann"
	var busy *deploy.BusyError
	if _, err := deploy.Take(t.Context(), hosts, "ben"); !errors.As(err, &busy) || busy.Host != "pg2" || busy.Who != "ann" {
		t.Errorf("while ann deploys: %v", err)
	}
	if w.hosts["pg1"].taken != "" || w.hosts["pg2"].taken != "ann" {
		t.Errorf("ben was refused and has pg1 (%q), or ann has lost pg2 (%q)", w.hosts["pg1"].taken, w.hosts["pg2"].taken)
	}
	w.hosts["pg2"].taken = ""
	release, err := deploy.Take(t.Context(), hosts, "ben")
	if err != nil || w.hosts["pg3"].taken != "ben" {
		t.Fatalf("%v, pg3 is %q's", err, w.hosts["pg3"].taken)
	}
	if err := release(); err != nil || w.hosts["pg1"].taken+w.hosts["pg2"].taken+w.hosts["pg3"].taken != "" {
		t.Errorf("hosts are not let go: %v", err)
	}
}

// TestUnreachableMidway: whatever host goes away and whenever, the others go on to the end of their own steps, nothing is begun that needs all,
// the host is named, and the run after it has come back ends the deployment.
func TestUnreachableMidway(t *testing.T) {
	for budget := range 6 {
		w, s := bare(t, t.TempDir())
		gone := &cutOff{machine: w.hosts["pg2"], left: budget}
		s.Machines["pg2"] = gone
		_, _, err := run(t, s, deploy.Options{Only: 1})
		if err == nil || !strings.Contains(err.Error(), "pg2: ") || !errors.Is(err, errCut) {
			t.Fatalf("after %d changes: %v", budget, err)
		}
		for _, name := range []string{"pg1", "pg3"} {
			if h := w.hosts[name]; h.texts["/usr/bin/standfast"] != "program" || h.unit.Active {
				t.Errorf("after %d changes: %s: %+v", budget, name, h.unit)
			}
		}
		gone.left = 1 << 30
		if _, _, err := run(t, s, deploy.Options{}); err != nil {
			t.Fatalf("after %d changes, then: %v", budget, err)
		}
		done(t, w)
	}
}

// cutOff is a host whose cable is pulled after some changes.
type cutOff struct {
	*machine
	left int
}

func (c *cutOff) gone() error {
	if c.left--; c.left < 0 {
		return errCut
	}
	return nil
}

func (c *cutOff) Write(ctx context.Context, f deploy.File) error {
	if err := c.gone(); err != nil {
		return err
	}
	return c.machine.Write(ctx, f)
}

func (c *cutOff) Install(ctx context.Context, p deploy.Packages) error {
	if err := c.gone(); err != nil {
		return err
	}
	return c.machine.Install(ctx, p)
}

func (c *cutOff) Reload(ctx context.Context) error {
	if err := c.gone(); err != nil {
		return err
	}
	return c.machine.Reload(ctx)
}

// TestNotWholeSaysWhy: the member that is missing, and what it said last.
func TestNotWholeSaysWhy(t *testing.T) {
	w, s := bare(t, t.TempDir())
	s.Machines["pg2"] = mute{w.hosts["pg2"]}
	s.Patience = 300 * time.Millisecond
	_, _, err := run(t, s, deploy.Options{})
	const want = "the cluster does not become whole: pg2 does not answer; look at journalctl -u standfast on the hosts\n  pg2: level=ERROR msg=\"pg2 has no room\""
	if err == nil || !strings.HasSuffix(err.Error(), want) {
		t.Errorf("got %v", err)
	}
}

// mute is a host whose member does not answer.
type mute struct{ *machine }

func (m mute) Ask(ctx context.Context, r probe.Request) (probe.Answer, error) {
	if len(r.Get) > 0 {
		return probe.Answer{Get: []probe.Response{{Error: "connection refused"}}}, nil
	}
	return m.machine.Ask(ctx, r)
}
