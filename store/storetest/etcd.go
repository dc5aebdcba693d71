package storetest

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"standfast/certs"
	"standfast/store/embed"
	"standfast/store/etcd"
)

// childVar tells a test binary that it is to be etcd, and by which configuration file.
const childVar = embed.Command

// Main is the body of TestMain of a package that uses Start: the test binary, started again, is the etcd process.
func Main(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == childVar {
		if err := embed.Main(context.Background(), os.Args[2], os.Stdin); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// Node is one member of a cluster of our own etcd.
type Node struct {
	embed.Config
	File  string // of the configuration
	Child *embed.Child
}

// Etcd is a cluster of child processes with mutual TLS, on loopback.
type Etcd struct {
	CA    *certs.CA
	Nodes []*Node
	TLS   *tls.Config // of a client
	t     testing.TB
	dir   string
}

// Start starts a new cluster of n members and waits until it has a leader. It is stopped with the test.
func Start(t testing.TB, n int) *Etcd {
	t.Helper()
	if raceEnabled { // the detector multiplies etcd's heap: with the usual limit it would do nothing but collect
		t.Setenv("GOMEMLIMIT", "off")
		t.Setenv("GOGC", "100")
	}
	ca, err := certs.NewCA("test", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	e := &Etcd{CA: ca, t: t, dir: t.TempDir()}
	t.Cleanup(e.stop)
	initial := map[string]string{}
	for i := range n {
		node := e.prepare(fmt.Sprint("n", i+1))
		initial[node.Name] = node.PeerURL
	}
	for _, node := range e.Nodes {
		node.State, node.InitialCluster = embed.StateNew, initial
		e.run(node)
	}
	if e.TLS, err = certs.ClientTLS(certs.In(filepath.Join(e.dir, "n1"))); err != nil {
		t.Fatal(err)
	}
	e.WaitReady()
	return e
}

// Run starts a member that was prepared or stopped: with embed.StateExisting and what embed.Admin's AddLearner returned to
// join the running cluster.
func (e *Etcd) Run(node *Node, state string, initial map[string]string) {
	node.State, node.InitialCluster = state, initial
	e.run(node)
}

// Prepare makes the directory, certificate and addresses of one more member.
func (e *Etcd) Prepare(name string) *Node { return e.prepare(name) }

func (e *Etcd) prepare(name string) *Node {
	dir := filepath.Join(e.dir, name)
	files := certs.In(dir)
	pair, err := e.CA.Issue(name, nil, time.Now())
	if err == nil {
		err = files.Write(e.CA.Cert, pair)
	}
	if err != nil {
		e.t.Fatal(err)
	}
	node := &Node{File: filepath.Join(dir, "etcd.json"), Config: embed.Config{
		Name: name, DataDir: filepath.Join(dir, "etcd"), Token: "test", Log: filepath.Join(dir, "etcd.log"),
		PeerURL: "https://" + freeAddress(e.t), ClientURL: "https://" + freeAddress(e.t),
		CA: files.CA, Cert: files.Cert, Key: files.Key,
	}}
	e.Nodes = append(e.Nodes, node)
	return node
}

func (e *Etcd) run(node *Node) {
	if err := node.Save(node.File); err != nil {
		e.t.Fatal(err)
	}
	node.Child = embed.Start(context.Background(), slog.New(slog.DiscardHandler), self(e.t), childVar, node.File)
}

// stop ends all members at once: the last of a cluster would wait for a majority.
func (e *Etcd) stop() {
	var wg sync.WaitGroup
	for _, node := range e.Nodes {
		if node.Child != nil {
			wg.Go(node.Child.Stop)
		}
	}
	wg.Wait()
	for _, node := range e.Nodes {
		if e.t.Failed() && node.Child != nil {
			log, _ := os.ReadFile(node.Log)
			e.t.Logf("log of %s (ended: %v):\n%.4000s", node.Name, node.Child.Err(), log)
		}
	}
}

// WaitReady waits until all members answer and have a leader.
func (e *Etcd) WaitReady() {
	e.t.Helper()
	for _, node := range e.Nodes {
		a := e.admin(node.ClientURL)
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		if err := a.WaitReady(ctx); err != nil {
			e.t.Fatal(err)
		}
		cancel()
	}
}

// Endpoints are the members' client URLs in their order.
func (e *Etcd) Endpoints() []string {
	var urls []string
	for _, n := range e.Nodes {
		urls = append(urls, n.ClientURL)
	}
	return urls
}

// Admin opens the membership calls, over all members.
func (e *Etcd) Admin() *embed.Admin { return e.admin(e.Endpoints()...) }

func (e *Etcd) admin(endpoints ...string) *embed.Admin {
	e.t.Helper()
	a, err := embed.NewAdmin(e.TLS, endpoints...)
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { _ = a.Close() })
	return a
}

// Freeze stops the member's process (SIGSTOP) until the function that it returns is called, at the latest with the test.
func (n *Node) Freeze(t testing.TB) (thaw func()) {
	t.Helper()
	return freeze(t, n.Child.Pid())
}

func freeze(t testing.TB, pid int) (thaw func()) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for !stopped(t, pid) { // each thread stops when it is next scheduled, not when the signal is sent
		time.Sleep(time.Millisecond)
	}
	thaw = func() { _ = syscall.Kill(pid, syscall.SIGCONT) } // it may have been ended meanwhile
	t.Cleanup(thaw)
	return thaw
}

// stopped reports whether every thread of the process has stopped ("State: T" in proc(5)).
func stopped(t testing.TB, pid int) bool {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil || len(files) == 0 {
		t.Fatalf("look at the threads of process %d: %v", pid, err)
	}
	for _, f := range files {
		if b, err := os.ReadFile(f); err == nil && !strings.Contains(string(b), "State:\tT") {
			return false
		}
	}
	return true
}

// StartDebian runs the distribution's etcd server, without TLS, and returns its client URL and how to freeze it until
// the returned function is called. Without one the test is skipped.
func StartDebian(t testing.TB) (url string, freezer func() (thaw func())) {
	t.Helper()
	exe, err := exec.LookPath("etcd")
	if err != nil {
		t.Skip("skipped: no etcd in PATH (apt-get install etcd-server)")
	}
	url = "http://" + freeAddress(t)
	peer := "http://" + freeAddress(t)
	cmd := exec.Command(exe, "--data-dir", t.TempDir(), "--listen-client-urls", url, "--advertise-client-urls", url,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "default="+peer,
		"--log-level", "error")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // "signal: killed" is what was asked for
	})
	client, err := etcd.Dial(nil, url)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	waitAnswer(t, client)
	return url, func() func() { return freeze(t, cmd.Process.Pid) }
}

func waitAnswer(t testing.TB, c *clientv3.Client) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		_, err := c.Get(ctx, "/")
		cancel()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("etcd does not answer: ", err)
		}
		pauseFor(50 * time.Millisecond)
	}
}

// freeAddress returns an address on loopback that was free a moment ago.
func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func self(t testing.TB) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return exe
}
