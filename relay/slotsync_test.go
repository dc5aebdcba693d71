package relay

import (
	"crypto/tls"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// syncHello is what PostgreSQL 17's slot synchronization sends (libpqrcv_connect without replication).
var syncHello = startup("user", User, "database", Database, "application_name", "pg2", "options", "-c wal_sender_timeout=400ms")

// synchronize is a session of slot synchronization that has reached the primary.
func synchronize(t *testing.T, r *Relay, p primary) (worker, prim net.Conn) {
	t.Helper()
	worker, err := net.Dial("unix", r.Path())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { worker.Close() })
	write(t, worker, syncHello)
	prim = p.accept(t)
	expect(t, prim, syncHello)
	write(t, worker, query("select"))
	expect(t, prim, query("select"))
	write(t, prim, []byte("rows"))
	expect(t, worker, []byte("rows"))
	return worker, prim
}

// A session of slot synchronization is no receiver: it neither takes the place of one nor makes the relay look as if it held
// or carried one.
func TestSlotSyncIsNoReceiver(t *testing.T) {
	r := open(t, nil)
	recv := connect(t, r)
	before := until(t, r, "held", held)
	p := listenPrimary(t)
	if err := r.Attach(1, 1, p.addr()); err != nil {
		t.Fatal(err)
	}
	prim := p.accept(t)
	expect(t, prim, hello)
	synchronize(t, r, p)
	after := r.Status()
	if !after.Carrying || after.Receiver != before.Receiver || after.Carried {
		t.Errorf("a receiver was carried alone: %+v, and with slot synchronization: %+v", before, after)
	}
	introduce(t, recv, prim, 1)
}

// A session of slot synchronization ends with what is carried, and the primary's side is reset.
func TestSlotSyncEndsWithTheTerm(t *testing.T) {
	for name, end := range map[string]func(r *Relay){
		"raise":        func(r *Relay) { r.Raise(2) },
		"detach":       func(r *Relay) { r.Detach("test") },
		"other target": func(r *Relay) { r.Attach(2, 2, "127.0.0.1:1") },
		"close":        func(r *Relay) { r.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			r := open(t, nil)
			p := listenPrimary(t)
			if err := r.Attach(1, 1, p.addr()); err != nil {
				t.Fatal(err)
			}
			worker, prim := synchronize(t, r, p)
			end(r)
			if n, err := worker.Write([]byte("late")); err == nil {
				t.Errorf("%d bytes were taken from the worker afterwards", n)
			}
			prim.SetReadDeadline(time.Now().Add(5 * time.Second))
			if got, err := io.ReadAll(prim); len(got) != 0 || err == nil || !strings.Contains(err.Error(), "reset") {
				t.Errorf("the primary read %q, %v; want a reset", got, err)
			}
		})
	}
}

// With no primary that answers the worker is told so at once, however long dialing may take: its server's promotion would
// wait for it.
func TestSlotSyncIsNotHeldByDialing(t *testing.T) {
	r := open(t, func(c *Config) {
		c.DialTimeout = time.Minute
		c.TLS = func() *tls.Config { return &tls.Config{InsecureSkipVerify: true} }
	})
	p := listenPrimary(t) // never answers the request for TLS
	if err := r.Attach(1, 1, p.addr()); err != nil {
		t.Fatal(err)
	}
	worker, err := net.Dial("unix", r.Path())
	if err != nil {
		t.Fatal(err)
	}
	defer worker.Close()
	write(t, worker, syncHello)
	p.accept(t) // the dial is under way
	began := time.Now()
	r.Detach("the primary is suspected")
	worker.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.ReadAll(worker); err != nil && !strings.Contains(err.Error(), "reset") {
		t.Fatalf("the worker was left waiting: %v", err)
	}
	t.Logf("told after %v", time.Since(began))
}
