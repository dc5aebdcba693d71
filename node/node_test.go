package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"standfast/api"
	"standfast/certs"
	"standfast/cluster"
	"standfast/config"
	"standfast/guard"
	"standfast/notify"
	"standfast/router"
	"standfast/store"
	"standfast/store/embed"
	"standfast/store/mem"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "guard" { // a guard is this program itself where the small one was not built
		os.Exit(guard.Main(os.Args[2:]))
	}
	goleak.VerifyTestMain(m)
}

var quiet = slog.New(slog.DiscardHandler)

// host is a directory with everything that a witness needs to be made, and nothing that runs.
type host struct {
	dir   string
	ports map[string]int
}

func newHost(t *testing.T) host {
	t.Helper()
	h := host{dir: t.TempDir(), ports: map[string]int{}}
	ca, err := certs.NewCA("main", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	pair, err := ca.Issue("w", []string{"127.0.0.1"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := certs.In(h.file("tls")).Write(ca.Cert, pair); err != nil {
		t.Fatal(err)
	}
	h.write(t, "secret", strings.Repeat("s", 32))
	h.write(t, "token", strings.Repeat("t", 32))
	h.findPorts(t, "postgres", "write", "read", "health", "admin", "beat", "etcd_client", "etcd_peer")
	return h
}

func (h host) file(name string) string { return filepath.Join(h.dir, name) }

func (h host) write(t *testing.T, name, content string) {
	t.Helper()
	if err := os.WriteFile(h.file(name), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// findPorts finds a port for each of the kinds, all of them different: they are held until the last one is found.
func (h host) findPorts(t *testing.T, kinds ...string) {
	t.Helper()
	for _, kind := range kinds {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		h.ports[kind] = l.Addr().(*net.TCPAddr).Port
	}
}

// config is the witness's file; its store is an etcd of the site's that nobody runs, unless embedded.
func (h host) config(t *testing.T, settings ...string) config.Node {
	t.Helper()
	text := fmt.Sprintf(`
cluster: main
name: w
state_dir: %s
tls_dir: %s
secret_file: %s
token_file: %s
etcd: {endpoints: ["http://127.0.0.1:1"]}
members:
  - {name: pg1, address: 127.0.0.2}
  - {name: pg2, address: 127.0.0.3}
  - {name: w, address: 127.0.0.1, kind: witness}
ports:
`, h.file("state"), h.file("tls"), h.file("secret"), h.file("token"))
	for name, port := range h.ports {
		text += fmt.Sprintf("  %s: %d\n", name, port)
	}
	n, err := config.ParseNode("test", []byte(text), nil, settings)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestNewSaysWhatIsWrong in one line that names what it is about, where it is configured or what would help.
func TestNewSaysWhatIsWrong(t *testing.T) {
	taken := func(network, port string) func(*testing.T, host) {
		return func(t *testing.T, h host) {
			at := fmt.Sprintf("127.0.0.1:%d", h.ports[port])
			if network == "udp" {
				c, err := net.ListenPacket("udp", at)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { c.Close() })
				return
			}
			l, err := net.Listen("tcp", at)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { l.Close() })
		}
	}
	missing := func(name string) func(*testing.T, host) {
		return func(t *testing.T, h host) {
			if err := os.Remove(h.file(name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	holds := func(name, content string) func(*testing.T, host) {
		return func(t *testing.T, h host) { h.write(t, name, content) }
	}
	for name, c := range map[string]struct {
		spoil    func(*testing.T, host)
		embedded bool
		want     []string
	}{
		"no certificate":    {missing("tls/member.crt"), false, []string{"tls/member.crt", "tls_dir"}},
		"no key":            {missing("tls/member.key"), false, []string{"tls/member.key", "tls_dir"}},
		"no authority":      {missing("tls/ca.crt"), false, []string{"tls/ca.crt", "tls_dir"}},
		"no such thing":     {holds("tls/member.crt", "hello"), false, []string{"tls_dir"}},
		"no secret":         {missing("secret"), false, []string{"/secret", "secret_file", "copy it"}},
		"short secret":      {holds("secret", "short\n"), false, []string{"/secret", "secret_file", "16 characters"}},
		"no token":          {missing("token"), false, []string{"/token", "token_file"}},
		"blank token":       {holds("token", strings.Repeat(" ", 40)), false, []string{"/token", "token_file", "16 characters"}},
		"beats' port taken": {taken("udp", "beat"), false, []string{"ports.beat", "ss -ltnup"}},
		"write port taken":  {taken("tcp", "write"), false, []string{"ports.write", "ss -ltnup"}},
		"read port taken":   {taken("tcp", "read"), false, []string{"ports.read", "ss -ltnup"}},
		"health port taken": {taken("tcp", "health"), false, []string{"ports.health", "ss -ltnp"}},
		"admin port taken":  {taken("tcp", "admin"), false, []string{"ports.admin", "ss -ltnp"}},
		"peers' port taken": {taken("tcp", "etcd_peer"), true, []string{"ports.etcd_peer", "ss -ltnup"}},
		"client port taken": {taken("tcp", "etcd_client"), true, []string{"ports.etcd_client", "ss -ltnup"}},
		"state is a file":   {holds("state", ""), false, []string{"state directory", "/state"}},
		"foreign promise":   {promised(`{"cluster":"main","member":"pg1","term":3}`), false, []string{"promise.json", "another node's"}},
		"damaged promise":   {promised(`{"clus`), false, []string{"promise.json"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			c.spoil(t, h)
			cfg := h.config(t)
			if c.embedded {
				cfg.Etcd.Endpoints = nil
			}
			n, err := New(cfg, quiet)
			if err == nil {
				cancelled, cancel := context.WithCancel(t.Context())
				cancel()
				t.Fatal("nothing is wrong", n.Run(cancelled))
			}
			for _, w := range c.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q does not say %q", err, w)
				}
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("more than a line: %q", err)
			}
		})
	}
}

// TestNewThatFailsLateLeavesNothingOpen: whoever mends what is wrong and tries again in the same process finds the ports free.
func TestNewThatFailsLateLeavesNothingOpen(t *testing.T) {
	h := newHost(t)
	cfg := h.config(t)
	promise := h.file("state/promise.json")
	if err := os.MkdirAll(filepath.Dir(promise), 0o700); err != nil {
		t.Fatal(err)
	}
	h.write(t, "state/promise.json", `{"clus`) // read last
	for range 2 {
		if n, err := New(cfg, quiet); err == nil || !strings.Contains(err.Error(), "promise.json") {
			t.Fatalf("%v, %v", n, err)
		}
	}
	if err := os.Remove(promise); err != nil {
		t.Fatal(err)
	}
	n, err := New(cfg, quiet)
	if err != nil {
		t.Fatal(err)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if err := n.Run(cancelled); err != nil {
		t.Error(err)
	}
}

func promised(content string) func(*testing.T, host) {
	return func(t *testing.T, h host) {
		if err := os.MkdirAll(h.file("state"), 0o700); err != nil {
			t.Fatal(err)
		}
		h.write(t, "state/promise.json", content)
	}
}

// TestStopsWhole: a member that has begun to run ends when told to, with everything it has opened closed again.
func TestStopsWhole(t *testing.T) {
	h := newHost(t)
	for range 2 { // the second finds every port free
		n, err := New(h.config(t), quiet)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- n.Run(ctx) }()
		for n.Snapshot() == nil {
			select {
			case err := <-ended:
				t.Fatal("it ended by itself:", err)
			case <-n.viewChanged.wait():
			case <-time.After(10 * time.Millisecond):
			}
		}
		cancel()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
	}
}

// bare is a node of three data members with a store in memory and nothing that runs but its router's ports.
func bare(t *testing.T, self string) (*Node, *mem.Store) {
	t.Helper()
	h := newHost(t)
	text := "cluster: main\nname: " + self + "\nstate_dir: " + h.file("state") + "\nmembers:\n"
	for i, m := range []string{"pg1", "pg2", "pg3"} {
		text += fmt.Sprintf("  - {name: %s, address: 127.0.0.%d}\n", m, i+1)
	}
	cfg, err := config.ParseNode("test", []byte(text), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	shared := mem.New()
	s := shared.Open()
	t.Cleanup(func() { s.Close() })
	n := &Node{cfg: cfg, log: quiet, version: "test", kick: make(chan struct{}, 1), store: store.New(s, "main"), outward: notify.New(notify.Config{Log: quiet})}
	n.agreed.log, n.agreed.cfg = quiet, cfg.Bootstrap
	founders := cfg.Founders()
	n.members.Store(&founders)
	if err := n.openAddresses(); err != nil {
		t.Fatal(err)
	}
	n.router, err = router.New(router.Config{Write: []string{"127.0.0.1:0"}, Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	if n.api, err = api.New(api.Config{Source: n, Log: quiet}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ended, cancel := context.WithCancel(context.Background())
		cancel()
		if err := n.router.Run(ended); err != nil {
			t.Error(err)
		}
	})
	return n, s
}

// reigning is what pg1 sees while it reigns in term 2 over pg2 and pg3, all well.
func reigning(n *Node) cluster.View {
	c := n.agreed.get()
	return cluster.View{
		Now: time.Hour, Since: time.Minute, Self: n.cfg.Name, Members: *n.members.Load(), Settings: c.Settings(), StoreOK: true,
		State: &cluster.State{
			Cluster: "main", SystemID: "7", Term: 2, Phase: cluster.Reigning, Primary: "pg1", Last: "pg1", Timeline: 2, Fork: 100,
			Rule: cluster.NewRule(1, "pg2", "pg3"), Reason: "test", By: "pg2", Steps: []cluster.Step{{Name: "election begun", At: 1700000000000}},
		},
		Reports: map[string]cluster.Report{}, Promised: 2,
		Postgres: cluster.Postgres{
			Data: cluster.DataReady, SystemID: "7", Running: true, Up: true, Position: cluster.Position{Timeline: 2, LSN: 5000},
		},
		Admitted: 2, LeaseFrom: time.Hour,
		Peers: map[string]cluster.Peer{"pg2": standby(4000), "pg3": standby(4500)},
	}
}

func standby(replayed cluster.LSN) cluster.Peer {
	return cluster.Peer{Heard: time.Hour - 50*time.Millisecond, Beat: cluster.Beat{
		Term: 2, Promised: 2, Attached: 2, Position: cluster.Position{Timeline: 2, LSN: 4800}, Replayed: replayed,
		Data: cluster.DataReady, Up: true, Recovery: true, Readable: true,
	}}
}

// TestEtcdListensAsTheRest of the member does: where its file says, and at an address rather than a name.
func TestEtcdListensAsTheRest(t *testing.T) {
	for setting, want := range map[string]string{"listen=0.0.0.0": "0.0.0.0", "listen=localhost": "127.0.0.1"} {
		h := newHost(t)
		n := &Node{cfg: h.config(t, setting), log: quiet}
		n.cfg.Etcd.Endpoints = nil
		if err := errors.Join(n.makeDirs(), n.loadTLS(), n.prepareEtcd()); err != nil {
			t.Fatal(err)
		}
		if err := n.etcd.close(); err != nil {
			t.Error(err)
		}
		c, err := embed.Load(n.etcd.config)
		if err != nil || c.Listen != want {
			t.Errorf("%s: etcd listens on %q, %v", setting, c.Listen, err)
		}
	}
}

// TestStateDirIsOneMembers: a second member on the same state directory is refused, whatever its ports are, until the first ends.
func TestStateDirIsOneMembers(t *testing.T) {
	cfg := newHost(t).config(t)
	if err := InUse(cfg.StateDir); err != nil {
		t.Error("nobody has run yet:", err)
	}
	first := &Node{cfg: cfg, log: quiet}
	if err := errors.Join(first.makeDirs(), first.lock()); err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("a member runs on %s already (pid %d)", cfg.StateDir, os.Getpid())
	_, err := New(cfg, quiet)
	for _, err := range []error{err, InUse(cfg.StateDir)} {
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if err := first.close(); err != nil {
		t.Error(err)
	}
	if err := InUse(cfg.StateDir); err != nil {
		t.Error("the first has ended:", err)
	}
}
