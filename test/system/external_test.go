//go:build e2e

package system

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"standfast/test/system/rig"
)

// TestExternalEtcd: with the site's own etcd (Debian's etcd-server) instead of one on each node, a failover works as well, and
// the status says where the agreed records are kept.
func TestExternalEtcd(t *testing.T) {
	t.Parallel()
	endpoint := startEtcd(t)
	r, primary, term := own(t, "etcd.endpoints=["+endpoint+"]")
	s := beginOn(t, r, primary, term)
	if st := s.status(primary).Store; st.Kind != "external" {
		t.Errorf("the store is %q", st.Kind)
	}
	for _, n := range r.Nodes {
		if pids := n.PIDs()[rig.Etcd]; len(pids) > 0 {
			t.Errorf("%s runs an etcd of its own: %v", n.Name, pids)
		}
	}
	must(t, primary.Kill())
	s.reign(takeover)
	must(t, primary.Start())
	s.end()
}

// startEtcd runs one etcd on a free port of the loopback.
func startEtcd(t *testing.T) (endpoint string) {
	t.Helper()
	bin, err := exec.LookPath("etcd")
	if err != nil {
		t.Skip("etcd is not installed (Debian's package etcd-server), so there is no external one to use")
	}
	client, peer := "http://"+freeAddress(t), "http://"+freeAddress(t)
	var out bytes.Buffer
	cmd := exec.Command(bin, "--data-dir", t.TempDir(), "--name", "one", "--listen-client-urls", client, "--advertise-client-urls", client,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "one="+peer)
	cmd.Stdout, cmd.Stderr = &out, &out
	must(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended by itself
		_ = cmd.Wait()         // killed, as it was asked for
		if t.Failed() {
			t.Logf("etcd: %s", lastLines(out.String(), 10))
		}
	})
	ctx, cancel := context.WithTimeout(all, 20*time.Second)
	defer cancel()
	for ; ctx.Err() == nil; pause(ctx) {
		c, err := net.Dial("tcp", strings.TrimPrefix(client, "http://"))
		if err == nil {
			_ = c.Close()
			return client
		}
	}
	t.Fatal("etcd does not listen")
	return ""
}

// freeAddress is one on which nothing listens now.
func freeAddress(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	return fmt.Sprint(l.Addr())
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
