//go:build e2e

package site_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"standfast/test/checker"
	"standfast/test/netlab/site"
)

// TestCheckerOnTheClient runs standfast-checker as it is run against any stack: a static program beside the hosts, with nothing but
// connection strings, through a planned change of the primary.
func TestCheckerOnTheClient(t *testing.T) {
	primary, _, err := cluster.AwaitWhole(all, healTime)
	ok(t, err)
	program := filepath.Join(t.TempDir(), "standfast-checker")
	build := exec.CommandContext(all, "go", "build", "-o", program, "standfast/test/checker/standfast-checker")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the checker: %v: %s", err, out)
	}
	args := []string{"-for", "5s"}
	for _, h := range cluster.Lab.Hosts {
		args = append(args, "-write", cluster.DSN(site.WritePort, h), "-read", cluster.DSN(site.ReadPort, h), "-server", cluster.DSN(site.PostgresPort, h))
	}
	cmd := cluster.Lab.Command(all, program, args...)
	var out, words bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &words
	ok(t, cmd.Start())
	_, stopped := primary.Run(all, "standfast", "node", "stop")
	_, started := primary.Run(all, "standfast", "node", "start")
	if err := cmd.Wait(); err != nil {
		t.Errorf("the checker ended with %v", err)
	}
	t.Logf("%s", &words)
	ok(t, stopped)
	ok(t, started)
	var v checker.Verdict
	if err := json.Unmarshal(out.Bytes(), &v); err != nil || !v.Whole || len(v.Servers) != 1+len(cluster.Lab.Hosts) {
		t.Errorf("%v: %s", err, &out)
	}
}
