package deploy_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"standfast/config"
	"standfast/deploy"
)

const four = `{cluster: main, members: [{name: pg1, address: 10.0.0.11}, {name: pg2, address: 10.0.0.12}, {name: pg3, address: 10.0.0.13}, {name: pg4, address: 10.0.0.14}],
  vip: [{address: 10.0.0.50}], applications: [{role: app, from: [10.0.5.0/24]}]}`

// deployedThree is a running cluster.
func deployedThree(t *testing.T, dir string) (*world, *deploy.Site) {
	t.Helper()
	w, s := bare(t, dir)
	described(t, w, s, strings.Replace(four, ", {name: pg4, address: 10.0.0.14}", "", 1))
	w.members = nil
	if _, _, err := run(t, s, deploy.Options{}); err != nil {
		t.Fatal(err)
	}
	return w, s
}

// described gives the site another cluster.yml, and a bare host to each member that has none.
func described(t *testing.T, w *world, s *deploy.Site, text string) {
	t.Helper()
	var err error
	if s.Deployment, err = config.ParseDeployment(filepath.Join(filepath.Dir(s.Deployment.Secrets), "cluster.yml"), []byte(text)); err != nil {
		t.Fatal(err)
	}
	w.members = append([]string{}, w.order...)
	for _, h := range s.Deployment.Members {
		if w.hosts[h.Name] == nil {
			w.order = append(w.order, h.Name)
			empty(w, s, h.Name)
		}
	}
}

func empty(w *world, s *deploy.Site, name string) {
	m := &machine{world: w, name: name, files: map[string]deploy.FileState{}, texts: map[string]string{}, packages: map[string]string{}, users: map[string]bool{}}
	w.hosts[name], s.Machines[name], s.Systems[name] = m, m, s.Systems["pg1"]
}

func options(told *[]deploy.Event) deploy.Options {
	return deploy.Options{Tell: func(e deploy.Event) { *told = append(*told, e) }}
}

// grown fails unless pg4 is a member like the others, of which no agent was started again.
func grown(t *testing.T, w *world) {
	t.Helper()
	if strings.Join(w.agreed(), " ") != "pg1 pg2 pg3 pg4" || !w.hosts["pg4"].unit.Active {
		t.Fatalf("members %v, %+v", w.agreed(), w.hosts["pg4"].unit)
	}
	for _, name := range w.order {
		h := w.hosts[name]
		text := h.texts[config.DefaultPath]
		if !strings.Contains(text, "10.0.0.14") || strings.Contains(text, "join: true") != (name == "pg4") {
			t.Errorf("%s has the file\n%s", name, text)
		}
		if h.starts != 1 {
			t.Errorf("%s was started %d times", name, h.starts)
		}
	}
	if len(w.lines) != 1 || !strings.Contains(w.lines[0], "10.0.0.14/32") {
		t.Errorf("lines for its router: %q", w.lines)
	}
}

func TestAdd(t *testing.T) {
	w, s := deployedThree(t, t.TempDir())
	described(t, w, s, four)
	var refusal *deploy.Refusal
	if _, _, err := run(t, s, deploy.Options{}); !errors.As(err, &refusal) || !strings.Contains(err.Error(), "pg4 stands in cluster.yml and is not in the running cluster: standfast node add") {
		t.Errorf("a deployment takes it in: %v", err)
	}
	var told []deploy.Event
	o := options(&told)
	o.DryRun, w.budget = true, 0
	if changed, err := deploy.Add(t.Context(), s, o); err != nil || changed == 0 || strings.Join(w.agreed(), " ") != "pg1 pg2 pg3" {
		t.Errorf("dry run: %d, %v, members %v", changed, err, w.agreed())
	}
	o.DryRun, w.budget = false, 1<<30
	if changed, err := deploy.Add(t.Context(), s, o); err != nil || changed == 0 {
		t.Fatalf("%d, %v", changed, err)
	}
	grown(t, w)
	if changed, err := deploy.Add(t.Context(), s, o); err != nil || changed != 0 {
		t.Errorf("again: %d, %v", changed, err)
	}
	if changed, _, err := run(t, s, deploy.Options{}); err != nil || changed != 0 {
		t.Errorf("a deployment changes %d: %v", changed, err)
	}
	described(t, w, s, three)
	if _, _, err := run(t, s, deploy.Options{}); !errors.As(err, &refusal) || !strings.Contains(err.Error(), "pg4 is in the running cluster and not in cluster.yml") {
		t.Errorf("a deployment without it: %v", err)
	}
}

// TestAddInterruptedAnywhere cuts an addition short at every change, before it and after it; begun again it goes on.
func TestAddInterruptedAnywhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		for _, after := range []bool{false, true} {
			for budget := 0; ; budget++ {
				w, s := deployedThree(t, dir)
				described(t, w, s, four)
				if err := os.RemoveAll(filepath.Join(s.Deployment.Secrets, "members", "pg4")); err != nil {
					t.Fatal(err)
				}
				var told []deploy.Event
				w.budget, w.after = budget, after
				_, err := deploy.Add(t.Context(), s, options(&told))
				if err == nil {
					if budget < 10 {
						t.Errorf("it needs only %d changes", budget)
					}
					break
				}
				if w.budget = 1 << 30; !errors.Is(err, errCut) {
					t.Fatalf("cut after %d changes: %v", budget, err)
				}
				if _, err := deploy.Add(t.Context(), s, options(&told)); err != nil {
					t.Fatalf("cut after %d changes (%v), then: %v", budget, err, err)
				}
				if strings.Join(w.agreed(), " ") != "pg1 pg2 pg3 pg4" {
					t.Fatalf("cut after %d changes: members %v", budget, w.agreed())
				}
				if changed, err := deploy.Add(t.Context(), s, options(&told)); err != nil || changed != 0 {
					t.Fatalf("cut after %d changes, the third run changes %d: %v", budget, changed, err)
				}
			}
		}
	})
}

func TestRemove(t *testing.T) {
	w, s := deployedThree(t, t.TempDir())
	described(t, w, s, four)
	var told []deploy.Event
	o := options(&told)
	if _, err := deploy.Add(t.Context(), s, o); err != nil {
		t.Fatal(err)
	}
	primary := w.order[w.primary]
	var refused *deploy.ChangeError
	if _, err := deploy.Remove(t.Context(), s, deploy.Removal{Name: primary}, o); !errors.As(err, &refused) || refused.Error() != primary+" is the primary" {
		t.Errorf("the primary: %v", err)
	}
	var refusal *deploy.Refusal
	if _, err := deploy.Remove(t.Context(), s, deploy.Removal{Name: "pg9"}, o); !errors.As(err, &refusal) {
		t.Errorf("nobody: %v", err)
	}
	dry := o
	dry.DryRun = true
	if changed, err := deploy.Remove(t.Context(), s, deploy.Removal{Name: "pg4"}, dry); err != nil || changed == 0 || len(w.agreed()) != 4 {
		t.Errorf("dry run: %d, %v, members %v", changed, err, w.agreed())
	}
	if _, err := deploy.Remove(t.Context(), s, deploy.Removal{Name: "pg4"}, o); err != nil {
		t.Fatal(err)
	}
	if h := w.hosts["pg4"]; h.unit.Active || h.unit.Enabled || len(w.agreed()) != 3 || len(w.lines) != 0 {
		t.Errorf("%+v, members %v, lines %q", h.unit, w.agreed(), w.lines)
	}
	for _, name := range w.agreed() {
		if h := w.hosts[name]; strings.Contains(h.texts[config.DefaultPath], "10.0.0.14") || h.starts != 1 {
			t.Errorf("%s was started %d times and has the file\n%s", name, h.starts, h.texts[config.DefaultPath])
		}
	}
	if changed, err := deploy.Remove(t.Context(), s, deploy.Removal{Name: "pg4"}, o); err != nil || changed != 0 {
		t.Errorf("again: %d, %v", changed, err)
	}
	if _, err := deploy.Add(t.Context(), s, o); err != nil || !w.hosts["pg4"].unit.Active || len(w.agreed()) != 4 {
		t.Errorf("added again: %v, %+v", err, w.hosts["pg4"].unit)
	}
	if _, err := deploy.Remove(t.Context(), s, deploy.Removal{Name: primary, Switchover: true}, o); err != nil || w.order[w.primary] == primary || len(w.agreed()) != 3 {
		t.Errorf("the primary, after a switchover: %v, members %v", err, w.agreed())
	}
}

// TestRemoveOneThatCantBeReached: the others do without it, and it is told what stays to be done.
func TestRemoveOneThatCantBeReached(t *testing.T) {
	w, s := deployedThree(t, t.TempDir())
	gone := w.order[(w.primary+1)%3]
	delete(s.Machines, gone)
	w.members = append([]string{}, w.order...)
	w.hosts[gone].unit.Active = false
	var told []deploy.Event
	if _, err := deploy.Remove(t.Context(), s, deploy.Removal{Name: gone}, options(&told)); err != nil || len(w.agreed()) != 2 {
		t.Errorf("%v, members %v", err, w.agreed())
	}
	if text := deploy.Left(gone, false); !strings.Contains(text, "stays out of the cluster by itself") {
		t.Error(text)
	}
}

func TestReplace(t *testing.T) { synctest.Test(t, replace) }

func replace(t *testing.T) {
	w, s := deployedThree(t, t.TempDir())
	w.members = append([]string{}, w.order...)
	name := w.order[(w.primary+1)%3]
	var told []deploy.Event
	o := options(&told)
	var refusal *deploy.Refusal
	if _, err := deploy.Replace(t.Context(), s, name, false, o); !errors.As(err, &refusal) || !strings.Contains(err.Error(), "is heard from, so it has not died") {
		t.Errorf("one that lives: %v", err)
	}
	empty(w, s, name) // its power is gone; this is another
	if _, err := deploy.Replace(t.Context(), s, name, true, o); !errors.As(err, &refusal) || !strings.Contains(err.Error(), "so it is not a new one") {
		t.Errorf("one that has files: %v", err)
	}
	key := filepath.Join(s.Deployment.Secrets, "members", name, "member.key")
	before, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	w.budget = 6 // cut short in the middle
	if _, err := deploy.Replace(t.Context(), s, name, false, o); !errors.Is(err, errCut) {
		t.Errorf("cut short: %v", err)
	}
	w.budget = 1 << 30
	if _, err := deploy.Replace(t.Context(), s, name, true, o); err != nil {
		t.Fatal(err)
	}
	h := w.hosts[name]
	after, err := os.ReadFile(key)
	if err != nil || string(after) == string(before) || !h.unit.Active || len(w.agreed()) != 3 || !strings.Contains(h.texts[config.DefaultPath], "join: true") {
		t.Errorf("%v: its key is the old one: %t; %+v, members %v", err, string(after) == string(before), h.unit, w.agreed())
	}
	if changed, _, err := run(t, s, deploy.Options{}); err != nil || changed != 0 {
		t.Errorf("a deployment changes %d: %v", changed, err)
	}
}
