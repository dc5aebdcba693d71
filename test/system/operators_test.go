//go:build e2e

package system

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"standfast/test/system/rig"
)

// TestOperators: a token of one's own is good on every member, the history names who used it, and once revoked nobody takes it.
func TestOperators(t *testing.T) {
	t.Parallel()
	s := begin(t)
	file := filepath.Join(s.r.Nodes[0].Dir, "standfast.yml")
	mine := filepath.Join(t.TempDir(), "token")
	as := func(token string, args ...string) (stdout, stderr string, err error) {
		ctx, cancel := context.WithTimeout(all, operation)
		defer cancel()
		cmd := exec.CommandContext(ctx, rig.Binary(), append(args, "--config", file)...)
		cmd.Env = os.Environ()
		if token != "" {
			cmd.Env = append(cmd.Env, "STANDFAST_TOKEN_FILE="+token)
		}
		var out, said bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &said
		err = cmd.Run()
		return out.String(), said.String(), err
	}
	must2 := func(out, said string, err error) string {
		t.Helper()
		if err != nil {
			t.Fatalf("%v: %s", err, said)
		}
		return out
	}
	token := must2(as("", "token", "create", "--operator", "anna", "--quiet"))
	must(t, os.WriteFile(mine, []byte(token), 0o600))
	to := s.standby().Name
	must2(as(mine, "switchover", "--to", to))
	if _, said, err := as(mine, "token", "create", "--operator", "bert"); err == nil || !strings.Contains(said, "with the cluster's own token") {
		t.Errorf("an operator makes tokens: %v, %s", err, said)
	}
	if now, _ := s.end(); now.Name != to {
		t.Errorf("%s reigns after a switchover to %s", now.Name, to)
	}
	ctx, cancel := context.WithTimeout(all, operation)
	defer cancel()
	for h := ""; !strings.Contains(h, "anna asked for a switchover"); pause(ctx) { // members read the history now and then
		if h = must2(as("", "history")); ctx.Err() != nil {
			t.Fatalf("the history does not name anna:\n%s", h)
		}
	}
	id, _, _ := strings.Cut(token, ".")
	must2(as("", "token", "revoke", id))
	for ; ctx.Err() == nil; pause(ctx) { // each member hears of it by its watch
		if _, said, err := as(mine, "config", "show"); err != nil && strings.Contains(said, "not one of this cluster's") {
			return
		}
	}
	t.Error("a revoked token is good for ever")
}
