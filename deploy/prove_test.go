package deploy_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"standfast/deploy"
)

// unproven is the file that lets phase 5 run by itself.
func unproven(s *deploy.Site) string { return filepath.Join(s.Deployment.Secrets, "unproven") }

// founded makes a site whose secrets are there already look as if they had just been made.
func founded(t *testing.T, s *deploy.Site) {
	t.Helper()
	if err := os.WriteFile(unproven(s), nil, 0o600); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
}

func proof(told []deploy.Event) (last deploy.Event) {
	for _, e := range told {
		if e.Phase == 5 {
			last = e
		}
	}
	return last
}

// TestProofOnce: a cluster that was just founded fails over and back, and never again by itself.
func TestProofOnce(t *testing.T) {
	w, s := bare(t, t.TempDir())
	_, told, err := run(t, s, deploy.Options{})
	const want = "pg1 to pg2: writes out for 250 ms, 0 of 300 acknowledged commits lost; and back, pg2 to pg1: writes out for 250 ms, 0 of 300 acknowledged commits lost"
	if e := proof(told); err != nil || e.State != deploy.Holds || e.Text != want {
		t.Errorf("%+v, %v", e, err)
	}
	if w.crashes != 1 || w.primary != 0 || w.schema {
		t.Errorf("crashes %d, primary %d, schema %t", w.crashes, w.primary, w.schema)
	}
	for _, only := range []int{0, 5} {
		_, told, err = run(t, s, deploy.Options{Only: only})
		if e := proof(told); err != nil || e.State != deploy.Passed || w.crashes != 1 {
			t.Errorf("again: %+v, %v", e, err)
		}
	}
}

// TestProofOfUse: what an application has made keeps phase 5 from running, though it has not run yet.
func TestProofOfUse(t *testing.T) {
	w, s := bare(t, t.TempDir())
	w.data = "public.posts\n"
	for range 2 {
		_, told, err := run(t, s, deploy.Options{})
		if e := proof(told); err != nil || e.State != deploy.Passed || !strings.Contains(e.Text, "holds public.posts in the database app") || w.crashes != 0 {
			t.Errorf("%+v, %v", e, err)
		}
	}
}

func TestLossIsAFailure(t *testing.T) {
	w, s := bare(t, t.TempDir())
	w.lose = 2
	_, _, err := run(t, s, deploy.Options{})
	if err == nil || !strings.Contains(err.Error(), "phase 5: a failover and a return under load: failover: acknowledged commits are lost: pg1 to pg2") || w.schema {
		t.Errorf("%v; schema %t", err, w.schema)
	}
	w.lose = 0
	if _, told, err := run(t, s, deploy.Options{}); err != nil || proof(told).State != deploy.Holds {
		t.Errorf("again: %v", err)
	}
}

// TestValidate tries every checkpoint, tells all that fail, and strikes only when asked to and when all hold.
func TestValidate(t *testing.T) {
	w, s := bare(t, t.TempDir())
	if _, _, err := run(t, s, deploy.Options{}); err != nil {
		t.Fatal(err)
	}
	w.data = "public.posts\n"
	validate := func(failover bool) (held, failed int, err error) {
		err = deploy.Validate(t.Context(), s, failover, func(e deploy.Event) {
			switch e.State {
			case deploy.Holds:
				held++
			case deploy.Failure:
				failed++
			}
		})
		return held, failed, err
	}
	w.budget = 0 // nothing may be changed
	if held, failed, err := validate(false); err != nil || held != 7 || failed != 0 {
		t.Errorf("%d hold, %d fail, %v", held, failed, err)
	}
	w.budget = 1 << 30
	if held, _, err := validate(true); err != nil || held != 8 || w.crashes != 2 {
		t.Errorf("%d hold, %d crashes, %v", held, w.crashes, err)
	}
	w.databases["app"] = "another"
	if held, failed, err := validate(true); err == nil || held != 6 || failed != 1 || w.crashes != 2 {
		t.Errorf("%d hold, %d fail, %d crashes, %v", held, failed, w.crashes, err)
	}
}
