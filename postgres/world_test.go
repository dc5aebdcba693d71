package postgres_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"standfast/cluster"
	"standfast/postgres"
)

// world is a few servers on one machine, each behind a relay of its own.
type world struct {
	t      *testing.T
	dir    string
	binDir string
	major  int
	runAs  *syscall.Credential
	ca     *x509.Certificate
	caKey  *ecdsa.PrivateKey
	names  []string
	nodes  map[string]*node
}

type node struct {
	*postgres.Server
	cfg   postgres.Config
	relay *forwarder
}

func newWorld(t *testing.T, names ...string) *world {
	t.Helper()
	bin, major, err := postgres.FindBinDir("")
	if err != nil {
		t.Skipf("needs a PostgreSQL server: %v", err)
	}
	dir, err := os.MkdirTemp("", "sfpg")
	must(t, err)
	w := &world{t: t, dir: dir, binDir: bin, major: major, names: names, nodes: map[string]*node{}}
	t.Cleanup(func() { must(t, os.RemoveAll(dir)) })
	must(t, os.Chmod(dir, 0o755))
	w.runAs = runAs(t)
	w.makeCA()
	for _, n := range names {
		w.add(n)
	}
	return w
}

// runAs is the user to run PostgreSQL as: it refuses to be root's.
func runAs(t *testing.T) *syscall.Credential {
	if os.Getuid() != 0 {
		return nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		if u, err := user.Lookup(name); err == nil {
			uid, err := strconv.ParseUint(u.Uid, 10, 32)
			must(t, err)
			gid, err := strconv.ParseUint(u.Gid, 10, 32)
			must(t, err)
			return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		}
	}
	t.Skip("run by root, and there is neither a user postgres nor nobody to run PostgreSQL as")
	return nil
}

func (w *world) add(name string) *node {
	t := w.t
	home := filepath.Join(w.dir, name)
	must(t, os.Mkdir(home, 0o755))
	w.own(home)
	cert, key := w.certificate(name, home)
	cfg := postgres.Config{
		Name: name, BinDir: w.binDir, DataDir: filepath.Join(home, "data"), SocketDir: filepath.Join(home, "s"),
		Listen: "127.0.0.1", Port: freePort(t), LogFile: filepath.Join(home, "log", "postgresql.log"),
		RelayDir: filepath.Join(home, "r"), RelayPort: 5433, CA: filepath.Join(w.dir, "ca.crt"), Cert: cert, Key: key,
		Members: w.names, PasswordDir: filepath.Join(home, "secrets"), RunAs: w.runAs,
		Parameters: map[string]string{"shared_buffers": "16MB", "max_connections": "30"},
	}
	must(t, os.Mkdir(cfg.RelayDir, 0o755))
	must(t, os.Mkdir(cfg.PasswordDir, 0o755))
	w.own(cfg.RelayDir)
	w.own(cfg.PasswordDir)
	n := &node{Server: postgres.New(cfg), cfg: cfg}
	n.relay = newForwarder(t, filepath.Join(cfg.RelayDir, ".s.PGSQL.5433"), w.clientTLS(cert, key))
	w.own(filepath.Join(cfg.RelayDir, ".s.PGSQL.5433"))
	w.nodes[name] = n
	t.Cleanup(func() {
		if err := n.KillAll(context.Background()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		must(t, n.Close(context.Background()))
		n.relay.close()
		if t.Failed() {
			if b, err := os.ReadFile(cfg.LogFile); err == nil {
				t.Logf("the end of %s's log:\n%s", name, b[max(len(b)-6000, 0):])
			}
		}
	})
	return n
}

func (w *world) own(path string) {
	if w.runAs != nil {
		must(w.t, os.Chown(path, int(w.runAs.Uid), int(w.runAs.Gid)))
	}
}

func (w *world) makeCA() {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(w.t, err)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, IsCA: true,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	must(w.t, err)
	w.ca, err = x509.ParseCertificate(der)
	must(w.t, err)
	w.caKey = key
	w.writePEM(filepath.Join(w.dir, "ca.crt"), "CERTIFICATE", der)
}

func (w *world) certificate(name, dir string) (cert, key string) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(w.t, err)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, w.ca, &k.PublicKey, w.caKey)
	must(w.t, err)
	kder, err := x509.MarshalPKCS8PrivateKey(k)
	must(w.t, err)
	cert, key = filepath.Join(dir, "node.crt"), filepath.Join(dir, "node.key")
	w.writePEM(cert, "CERTIFICATE", der)
	w.writePEM(key, "PRIVATE KEY", kder)
	return cert, key
}

func (w *world) writePEM(path, kind string, der []byte) {
	must(w.t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
	w.own(path)
}

func (w *world) clientTLS(cert, key string) *tls.Config {
	pair, err := tls.LoadX509KeyPair(cert, key)
	must(w.t, err)
	pool := x509.NewCertPool()
	pool.AddCert(w.ca)
	return &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: pool, ServerName: "127.0.0.1"}
}

func (n *node) source() postgres.Source { return postgres.Source{Host: "127.0.0.1", Port: n.cfg.Port} }

func (n *node) addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(n.cfg.Port)) }

// forwarder stands in for the relay: it accepts the WAL receiver and, when it is given a target, carries it there inside
// TLS. Without a target it accepts and holds.
type forwarder struct {
	ln     net.Listener
	tls    *tls.Config
	mu     sync.Mutex
	cond   *sync.Cond
	target string
	open   map[net.Conn]bool // everything that is carried, both ends
	held   int               // receivers that wait now
	wg     sync.WaitGroup
	closed bool
	events chan string // "held" whenever a receiver begins to wait
}

func newForwarder(t *testing.T, path string, cfg *tls.Config) *forwarder {
	ln, err := net.Listen("unix", path)
	must(t, err)
	f := &forwarder{ln: ln, tls: cfg, open: map[net.Conn]bool{}, events: make(chan string, 1000)}
	f.cond = sync.NewCond(&f.mu)
	f.wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			f.wg.Go(func() { f.serve(c) })
		}
	})
	return f
}

func (f *forwarder) serve(c net.Conn) {
	defer c.Close()
	hello, err := readHello(c)
	if err != nil {
		return
	}
	f.mu.Lock()
	if f.target == "" && !bytes.Contains(hello, []byte("\x00replication\x00")) {
		f.mu.Unlock() // slot synchronization is not held: a promotion would wait for it
		return
	}
	f.open[c] = true
	f.held++
	f.events <- "held"
	for f.target == "" && !f.closed {
		f.cond.Wait()
	}
	f.held--
	target, closed := f.target, f.closed
	f.mu.Unlock()
	defer f.forget(c)
	if closed {
		return
	}
	up, err := f.dial(target)
	if err != nil {
		return
	}
	defer up.Close()
	f.mu.Lock()
	if f.target != target {
		f.mu.Unlock()
		return
	}
	f.open[up] = true
	f.mu.Unlock()
	defer f.forget(up)
	if _, err := up.Write(hello); err != nil {
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(up, c)
		up.Close()
	}()
	_, _ = io.Copy(c, up)
	c.Close()
	<-done
}

// readHello reads a StartupMessage, its length included ("Message Formats").
func readHello(c net.Conn) ([]byte, error) {
	head := make([]byte, 4)
	if _, err := io.ReadFull(c, head); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head)
	if n < 8 || n > 10000 {
		return nil, fmt.Errorf("StartupMessage of %d bytes", n)
	}
	msg := append(head, make([]byte, n-4)...)
	_, err := io.ReadFull(c, msg[4:])
	return msg, err
}

func (f *forwarder) forget(c net.Conn) {
	f.mu.Lock()
	delete(f.open, c)
	f.mu.Unlock()
}

// dial asks the server for TLS as libpq would ("Message Flow", section "SSL Session Encryption").
func (f *forwarder) dial(addr string) (net.Conn, error) {
	c, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return nil, err
	}
	req := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, 8), 80877103)
	answer := make([]byte, 1)
	if _, err = c.Write(req); err == nil {
		_, err = io.ReadFull(c, answer)
	}
	if err != nil || answer[0] != 'S' {
		c.Close()
		return nil, fmt.Errorf("no TLS: %q, %w", answer, err)
	}
	return tls.Client(c, f.tls), nil
}

// attach carries to addr from now on; "" cuts everything off and holds.
func (f *forwarder) attach(addr string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.target = addr
	if addr == "" {
		for c := range f.open {
			c.Close()
		}
	}
	for len(f.events) > 0 {
		<-f.events
	}
	f.cond.Broadcast()
}

func (f *forwarder) close() {
	f.mu.Lock()
	f.closed, f.target = true, ""
	for c := range f.open {
		c.Close()
	}
	f.cond.Broadcast()
	f.mu.Unlock()
	f.ln.Close()
	f.wg.Wait()
}

// awaitHeld waits until a WAL receiver that connected after the last attach waits.
func (f *forwarder) awaitHeld(t *testing.T) {
	t.Helper()
	select {
	case <-f.events:
	case <-time.After(10 * time.Second):
		t.Fatal("no WAL receiver came to the relay within 10 s")
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func freePort(t *testing.T) int {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port
}

func bounded(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 180*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// sql runs a statement as the superuser, over the Unix socket.
func (n *node) connect(t *testing.T) *pgx.Conn {
	t.Helper()
	ctx := bounded(t)
	conn, err := pgx.Connect(ctx, fmt.Sprintf("host=%s port=%d user=postgres dbname=postgres sslmode=disable", n.cfg.SocketDir, n.cfg.Port))
	must(t, err)
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

func (n *node) exec(t *testing.T, sql string, args ...any) {
	t.Helper()
	conn := n.connect(t)
	defer conn.Close(context.Background())
	_, err := conn.Exec(bounded(t), sql, args...)
	must(t, err)
}

func (n *node) value(t *testing.T, sql string, args ...any) string {
	t.Helper()
	conn := n.connect(t)
	defer conn.Close(context.Background())
	var v *string
	must(t, conn.QueryRow(bounded(t), sql, args...).Scan(&v))
	if v == nil {
		return ""
	}
	return *v
}

// eventually polls what has no event, with a bound that only a hang exceeds.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	deadline := time.Now().Add(60 * time.Second)
	for !f() {
		if time.Now().After(deadline) {
			t.Fatalf("not within 60 s: %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func (n *node) observe(t *testing.T) postgres.Observation {
	t.Helper()
	o, err := n.Observe(bounded(t))
	must(t, err)
	return o
}

// follow clones n from the primary and lets it stream.
func (w *world) follow(n, primary *node) {
	t := w.t
	t.Helper()
	ctx := bounded(t)
	must(t, primary.EnsureSlots(ctx, w.names))
	must(t, n.Clone(ctx, primary.source(), nil))
	must(t, n.StartStandby(ctx))
	n.relay.attach(primary.addr())
	w.awaitStreaming(n, primary)
}

func (w *world) awaitStreaming(n, primary *node) {
	w.t.Helper()
	eventually(w.t, n.cfg.Name+" streams", func() bool {
		for _, s := range primary.observe(w.t).Postgres.Standbys {
			if s.Name == n.cfg.Name && s.Streaming {
				return true
			}
		}
		return false
	})
}

func (w *world) awaitFlushed(n, primary *node, lsn cluster.LSN) {
	w.t.Helper()
	eventually(w.t, n.cfg.Name+" has flushed", func() bool {
		for _, s := range primary.observe(w.t).Postgres.Standbys {
			if s.Name == n.cfg.Name && s.Flushed >= lsn {
				return true
			}
		}
		return false
	})
}
