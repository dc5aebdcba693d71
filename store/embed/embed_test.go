package embed_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"standfast/store/embed"
	"standfast/store/etcd"
	"standfast/store/storetest"
)

// parentVar makes the test binary a parent that starts etcd and waits to be killed.
const parentVar = "STANDFAST_TEST_PARENT"

func TestMain(m *testing.M) {
	if file := os.Getenv(parentVar); file != "" && len(os.Args) == 1 {
		c := embed.Start(context.Background(), slog.New(slog.DiscardHandler), os.Args[0], embed.Command, file)
		for c.Pid() == 0 {
			time.Sleep(time.Millisecond)
		}
		fmt.Println(c.Pid())
		select {}
	}
	storetest.Main(m)
}

func TestBootstrap(t *testing.T) {
	for n := 1; n <= 3; n++ {
		t.Run(fmt.Sprint(n, " members"), func(t *testing.T) {
			e := storetest.Start(t, n)
			members, err := e.Admin().Members(t.Context())
			if err != nil || len(members) != n {
				t.Fatalf("members %+v, %v", members, err)
			}
			for i, m := range members {
				if m.Name != e.Nodes[i].Name || m.Learner || m.ClientURL != e.Nodes[i].ClientURL || m.PeerURL != e.Nodes[i].PeerURL {
					t.Errorf("member %+v, started as %+v", m, e.Nodes[i].Config)
				}
			}
			put(t, open(t, e), 3)
		})
	}
}

// TestGrowAndShrink goes from one member to two and back, with the data surviving.
func TestGrowAndShrink(t *testing.T) {
	e := storetest.Start(t, 1)
	a := e.Admin()
	put(t, open(t, e), 5)
	second := e.Prepare("n2")
	var initial map[string]string
	for range 2 { // may be repeated
		var err error
		if initial, err = a.AddLearner(t.Context(), "n2", second.PeerURL); err != nil {
			t.Fatal(err)
		}
	}
	if p, err := a.Place(t.Context(), "n2", second.PeerURL); err != nil || p.Number == "" || p.Started || len(p.Initial) != 2 {
		t.Errorf("a member that was added has the place %+v, %v", p, err)
	}
	if err := a.PromoteLearner(t.Context(), second.PeerURL); !errors.Is(err, embed.ErrNotInSync) {
		t.Errorf("promote a learner that has never started: %v, want ErrNotInSync", err)
	}
	e.Run(second, embed.StateExisting, initial)
	deadline := time.Now().Add(20 * time.Second)
	for err := embed.ErrNoMember; err != nil; err = a.PromoteLearner(t.Context(), "n2") {
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
	}
	e.WaitReady()
	if p, err := a.Place(t.Context(), "n2", second.PeerURL); err != nil || !p.Started {
		t.Errorf("a member that runs has the place %+v, %v", p, err)
	}
	if err := a.PromoteLearner(t.Context(), "n2"); err != nil {
		t.Errorf("promote a member that has its vote: %v", err)
	}
	s, err := etcd.Open(etcd.Config{Endpoints: []string{second.ClientURL}, TLS: e.TLS})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if kvs, err := s.List(t.Context(), "/standfast/"); err != nil || len(kvs) != 5 {
		t.Errorf("the new member holds %d keys, %v", len(kvs), err)
	}
	if _, err := a.MoveLeaderAway(t.Context(), "n2"); err != nil {
		t.Fatal(err)
	}
	deadline = time.Now().Add(20 * time.Second)
	for err := embed.ErrNotSettled; err != nil; err = a.Remove(t.Context(), "n2") {
		if !errors.Is(err, embed.ErrNotSettled) || time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond)
	}
	if err := a.Remove(t.Context(), "n2"); err != nil {
		t.Errorf("remove a member that is not there: %v", err)
	}
	if p, err := a.Place(t.Context(), "n2", second.PeerURL); err != nil || p.Number != "" {
		t.Errorf("a member that was removed has the place %+v, %v", p, err)
	}
	put(t, open(t, e), 5)
	if m, err := a.Members(t.Context()); err != nil || len(m) != 1 {
		t.Errorf("members %+v, %v", m, err)
	}
}

func TestMoveLeaderAway(t *testing.T) {
	e := storetest.Start(t, 3)
	a := e.Admin()
	leader, err := a.Leader(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for range 4 { // round and round
		started := time.Now()
		to, err := a.MoveLeaderAway(t.Context(), leader)
		if err != nil || to == leader || to == "" {
			t.Fatalf("moved from %s to %q: %v", leader, to, err)
		}
		t.Logf("from %s to %s in %s", leader, to, time.Since(started).Round(time.Millisecond))
		if now, err := a.Leader(t.Context()); err != nil || now != to {
			t.Errorf("now %s leads, %v", now, err)
		}
		if again, err := a.MoveLeaderAway(t.Context(), leader); err != nil || again != "" {
			t.Errorf("a member that does not lead: moved to %q, %v", again, err)
		}
		leader = to
	}
	for _, n := range e.Nodes {
		if n.Name != leader {
			defer n.Freeze(t)()
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second) // without a majority nothing answers
	defer cancel()
	if to, err := a.MoveLeaderAway(ctx, leader); err == nil {
		t.Errorf("leadership moved to %q though nobody else is up", to)
	}
}

// TestDiskBound writes many revisions of few keys, some 20 MB, and looks at what is left of it on disk.
func TestDiskBound(t *testing.T) {
	e := storetest.Start(t, 3)
	s, a := open(t, e), e.Admin()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	fill(ctx, t, s, 1200, 16<<10)
	before := usage(t, e.Nodes[0].DataDir)
	leader, err := a.Leader(ctx)
	if err != nil {
		t.Fatal(err)
	}
	fill(ctx, t, s, 1200, 10) // the last thousand revisions are kept, so that large ones have to grow older than that
	var order []string
	for len(order) < 3 { // members free their space each in its own time
		name, err := a.Maintain(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if name != "" {
			order = append(order, name)
		}
	}
	if name, err := a.Maintain(ctx); order[2] != leader || name != "" || err != nil {
		t.Errorf("rewritten in the order %v, then %q, %v; want the leader %s last and nobody after it", order, name, err, leader)
	}
	for _, n := range e.Nodes {
		after := usage(t, n.DataDir)
		t.Logf("%s: %d MB on disk before, %d MB after", n.Name, before>>20, after>>20)
		if after > 48<<20 {
			t.Errorf("%s holds %d bytes after maintenance", n.Name, after)
		}
	}
	put(t, s, 3)
}

// fill makes n revisions of eight keys, with values of that size.
func fill(ctx context.Context, t *testing.T, s *etcd.Store, n, size int) {
	t.Helper()
	const writers = 8
	value := []byte(strings.Repeat("x", size))
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() {
			for range n / writers {
				write(ctx, t, s, fmt.Sprint("/standfast/k", i), value)
			}
		})
	}
	wg.Wait()
}

func TestChildIsStartedAgain(t *testing.T) {
	e := storetest.Start(t, 1)
	n := e.Nodes[0]
	pid := n.Child.Pid()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	put(t, open(t, e), 3)
	if n.Child.Pid() == pid || n.Child.Restarts() == 0 || !strings.Contains(fmt.Sprint(n.Child.Err()), "killed") {
		t.Errorf("pid %d, was %d; %d restarts; %v", n.Child.Pid(), pid, n.Child.Restarts(), n.Child.Err())
	}
}

// TestChildStopsFrozen: a process that can't end by itself is ended.
func TestChildStopsFrozen(t *testing.T) {
	e := storetest.Start(t, 1)
	e.Nodes[0].Freeze(t)
	pid := e.Nodes[0].Child.Pid()
	started := time.Now()
	e.Nodes[0].Child.Stop()
	if d := time.Since(started); d > 8*time.Second {
		t.Errorf("stopping took %s", d)
	}
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("process %d: %v, want it gone", pid, err)
	}
}

// TestStopsInOrderWhileWatched: a client that watches, as every agent does, neither holds the leader up nor keeps it from
// handing its role over first.
func TestStopsInOrderWhileWatched(t *testing.T) {
	e := storetest.Start(t, 3)
	updates := open(t, e).Watch(t.Context(), "/")
	<-updates
	go func() {
		for range updates { // closed with the store
		}
	}()
	leader, err := e.Admin().Leader(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range e.Nodes {
		if n.Name != leader {
			continue
		}
		began := time.Now()
		n.Child.Stop()
		if took := time.Since(began); took >= time.Second {
			t.Errorf("stopped after %s: it has waited for the watch", took)
		}
	}
	if now, err := e.Admin().Leader(t.Context()); err != nil || now == leader {
		t.Errorf("afterwards %q leads, %v", now, err)
	}
}

func TestChildTellsWhy(t *testing.T) {
	c := embed.Start(t.Context(), slog.New(slog.DiscardHandler), os.Args[0], embed.Command, "/nonexistent.json")
	defer c.Stop()
	for c.Err() == nil {
		time.Sleep(5 * time.Millisecond)
	}
	if !strings.Contains(c.Err().Error(), "/nonexistent.json: no such file") {
		t.Errorf("error %q does not name the file", c.Err())
	}
}

// TestParentDies: etcd ends when the process that started it was killed.
func TestParentDies(t *testing.T) {
	e := storetest.Start(t, 1)
	e.Nodes[0].Child.Stop()
	parent := exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), parentVar+"="+e.Nodes[0].File)
	out, err := parent.StdoutPipe()
	if err == nil {
		err = parent.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	var pid int
	line, err := bufio.NewReader(out).ReadString('\n')
	if err == nil {
		_, err = fmt.Sscan(line, &pid)
	}
	if err != nil {
		t.Fatal(err)
	}
	e.WaitReady()
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait() // "signal: killed" is what was asked for
	started := time.Now()
	if err := embed.AwaitOrphan(t.Context(), e.Nodes[0].File); err != nil {
		t.Fatal(err)
	}
	if alive(pid) {
		_ = syscall.Kill(pid, syscall.SIGKILL)
		t.Fatalf("etcd (%d) outlives its parent", pid)
	}
	t.Logf("etcd ended %s after its parent", time.Since(started).Round(time.Millisecond))
}

// alive reports whether the process runs; one that has ended and was not waited for does not.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(stat), ") Z ")
}

// TestStrangers: without a certificate of the cluster's authority nobody gets in.
func TestStrangers(t *testing.T) {
	e := storetest.Start(t, 1)
	for name, config := range map[string]*tls.Config{
		"no certificate":    {RootCAs: e.TLS.RootCAs},
		"another authority": stranger(t, e.TLS),
	} {
		s, err := etcd.Open(etcd.Config{Endpoints: e.Endpoints(), TLS: config})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		if _, err := s.Put(ctx, "/standfast/k", nil); err == nil {
			t.Errorf("%s: written", name)
		}
		cancel()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

func stranger(t *testing.T, of *tls.Config) *tls.Config {
	other := storetest.Start(t, 1).TLS.Clone()
	other.RootCAs = of.RootCAs
	return other
}

func TestConfigIsChecked(t *testing.T) {
	good := embed.Config{
		Name: "a", DataDir: "/d", PeerURL: "https://x:1", ClientURL: "https://x:2", Token: "t", CA: "c", Cert: "c", Key: "k",
		Log: "/l", State: embed.StateNew, InitialCluster: map[string]string{"a": "https://x:1"},
	}
	file := filepath.Join(t.TempDir(), "etcd.json")
	if err := good.Save(file); err != nil {
		t.Fatal(err)
	}
	if got, err := embed.Load(file); err != nil || got.Name != "a" || got.InitialCluster["a"] != "https://x:1" {
		t.Errorf("loaded %+v, %v", got, err)
	}
	for want, spoil := range map[string]func(*embed.Config){
		"key, token not set": func(c *embed.Config) { c.Token, c.Key = "", "" },
		`state is "old"`:     func(c *embed.Config) { c.State = "old" },
		"does not name a":    func(c *embed.Config) { c.InitialCluster = nil },
		"absolute":           func(c *embed.Config) { c.Log = "log" },
	} {
		bad := good
		spoil(&bad)
		if err := bad.Save(file); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q in it", err, want)
		}
	}
}

func open(t testing.TB, e *storetest.Etcd) *etcd.Store {
	t.Helper()
	s, err := etcd.Open(etcd.Config{Endpoints: e.Endpoints(), TLS: e.TLS})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// put writes n small keys.
func put(t *testing.T, s *etcd.Store, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for i := range n {
		write(ctx, t, s, fmt.Sprint("/standfast/p", i), []byte("small"))
	}
}

// write writes the key, again if the outcome is unknown, as it may be while etcd restarts, elects or is busy.
func write(ctx context.Context, t *testing.T, s *etcd.Store, key string, value []byte) {
	t.Helper()
	for ctx.Err() == nil {
		_, err := s.Put(ctx, key, value)
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			t.Error(err)
		}
	}
}

// usage is the space taken on disk, bytes: blocks, as etcd allocates ahead.
func usage(t testing.TB, dir string) int64 {
	t.Helper()
	var sum int64
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil // removed meanwhile
		}
		if err == nil {
			sum += info.Sys().(*syscall.Stat_t).Blocks * 512
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return sum
}
