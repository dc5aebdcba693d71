//go:build e2e

package system

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"standfast/api"
	"standfast/test/system/rig"
)

// TestRecover: of three members two are lost for good, and the cluster is founded anew from the third. Then those two come back,
// both, which by the old rules were a majority: they serve nobody, elect nobody and start nothing, with the survivor there and
// without. One of them is taken in again; what it held is kept.
func TestRecover(t *testing.T) {
	t.Parallel()
	r, primary, term := own(t)
	s := beginOn(t, r, primary, term)
	left := s.standby()
	gone := r.Others(left)
	s.stop()
	s.holdsAll(left)

	command(t, 3, "answer, a majority", left, "recover", "--dry-run")
	for _, n := range gone { // the primary last: while it is there nobody is elected, however long this takes
		n.Freeze()
	}
	for _, n := range gone {
		must(t, n.Kill())
	}
	told := command(t, 0, "may be lost", left, "recover", "--dry-run")
	t.Logf("the operator is told:\n%s", told)
	command(t, 1, "already", left, "recover", "--accept-loss", "--yes-cluster", "playground") // it still runs
	must(t, left.Kill())
	command(t, 3, "--accept-loss", left, "recover")
	command(t, 3, "not \"other\"", left, "recover", "--accept-loss", "--yes-cluster", "other")
	began := time.Now()
	command(t, 0, "is prepared", left, "recover", "--accept-loss", "--yes-cluster", "playground")
	must(t, left.Start())
	st := s.alone(left)
	t.Logf("one of three takes writes %.1f s after the command began, in term %d on timeline %d", time.Since(began).Seconds(), st.Term, st.Timeline)
	s.holdsAll(left)
	s.run(r.WriteThrough(left), "create table after_recovery (n int)", "insert into after_recovery values (1)")

	for _, n := range gone {
		must(t, n.Start())
	}
	s.stayOut(gone)
	s.run(r.WriteThrough(left), "insert into after_recovery values (2)")
	if now := s.alone(left); now.Term != st.Term {
		t.Errorf("the survivor's term went from %d to %d by those that came back", st.Term, now.Term)
	}
	must(t, left.Kill())
	for _, n := range gone { // nobody tells them any more
		must(t, n.Kill())
		must(t, n.Start())
	}
	s.stayOut(gone)
	must(t, left.Start())
	s.alone(left)
	s.rejoin(gone[0], left)
}

// command runs the program with a node's file, and requires an exit code and a text.
func command(t *testing.T, code int, text string, n *rig.Node, args ...string) string {
	t.Helper()
	out, err := called(n, args...)
	return require(t, code, text, out, err)
}

func called(n *rig.Node, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(all, 2*operation)
	defer cancel()
	return exec.CommandContext(ctx, rig.Binary(), append(args, "--config", n.File())...).CombinedOutput()
}

func require(t *testing.T, code int, text string, out []byte, err error) string {
	t.Helper()
	got := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		must(t, err)
	}
	if flat := strings.Join(strings.Fields(string(out)), " "); got != code || !strings.Contains(flat, text) {
		t.Fatalf("standfast exits with %d, want %d and %q:\n%s", got, code, text, out)
	}
	return string(out)
}

// holdsAll waits until the node's own server shows every commit that was acknowledged.
func (s *scene) holdsAll(n *rig.Node) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(all, operation)
	defer cancel()
	for _, w := range s.writers {
		for ; ; pause(ctx) {
			lost, err := w.Lost(ctx, s.r.DSN(n.Address, s.r.Ports().Postgres))
			if err == nil && len(lost) == 0 {
				break
			}
			if ctx.Err() != nil {
				s.t.Fatalf("%s lacks %d acknowledged commits that were written through %s (%v)", n.Name, len(lost), w.Name, err)
			}
		}
	}
}

// alone waits until the node takes writes by its own account as the only member.
func (s *scene) alone(n *rig.Node) *api.Status {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(all, healTime)
	defer cancel()
	var st *api.Status
	must(s.t, s.r.Await(ctx, n.Name+" reigns alone", func(all map[string]*api.Status) string {
		st = all[n.Name]
		if st == nil || st.Me() == nil || !st.Me().Writable || len(st.Members) != 1 || st.Epoch == 0 {
			return fmt.Sprintf("not by its own account: %+v", st)
		}
		return ""
	}))
	return st
}

// idle is for how long those that stay out are watched: several times what an election takes.
const idle = 5 * time.Second

// stayOut waits until the nodes say that they stay out, and then watches that none of them serves or starts anything.
func (s *scene) stayOut(nodes []*rig.Node) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(all, healTime)
	defer cancel()
	must(s.t, s.r.Await(ctx, "those that came back stay out", func(all map[string]*api.Status) string {
		for _, n := range nodes {
			st := all[n.Name]
			if st == nil || len(st.Warnings) == 0 || !strings.Contains(st.Warnings[0], "stays out") || st.Primary != "" {
				return fmt.Sprintf("%s does not say so: %+v", n.Name, st)
			}
			if parts := n.PIDs(); len(parts[rig.Postgres]) > 0 || len(parts[rig.Etcd]) > 0 { // begun before it heard of it, and ended now
				return fmt.Sprintf("%s still runs %v", n.Name, parts)
			}
		}
		return ""
	}))
	for end := time.Now().Add(idle); time.Now().Before(end); pause(ctx) {
		for _, n := range nodes {
			if parts := n.PIDs(); len(parts[rig.Postgres]) > 0 || len(parts[rig.Etcd]) > 0 {
				s.t.Fatalf("%s stays out and runs %v", n.Name, parts)
			}
		}
	}
}

// rejoin takes a node in again beside the survivor.
func (s *scene) rejoin(n, left *rig.Node) {
	s.t.Helper()
	must(s.t, n.Kill())
	var out []byte
	var failed error
	ended := make(chan struct{})
	go func() { defer close(ended); out, failed = called(n, "node", "rejoin") }()
	ctx, cancel := context.WithTimeout(all, healTime)
	defer cancel()
	for ; ; pause(ctx) {
		if text, err := os.ReadFile(n.File()); err == nil && strings.Contains(string(text), "join: true") {
			break
		}
		must(s.t, ctx.Err())
	}
	must(s.t, n.Start())
	<-ended
	s.t.Logf("rejoining: %s", require(s.t, 0, "is a member", out, failed))
	must(s.t, s.r.Await(ctx, n.Name+" holds a copy again", func(all map[string]*api.Status) string {
		st := all[left.Name]
		if st == nil || st.Commit.Hosts != 2 || all[n.Name] == nil || all[n.Name].Me() == nil || !all[n.Name].Me().Attached {
			return fmt.Sprintf("%s says %+v", left.Name, st)
		}
		return ""
	}))
	s.holdsAll(n)
	kept, err := filepath.Glob(n.DataDir() + ".before-*/PG_VERSION")
	if err != nil || len(kept) != 1 {
		s.t.Errorf("what %s held is not kept: %v, %v", n.Name, kept, err)
	}
}
