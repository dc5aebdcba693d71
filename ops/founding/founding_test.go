package founding_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"standfast/certs"
	"standfast/config"
	"standfast/ops/founding"
)

func spec(dir string) founding.Spec {
	return founding.Spec{
		Cluster:  "main",
		Members:  []config.Member{{Name: "pg1", Address: "127.0.0.11"}, {Name: "pg2", Address: "127.0.0.12"}, {Name: "w1", Address: "127.0.0.13", Kind: "witness"}},
		Settings: []string{"bootstrap.detection=fast", "ports.health=8009", "bootstrap.copies=1"},
		Home:     func(m string) string { return filepath.Join(dir, m) },
		StateDir: func(m string) string { return filepath.Join(dir, m, "state") },
	}
}

func TestWrite(t *testing.T) {
	dir := t.TempDir()
	s := spec(dir)
	if err := s.Write(filepath.Join(dir, "ca"), s.Home, time.Now()); err != nil {
		t.Fatal(err)
	}
	secrets := map[string]bool{}
	for _, m := range s.Members {
		n, err := config.LoadNode(filepath.Join(dir, m.Name, founding.FileName), nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		if n.Name != m.Name || n.Bootstrap.Detection != "fast" || n.Self().Ports.Health != 8009 || !n.Bootstrap.AllowSingleCopy || len(n.Founders()) != 3 {
			t.Errorf("%s: %+v", m.Name, n)
		}
		if _, err := certs.ServerTLS(certs.In(n.TLSDir)); err != nil {
			t.Error(err)
		}
		for _, f := range []string{n.SecretFile, n.TokenFile, certs.In(n.TLSDir).Key} {
			info, err := os.Stat(f)
			if err != nil {
				t.Fatal(err)
			}
			if info.Mode().Perm() != 0o600 {
				t.Errorf("%s can be read by others: %v", f, info.Mode())
			}
		}
		b, _ := os.ReadFile(n.SecretFile)
		secrets[string(b)] = true
		if len(strings.TrimSpace(string(b))) < 26 {
			t.Errorf("a secret of %d characters", len(b))
		}
	}
	if len(secrets) != 1 {
		t.Error("members with different secrets don't hear each other")
	}
}

func TestNothingIsWrittenForABadSpec(t *testing.T) {
	dir := t.TempDir()
	s := spec(dir)
	s.Members[1].Name = "PG2"
	err := s.Write(filepath.Join(dir, "ca"), s.Home, time.Now())
	if err == nil || !strings.Contains(err.Error(), `"PG2" can't name a member`) {
		t.Errorf("%v", err)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
