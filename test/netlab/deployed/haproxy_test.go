//go:build e2e

package deployed_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"standfast/test/netlab"
)

// TestClassicPlane gives the routers' and the addresses' part to HAProxy and Keepalived, on the cluster that TestDeploy has made or on one of its
// own, while a client writes: the same checkpoints hold, a reload refuses nobody, the address follows a primary whose host loses its power. Then
// it gives the parts back. The outage of a failover is told for both.
func TestClassicPlane(t *testing.T) {
	three := guideFile(t) + more
	ok(t, admin.Write("cluster.yml", three))
	run0(t, "deploy")
	ok(t, admin.Write("cluster.yml", three+"routing: haproxy\naddress: keepalived\n"))
	began := time.Now()
	said := run0(t, "deploy")
	t.Logf("took %s\n%s", time.Since(began).Round(time.Millisecond), said)
	if said := run0(t, "deploy"); strings.Contains(said, "done ") {
		t.Errorf("the same again changes something:\n%s", said)
	}
	t.Run("who has what", whoHasWhat)
	t.Run("reloads", reloads)
	t.Run("validate", func(t *testing.T) { proveAgain(t, "HAProxy and Keepalived") })
	t.Run("power loss", losePower)
	ok(t, admin.Write("cluster.yml", three))
	run0(t, "deploy")
	for _, h := range founders() {
		out, err := h.Shell(all, "systemctl is-active haproxy keepalived || :; ss -Hltnp 'sport = 5000'")
		if err != nil || strings.Count(out, "inactive") != 2 || !strings.Contains(out, "standfast") {
			t.Errorf("%s: the parts are not given back: %s (%v)", h.Name, out, err)
		}
	}
	t.Run("validate the built-in ones", func(t *testing.T) { proveAgain(t, "built in") })
}

func founders() []*netlab.Host { return admin.Lab.Hosts[:3] }

func proveAgain(t *testing.T, what string) {
	said := run0(t, "validate", "--failover", "--yes-cluster", "main")
	t.Logf("%s: %s", what, proof.FindString(said))
	proven(t, said)
}

// whoHasWhat: HAProxy has the ports, without root's rights, and the address is on the primary's host and told of.
func whoHasWhat(t *testing.T) {
	primary := strings.Fields(reign(t))[0]
	for _, h := range founders() {
		out, err := h.Shell(all, "ss -Hltnp 'sport = 5000 or sport = 5001'; echo workers $(ps -C haproxy -o user= | sort | uniq -c); ip -o addr show to 10.99.0.50")
		ok(t, err)
		if strings.Count(out, `"haproxy"`) < 2 || strings.Contains(out, `"standfast"`) || !strings.Contains(out, "1 haproxy") {
			t.Errorf("%s: HAProxy does not have the ports, or not as its own user:\n%s", h.Name, out)
		}
		if has := strings.Contains(out, "inet 10.99.0.50/32"); has != (h.Name == primary) {
			t.Errorf("%s: the address is there: %v, and %s is primary", h.Name, has, primary)
		}
	}
	out, err := admin.Lab.Host(primary).Shell(all, "standfast status -o json")
	ok(t, err)
	if !strings.Contains(out, `"holder": "`+primary+`"`) {
		t.Errorf("the status does not name %s as the address's holder:\n%s", primary, out)
	}
}

// reloads: a session goes on, and no new connection is refused, while HAProxy is told of other members again and again.
func reloads(t *testing.T) {
	w := write(t)
	ctx, stop := context.WithCancel(all)
	var wait sync.WaitGroup
	var mu sync.Mutex
	dials, refused := 0, []string{}
	for _, h := range founders() {
		wait.Go(func() {
			for ctx.Err() == nil {
				err := greeted(ctx, h.Addr)
				mu.Lock()
				if dials++; err != nil && ctx.Err() == nil {
					refused = append(refused, fmt.Sprintf("%s: %v", h.Name, err))
				}
				mu.Unlock()
				time.Sleep(5 * time.Millisecond)
			}
		})
	}
	for range 4 {
		for _, h := range founders() {
			_, err := h.Shell(all, "systemctl reload haproxy")
			ok(t, err)
		}
		time.Sleep(500 * time.Millisecond)
	}
	stop()
	wait.Wait()
	t.Logf("%d connections, %d refused", dials, len(refused))
	if len(refused) > 0 || dials < 100 {
		t.Errorf("of %d connections %d were refused: %s", dials, len(refused), refused[:min(3, len(refused))])
	}
	w.end(t, 5*time.Second)
	if w.errors > 0 {
		t.Errorf("the session was cut %d times", w.errors)
	}
}

// greeted connects and asks for TLS (protocol-message-formats, SSLRequest): a server's answer is one byte.
func greeted(ctx context.Context, at netip.Addr) error {
	conn, err := admin.Lab.Dial(ctx, "tcp", net.JoinHostPort(at.String(), "5000"))
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err = conn.Write([]byte{0, 0, 0, 8, 4, 0xd2, 0x16, 0x2f}); err == nil {
		_, err = conn.Read(make([]byte, 1))
	}
	return err
}

// losePower: the address and the ports lead to the next primary, and nothing acknowledged is lost.
func losePower(t *testing.T) {
	w := write(t)
	time.Sleep(time.Second)
	h := admin.Lab.Host(strings.Fields(reign(t))[0])
	ok(t, h.PowerOff())
	time.Sleep(15 * time.Second)
	ok(t, h.Boot(all))
	w.end(t, 14*time.Second)
	run0(t, "validate")
}
