//go:build e2e

package system

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"standfast/api"
	"standfast/test/system/rig"
)

// ownCommand runs a command on a node, and returns what it prints and its exit code.
func (s *scene) ownCommand(n *rig.Node, words ...string) (out, said string, code int) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(all, 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, rig.Binary(), append(words, "--config", n.File())...)
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var ended *exec.ExitError
	if err != nil && !errors.As(err, &ended) {
		s.t.Fatal(err)
	}
	return stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()
}

// packs wants an archive with every member's log in it, and neither the cluster's own secrets nor the password of a statement that PostgreSQL
// has logged because it failed.
func (s *scene) packs(from *rig.Node) {
	s.t.Helper()
	const planted = "planted-in-a-statement"
	conn, err := pgx.Connect(all, s.super(s.primary))
	must(s.t, err)
	defer conn.Close(context.WithoutCancel(all))
	_, err = conn.Exec(all, "alter role nobody_of_this_name password '"+planted+"'")
	var refused *pgconn.PgError
	if !errors.As(err, &refused) {
		s.t.Fatalf("a role that is not there: %v", err)
	}
	secrets := []string{planted}
	for _, name := range []string{"token", "secret"} {
		text, err := os.ReadFile(filepath.Join(from.Dir, name))
		must(s.t, err)
		secrets = append(secrets, strings.TrimSpace(string(text)))
	}
	path := filepath.Join(s.t.TempDir(), "all.tar.gz")
	if out, said, code := s.ownCommand(from, "support-bundle", "-f", path); code != 0 || !strings.HasPrefix(out, path+": ") {
		s.t.Fatalf("it exits with %d: %s%s", code, out, said)
	}
	files := unpack(s, path)
	for name, text := range files {
		for _, secret := range secrets {
			if strings.Contains(text, secret) {
				s.t.Errorf("%s has a secret in it", name)
			}
		}
	}
	for _, n := range s.r.Nodes {
		for _, name := range []string{"status.json", "facts.json", "config/standfast.yml", "config/postgresql/standfast.conf", "logs/agent.log", "logs/postgresql.log"} {
			if name = "all/members/" + n.Name + "/" + name; files[name] == "" {
				s.t.Errorf("%s is not there: %s", name, files["all/INDEX.txt"])
			}
		}
	}
	if log := files["all/members/"+s.primary.Name+"/logs/postgresql.log"]; !strings.Contains(log, `role "nobody_of_this_name" does not exist`) {
		s.t.Errorf("the primary's log lacks the error:\n%s", log)
	}
}

func unpack(s *scene, path string) map[string]string {
	s.t.Helper()
	f, err := os.Open(path)
	must(s.t, err)
	defer f.Close()
	z, err := gzip.NewReader(f)
	must(s.t, err)
	files, t := map[string]string{}, tar.NewReader(z)
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		must(s.t, err)
		text, err := io.ReadAll(t)
		must(s.t, err)
		files[h.Name] = string(text)
	}
}

// drops wants the stranger's slot named, members' slots refused, and the stranger's gone after it was dropped.
func (s *scene) drops(stranger string) {
	s.t.Helper()
	list := func() (all []api.Slot) {
		out, said, code := s.ownCommand(s.primary, "slots", "-o", "json")
		if code != 0 {
			s.t.Fatalf("slots exits with %d: %s", code, said)
		}
		must(s.t, json.Unmarshal([]byte(out), &all))
		return all
	}
	was := list()
	i := slices.IndexFunc(was, func(l api.Slot) bool { return l.Name == stranger })
	if i < 0 || was[i].Member != s.primary.Name || was[i].For != api.ForStrangers {
		s.t.Fatalf("the slots are %+v", was)
	}
	members := 0
	for _, l := range was {
		if l.For == api.ForMember {
			members++
		}
	}
	if want := len(s.r.Nodes) * (len(s.r.Nodes) - 1); members != want {
		s.t.Errorf("%d slots are members', not %d: %+v", members, want, was)
	}
	for _, n := range s.r.Others(s.primary) {
		if _, said, code := s.ownCommand(n, "slots", "drop", n.Name); code != 3 || !strings.Contains(said, "it is the member "+n.Name+"'s") {
			s.t.Errorf("a member's slot: %d %s", code, said)
		}
	}
	if _, said, code := s.ownCommand(s.r.Others(s.primary)[0], "slots", "drop", stranger); code != 0 {
		s.t.Errorf("a stranger's slot: %d %s", code, said)
	}
	now := list()
	if len(now) != len(was)-1 || slices.ContainsFunc(now, func(l api.Slot) bool { return l.Name == stranger }) {
		s.t.Errorf("afterwards the slots are %+v", now)
	}
}
