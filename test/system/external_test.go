//go:build e2e

package system

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"standfast/test/system/rig"
)

// TestExternalEtcd: with the site's own etcd (Debian's etcd-server) instead of one on each node, a failover works as well, and
// the status says where the agreed records are kept.
func TestExternalEtcd(t *testing.T) {
	t.Parallel()
	endpoint := startEtcd(t).endpoint
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

// TestEtcdRestored: the site's etcd is put back to a backup that is two terms old. The members promised more than it knows; they
// go on above their promises, and nothing acknowledged is lost.
func TestEtcdRestored(t *testing.T) {
	e := startEtcd(t)
	r, primary, term := own(t, "etcd.endpoints=["+e.endpoint+"]")
	s := beginOn(t, r, primary, term)
	snapshot := filepath.Join(t.TempDir(), "snapshot")
	e.control(t, "--endpoints="+e.endpoint, "snapshot", "save", snapshot)
	for range 2 {
		must(t, s.primary.Kill())
		s.reign(takeover)
		must(t, s.primary.Start())
		s.primary, s.term = s.heal()
	}
	e.stop()
	restored := filepath.Join(t.TempDir(), "restored")
	e.control(t, "snapshot", "restore", snapshot, "--data-dir="+restored, "--name=one", "--initial-cluster=one="+e.peer, "--initial-advertise-peer-urls="+e.peer)
	e.dir = restored
	e.run(t)
	s.reign(healTime) // in a term above all that were promised
	_, now := s.end()
	t.Logf("term %d before the restoring, of which the backup knew %d; then %d", s.term, term, now)
}

// etcdServer is one etcd on free ports of the loopback.
type etcdServer struct {
	bin, dir, endpoint, peer string
	cmd                      *exec.Cmd
	out                      bytes.Buffer
}

func startEtcd(t *testing.T) *etcdServer {
	t.Helper()
	bin, err := exec.LookPath("etcd")
	if err != nil {
		t.Skip("etcd is not installed (Debian's package etcd-server), so there is no external one to use")
	}
	e := &etcdServer{bin: bin, dir: t.TempDir(), endpoint: "http://" + freeAddress(t), peer: "http://" + freeAddress(t)}
	t.Cleanup(func() {
		e.stop()
		if t.Failed() {
			t.Logf("etcd: %s", lastLines(e.out.String(), 10))
		}
	})
	e.run(t)
	return e
}

// run starts it on its directory and returns when it listens.
func (e *etcdServer) run(t *testing.T) {
	t.Helper()
	e.cmd = exec.Command(e.bin, "--data-dir", e.dir, "--name", "one", "--listen-client-urls", e.endpoint, "--advertise-client-urls", e.endpoint,
		"--listen-peer-urls", e.peer, "--initial-advertise-peer-urls", e.peer, "--initial-cluster", "one="+e.peer)
	e.cmd.Stdout, e.cmd.Stderr = &e.out, &e.out
	must(t, e.cmd.Start())
	ctx, cancel := context.WithTimeout(all, 20*time.Second)
	defer cancel()
	for ; ctx.Err() == nil; pause(ctx) {
		c, err := net.Dial("tcp", strings.TrimPrefix(e.endpoint, "http://"))
		if err == nil {
			_ = c.Close()
			return
		}
	}
	t.Fatal("etcd does not listen")
}

func (e *etcdServer) stop() {
	_ = e.cmd.Process.Kill() // it may have ended by itself
	_ = e.cmd.Wait()         // killed, as it was asked for
}

// control runs etcdctl.
func (e *etcdServer) control(t *testing.T, args ...string) {
	t.Helper()
	ctl, err := exec.LookPath("etcdctl")
	if err != nil {
		t.Skip("etcdctl is not installed (Debian's package etcd-client), so no backup can be made")
	}
	cmd := exec.Command(ctl, args...)
	cmd.Env = append(os.Environ(), "ETCDCTL_API=3")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("etcdctl %q: %v: %s", args, err, out)
	}
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
