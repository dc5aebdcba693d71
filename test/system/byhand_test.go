//go:build e2e

package system

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"standfast/config"
	"standfast/ops"
	"standfast/test/system/rig"
)

// hand is a cluster whose hosts were set up one by one.
type hand struct {
	t         *testing.T
	dir       string
	addresses []string
}

// TestByHand founds a cluster of three with init on the first host and join on the others.
func TestByHand(t *testing.T) {
	t.Parallel()
	h := &hand{t: t, dir: t.TempDir()}
	must(t, os.Chmod(h.dir, 0o700))
	at, err := netip.ParseAddr(take(t).separate)
	must(t, err)
	var members []string
	for i := range 3 {
		at = at.Next()
		h.addresses = append(h.addresses, at.String())
		members = append(members, fmt.Sprintf("pg%d=%s", i+1, at))
	}
	said := h.run(0, "", append([]string{"init", "--here", "--as", "pg1", "--out", h.home("pg1"), "--set", "state_dir=" + h.state("pg1"), "--set", "bootstrap.lease=6s", "byhand"}, members...)...)
	tokens := regexp.MustCompile(`(?m)^    token: (pg[23])(\S+)$`).FindAllStringSubmatch(said, -1)
	if len(tokens) != 2 {
		t.Fatalf("no two tokens are printed:\n%s", said)
	}
	h.start("pg1")
	h.listens(h.addresses[0] + ":8443")
	for _, m := range tokens {
		name, token := m[1], m[1]+m[2]
		parts := strings.Split(token, ".")
		parts[2] = strings.Repeat("A", len(parts[2]))
		h.join(3, name, strings.Join(parts, ".")) // whoever does not know the secret gets nothing
		h.join(0, name, token)
		if said := h.join(3, "again", token); !strings.Contains(said, "it has been used") {
			t.Errorf("a token is good twice:\n%s", said)
		}
		h.start(name)
	}
	cl := h.whole()
	defer cl.Close()
	for _, name := range []string{"pg1", "pg2", "pg3"} {
		for _, file := range []string{"secret", "token", "tls/member.key"} {
			info, err := os.Stat(filepath.Join(h.home(name), file))
			if err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s of %s: %v, %v", file, name, info, err)
			}
		}
	}
	h.rotate(cl)
	logs, err := filepath.Glob(filepath.Join(h.dir, "*.log"))
	must(t, err)
	for _, log := range logs {
		text, err := os.ReadFile(log)
		must(t, err)
		for _, m := range tokens {
			if strings.Contains(string(text), strings.Split(m[2], ".")[2]) {
				t.Errorf("%s has a token's secret", log)
			}
		}
	}
}

// rotate gives all members new certificates: every part shows its new one, connections are made by it, and nothing was restarted.
func (h *hand) rotate(cl *ops.Cluster) {
	h.t.Helper()
	before, running := h.certificates(cl), h.running(cl)
	h.run(0, "", "--config", h.file("pg2"), "cert", "rotate")
	after := h.certificates(cl)
	for name, c := range after {
		if bytes.Equal(c, before[name]) {
			h.t.Errorf("%s has its old certificate", name)
		}
	}
	if now := h.running(cl); now != running {
		h.t.Errorf("something was restarted or replaced: %s, then %s", running, now)
	}
	h.run(0, "", "--config", h.file("pg2"), "switchover") // everybody connects anew
	h.whole().Close()
}

// certificates are the members' own, all of which their servers show.
func (h *hand) certificates(cl *ops.Cluster) map[string][]byte {
	h.t.Helper()
	shown, authorities, err := cl.Certificates(all)
	must(h.t, err)
	if len(shown) != 3 || len(authorities) != 1 {
		h.t.Fatalf("%d members, %d authorities", len(shown), len(authorities))
	}
	out := map[string][]byte{}
	for _, c := range shown {
		if c.Error != "" || len(c.Stale) > 0 || time.Until(c.Until) < 360*24*time.Hour {
			h.t.Errorf("%+v", c)
		}
		out[c.Member], err = os.ReadFile(filepath.Join(h.home(c.Member), "tls", "member.crt"))
		must(h.t, err)
	}
	return out
}

// running tells the term and the servers' processes.
func (h *hand) running(cl *ops.Cluster) string {
	h.t.Helper()
	st, _, err := cl.Status(all)
	must(h.t, err)
	said := fmt.Sprintf("term %d of %s", st.Term, st.Primary)
	for _, name := range []string{"pg1", "pg2", "pg3"} {
		pid, err := os.ReadFile(filepath.Join(h.state(name), "data", "postmaster.pid"))
		must(h.t, err)
		first, _, _ := strings.Cut(string(pid), "\n")
		said += ", " + name + " " + first
	}
	return said
}

func (h *hand) file(name string) string  { return filepath.Join(h.home(name), "standfast.yml") }
func (h *hand) home(name string) string  { return filepath.Join(h.dir, name) }
func (h *hand) state(name string) string { return filepath.Join(h.dir, name+"-state") }

// run runs the program to its end, and fails unless it exits as it should.
func (h *hand) run(code int, input string, args ...string) string {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(all, time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, rig.Binary(), args...)
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != code {
		h.t.Fatalf("standfast %s: %v, not code %d:\n%s", strings.Join(args, " "), err, code, out)
	}
	return string(out)
}

func (h *hand) join(code int, name, token string) string {
	h.t.Helper()
	return h.run(code, token, "join", h.addresses[0], "--token-file", "-", "--out", h.home(name), "--set", "state_dir="+h.state(name))
}

// start runs a member until the test ends.
func (h *hand) start(name string) {
	h.t.Helper()
	log, err := os.Create(filepath.Join(h.dir, name+".log"))
	must(h.t, err)
	cmd := exec.Command(rig.Binary(), "run", "--config", h.file(name), "--until-eof")
	cmd.Stdout, cmd.Stderr = log, log
	alive, err := cmd.StdinPipe()
	must(h.t, err)
	must(h.t, cmd.Start())
	must(h.t, log.Close())
	h.t.Cleanup(func() {
		must(h.t, alive.Close())
		if err := cmd.Wait(); err != nil || h.t.Failed() {
			text, _ := os.ReadFile(log.Name())
			h.t.Logf("%s ended: %v\n%s", name, err, lastLines(string(text), 40))
		}
	})
}

func (h *hand) listens(address string) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(all, healTime)
	defer cancel()
	for ; ctx.Err() == nil; pause(ctx) {
		if c, err := net.Dial("tcp", address); err == nil {
			must(h.t, c.Close())
			return
		}
	}
	h.t.Fatalf("nothing listens on %s", address)
}

// whole waits until one member takes writes and both others count.
func (h *hand) whole() *ops.Cluster {
	h.t.Helper()
	n, err := config.LoadNode(h.file("pg1"), nil, nil)
	must(h.t, err)
	cl, err := ops.Connect(n)
	must(h.t, err)
	ctx, cancel := context.WithTimeout(all, healTime)
	defer cancel()
	must(h.t, rig.Await(ctx, cl.Client, "the cluster is whole", rig.WholeOf([]string{"pg1", "pg2", "pg3"})))
	return cl
}
