package deploy_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"standfast/cluster"
	"standfast/config"
	"standfast/deploy"
	"standfast/deploy/bundle"
	"standfast/deploy/distro"
)

// installs fails unless each host was asked once for these packages, in that way.
func installs(t *testing.T, w *world, want deploy.Packages) {
	t.Helper()
	for _, name := range w.order {
		got := w.hosts[name].installed
		if len(got) != 1 || !slices.Equal(got[0].Names, want.Names) || got[0].Fresh != want.Fresh || got[0].Bundle != want.Bundle {
			t.Errorf("%s: installed %+v, want %+v", name, got, want)
		}
	}
}

// TestMorePackages are installed with the server, and later by themselves.
func TestMorePackages(t *testing.T) {
	w, s := bare(t, t.TempDir())
	s.Deployment.Packages = []string{"postgresql-17-pgvector"}
	if _, _, err := run(t, s, deploy.Options{}); err != nil {
		t.Fatal(err)
	}
	installs(t, w, deploy.Packages{Names: []string{"postgresql-17", "polkitd", "postgresql-17-pgvector"}})
	s.Deployment.Packages = append(s.Deployment.Packages, "pgbackrest")
	if _, _, err := run(t, s, deploy.Options{}); err != nil {
		t.Fatal(err)
	}
	for _, name := range w.order {
		if h := w.hosts[name]; h.packages["pgbackrest"] == "" || h.starts != 1 {
			t.Errorf("%s: %v, started %d times", name, h.packages, h.starts)
		}
	}
}

// TestPGDG: the repository is described before anything is installed from it, and its key is there.
func TestPGDG(t *testing.T) {
	dir := t.TempDir()
	w, s := bare(t, dir)
	key := filepath.Join(dir, "mirror.asc")
	if err := os.WriteFile(key, []byte("the mirror's key"), 0o644); err != nil {
		t.Fatal(err)
	}
	s.Deployment.Repository = config.Repository{Source: config.FromPGDG, URI: "http://mirror/pgdg", Key: key}
	s.Postgres = "18"
	_, told, err := run(t, s, deploy.Options{})
	if err != nil {
		t.Fatal(err)
	}
	installs(t, w, deploy.Packages{Names: []string{"postgresql-18", "polkitd"}, Fresh: true})
	order := map[string]int{}
	for i, e := range told {
		if e.Host == "pg1" && e.State == deploy.Did {
			order[e.Step] = i
		}
	}
	if order["use the PostgreSQL project's packages"] == 0 || order["use the PostgreSQL project's packages"] > order["install PostgreSQL 18"] {
		t.Errorf("in the order %v", order)
	}
	for _, name := range w.order {
		h := w.hosts[name]
		if h.texts["/usr/share/keyrings/standfast-pgdg.asc"] != "the mirror's key" || !strings.Contains(h.texts["/etc/apt/sources.list.d/standfast-pgdg.sources"], "URIs: http://mirror/pgdg\nSuites: trixie-pgdg\n") {
			t.Errorf("%s: %v", name, h.texts)
		}
	}
	s.Deployment.Repository.Key = key + ".gone"
	if _, _, err := run(t, s, deploy.Options{}); err == nil || !strings.Contains(err.Error(), "read repository.key") {
		t.Errorf("without the key's file: %v", err)
	}
}

// TestFromBundle: nothing is to be fetched, so no repository is described, whatever cluster.yml says.
func TestFromBundle(t *testing.T) {
	w, s := bare(t, t.TempDir())
	s.Deployment.Repository.Source = config.FromPGDG
	s.Bundle = &bundle.Bundle{Path: "bundle.tar"}
	if _, _, err := run(t, s, deploy.Options{}); err != nil {
		t.Fatal(err)
	}
	installs(t, w, deploy.Packages{Names: []string{"postgresql-17", "polkitd"}, Fresh: true, Bundle: s.Bundle})
	for path := range w.hosts["pg1"].texts {
		if strings.HasPrefix(path, "/etc/apt/") {
			t.Errorf("%s was written", path)
		}
	}
}

// TestRedHat has other names for all, and none of Debian's tools.
func TestRedHat(t *testing.T) {
	w, s := bare(t, t.TempDir())
	s.Deployment.Repository.Source = config.FromPGDG
	for name := range s.Systems {
		s.Systems[name], _ = distro.Named("rocky-9")
	}
	if _, _, err := run(t, s, deploy.Options{Only: 1}); err != nil {
		t.Fatal(err)
	}
	installs(t, w, deploy.Packages{Names: []string{"postgresql17-server", "postgresql17-contrib", "polkit"}, Fresh: true})
	for path := range w.hosts["pg1"].texts {
		if strings.HasPrefix(path, "/etc/postgresql") || strings.HasPrefix(path, "/etc/apt") || strings.HasPrefix(path, "/etc/systemd") {
			t.Errorf("%s was written", path)
		}
	}
	if w.hosts["pg1"].texts["/etc/yum.repos.d/standfast-pgdg.repo"] == "" {
		t.Error("PGDG's repository is not described")
	}
}

// TestWitnessGetsNoPackages: it has no PostgreSQL to extend.
func TestWitnessGetsNoPackages(t *testing.T) {
	w, s := bare(t, t.TempDir())
	s.Deployment.Members[2].Kind = cluster.Witness
	s.Deployment.Packages = []string{"postgresql-17-pgvector"}
	if _, _, err := run(t, s, deploy.Options{Only: 1}); err != nil {
		t.Fatal(err)
	}
	if h := w.hosts["pg3"]; len(h.packages) > 0 || h.texts["/usr/bin/standfast"] == "" {
		t.Errorf("%+v", h.packages)
	}
}
