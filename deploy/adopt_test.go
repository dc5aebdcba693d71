package deploy_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"standfast/deploy"
	"standfast/deploy/survey"
)

// oneServer is what is taken over: pg1's.
func oneServer(t *testing.T, w *world, s *deploy.Site) survey.Plan {
	t.Helper()
	p := survey.Plan{Primary: "pg1", New: []string{"pg2", "pg3"}, Units: map[string]string{"pg1": "postgresql@17-main.service"}, Data: "/var/lib/postgresql/17/main", System: "7"}
	if err := deploy.KeepPlan(s.Deployment, p); err != nil {
		t.Fatal(err)
	}
	return p
}

// adopt runs it and returns what it did, in order.
func adopt(t *testing.T, s *deploy.Site, p survey.Plan, o deploy.Options) (deploy.Changed, []string, error) {
	t.Helper()
	var did []string
	o.Tell = func(e deploy.Event) {
		if e.State == deploy.Did || e.State == deploy.Would {
			did = append(did, strings.TrimPrefix(e.Host+": "+e.Step, ": "))
		}
	}
	n, err := deploy.Adopt(t.Context(), s, p, o)
	return n, did, err
}

// TestAdoptInterruptedAnywhere cuts a takeover short after each change that it makes. The new hosts run before the primary is touched, its
// service is masked before it is taken over, and it is taken over once.
func TestAdoptInterruptedAnywhere(t *testing.T) { synctest.Test(t, adoptInterruptedAnywhere) }

func adoptInterruptedAnywhere(t *testing.T) {
	dir := t.TempDir()
	for budget := 0; ; budget++ {
		w, s := bare(t, dir)
		p := oneServer(t, w, s)
		w.budget, w.after = budget, true
		_, _, err := adopt(t, s, p, deploy.Options{})
		if err == nil {
			if budget < 20 {
				t.Errorf("it needs only %d changes", budget)
			}
			break
		}
		if !errors.Is(err, errCut) {
			t.Fatalf("cut after %d changes: %v", budget, err)
		}
		w.budget = 1 << 30
		if _, _, err := adopt(t, s, p, deploy.Options{}); err != nil {
			t.Fatalf("cut after %d changes, then: %v", budget, err)
		}
		if n, did, err := adopt(t, s, p, deploy.Options{}); n > 0 || err != nil {
			t.Errorf("cut after %d changes, the third run does %v: %v", budget, did, err)
		}
		pg1 := w.hosts["pg1"]
		if len(pg1.commands) == 0 || !strings.HasPrefix(pg1.commands[0], "server take-over") || pg1.files["/etc/systemd/system/postgresql@17-main.service.d/standfast.conf"].Sum == "" {
			t.Errorf("cut after %d changes: %v", budget, pg1.commands)
		}
	}
}

func TestAdoptInOrder(t *testing.T) {
	w, s := bare(t, t.TempDir())
	p := oneServer(t, w, s)
	w.budget = 0
	if n, did, err := adopt(t, s, p, deploy.Options{DryRun: true}); err != nil || n == 0 {
		t.Fatalf("a dry run: %v %v", did, err)
	}
	w.budget = 1 << 30
	_, did, err := adopt(t, s, p, deploy.Options{})
	if err != nil {
		t.Fatal(err)
	}
	// Phase 3 begins with the new hosts' agents.
	from := slices.Index(did, "start standfast")
	want := []string{"start standfast", "start standfast", "mask postgresql@17-main.service on pg1", "have the distribution's tools leave it alone on pg1", "found the cluster on the primary of pg1"}
	if from < 0 || len(did) < from+len(want) || !slices.Equal(did[from:from+len(want)], want) {
		t.Errorf("did\n%s", strings.Join(did, "\n"))
	}
	p.Committed = true
	var refusal *deploy.Refusal
	if _, err := deploy.Back(t.Context(), s, p, deploy.Options{}); !errors.As(err, &refusal) {
		t.Errorf("a committed takeover is given back: %v", err)
	}
}
