package guard

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// program is the guard's own, built for the tests.
var program string

func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "guard":
			os.Exit(Main(os.Args[2:]))
		case "agent":
			os.Exit(agent(os.Args[2:]))
		}
	}
	dir, err := os.MkdirTemp("", "guard")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	program = filepath.Join(dir, "standfast-guard")
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", program, "./standfast-guard")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		os.RemoveAll(dir)
		os.Exit(code)
	}))
}

// agent is a process that starts a guard, says its process id, and feeds it until it is killed or refused.
func agent(args []string) int {
	name, data := args[0], args[1]
	deadline, _ := time.ParseDuration(args[2])
	every, _ := time.ParseDuration(args[3])
	g, err := Start(context.Background(), Config{Name: name, Program: args[4]})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("guard", g.Status().PID)
	fed := false
	for {
		err := g.Feed(deadline, Target{Data: data})
		if err != nil {
			fmt.Println("error", err)
			return 0
		}
		if !fed {
			fed = true
			fmt.Println("fed")
		}
		time.Sleep(every)
	}
}

// postgres is a data directory with processes that look like PostgreSQL's.
type postgres struct {
	t    *testing.T
	data string
	bin  string
}

func newPostgres(t *testing.T) *postgres {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	p := &postgres{t: t, data: filepath.Join(dir, "data"), bin: filepath.Join(dir, "postgres")}
	if err := os.Mkdir(p.data, 0o700); err != nil {
		t.Fatal(err)
	}
	copyProgram(t, "sh", p.bin)
	return p
}

func copyProgram(t *testing.T, name, to string) {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, b, 0o755); err != nil {
		t.Fatal(err)
	}
}

// process is one that was started; dead is closed when it has ended.
type process struct {
	*exec.Cmd
	dead chan struct{}
}

func run(t *testing.T, bin, dir string, args ...string) *process {
	t.Helper()
	p := &process{exec.Command(bin, args...), make(chan struct{})}
	p.Dir = dir
	p.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.Wait()
		close(p.dead)
	}()
	t.Cleanup(func() {
		p.Process.Kill()
		<-p.dead
	})
	return p
}

// stopped is a script that does nothing, without running another program: the shell stops itself.
const stopped = "while :; do kill -STOP $$; done"

func (p *postgres) start() *process { return run(p.t, p.bin, p.data, "-c", stopped) }

func (p *process) dies(t *testing.T, within time.Duration) {
	t.Helper()
	select {
	case <-p.dead:
	case <-time.After(within):
		t.Fatalf("process %d is still alive after %v", p.Process.Pid, within)
	}
}

func (p *process) lives(t *testing.T, during time.Duration) {
	t.Helper()
	select {
	case <-p.dead:
		t.Fatalf("process %d is dead", p.Process.Pid)
	case <-time.After(during):
	}
}

func startGuard(t *testing.T, change func(*Config)) *Guard {
	t.Helper()
	cfg := Config{Name: t.Name(), Program: program}
	if change != nil {
		change(&cfg)
	}
	g, err := Start(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		g.Disarm()
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	return g
}

func (p *postgres) target() Target { return Target{Data: p.data} }

func TestUnfed(t *testing.T) {
	p, other := newPostgres(t), newPostgres(t)
	first, second := p.start(), p.start()
	elsewhere := other.start()
	sleepy := filepath.Join(filepath.Dir(p.data), "psql")
	copyProgram(t, "sh", sleepy)
	shell := run(t, sleepy, p.data, "-c", stopped)
	g := startGuard(t, nil)
	if err := g.Feed(150*time.Millisecond, p.target()); err != nil {
		t.Fatal(err)
	}
	first.lives(t, 50*time.Millisecond)
	first.dies(t, 5*time.Second)
	second.dies(t, 5*time.Second)
	select {
	case <-g.Fired():
	case <-time.After(5 * time.Second):
		t.Fatal("it never told that it fired")
	}
	if err := g.Feed(time.Hour, p.target()); !errors.Is(err, ErrFired) {
		t.Fatalf("Feed after it fired: %v", err)
	}
	elsewhere.lives(t, 0)
	shell.lives(t, 0)

	// Until the agent says that it knows, whatever it starts is killed too.
	p.start().dies(t, 5*time.Second)
	if err := g.Disarm(); err != nil {
		t.Fatal(err)
	}
	if err := g.Feed(time.Hour, p.target()); err != nil {
		t.Fatal(err)
	}
	p.start().lives(t, 300*time.Millisecond)
	if s := g.Status(); s.Fired != 1 || !s.Alive || s.Left < 59*time.Minute || s.AckedSeq != s.LastSeq {
		t.Errorf("status %+v", s)
	}
}

func TestFedInTime(t *testing.T) {
	p := newPostgres(t)
	pg := p.start()
	g := startGuard(t, nil)
	for range 10 {
		if err := g.Feed(time.Second, p.target()); err != nil {
			t.Fatal(err)
		}
		pg.lives(t, 120*time.Millisecond)
	}
	if err := g.Disarm(); err != nil {
		t.Fatal(err)
	}
	pg.lives(t, 1200*time.Millisecond)
}

// A postmaster's children are killed whatever they did to leave it, and while they multiply.
func TestChildrenAndForks(t *testing.T) {
	p := newPostgres(t)
	copyProgram(t, "setsid", filepath.Join(filepath.Dir(p.data), "setsid"))
	pg := run(t, p.bin, p.data, "-c", `../setsid ../postgres -c 'kill -STOP $$' &
		i=0
		while [ $i -lt 3000 ]; do i=$((i+1)); ../postgres -c 'kill -STOP $$' & done
		kill -STOP $$`)
	for deadline := time.Now().Add(5 * time.Second); countIn(t, p) < 10; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("only %d processes", countIn(t, p))
		}
	}
	g := startGuard(t, nil)
	if err := g.Feed(time.Millisecond, p.target()); err != nil {
		t.Fatal(err)
	}
	pg.dies(t, 5*time.Second)
	for deadline := time.Now().Add(5 * time.Second); countIn(t, p) > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d processes are left", countIn(t, p))
		}
	}
}

// countIn counts the living processes in a data directory.
func countIn(t *testing.T, p *postgres) (n int) {
	t.Helper()
	links, err := filepath.Glob("/proc/[0-9]*/cwd")
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		if dir, err := os.Readlink(l); err == nil && dir == p.data {
			n++
		}
	}
	return n
}

// agentProcess is an agent in a process of its own, which can be killed and stopped.
type agentProcess struct {
	*process
	out   *bufio.Scanner
	guard int
}

func startAgent(t *testing.T, p *postgres, deadline, every time.Duration) *agentProcess {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	a := &agentProcess{process: &process{exec.Command(os.Args[0], "agent", t.Name(), p.data, deadline.String(), every.String(), program), make(chan struct{})},
		out: bufio.NewScanner(r)}
	a.Stdout, a.Stderr = w, os.Stderr
	if err := a.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	go func() {
		a.Wait()
		close(a.dead)
	}()
	t.Cleanup(func() {
		a.Process.Kill()
		a.Process.Signal(syscall.SIGCONT)
		<-a.dead
		r.Close()
	})
	a.guard, err = strconv.Atoi(strings.TrimPrefix(a.line(t), "guard "))
	if err != nil {
		t.Fatal(err)
	}
	if got := a.line(t); got != "fed" {
		t.Fatalf("the agent says %q", got)
	}
	return a
}

func (a *agentProcess) line(t *testing.T) string {
	t.Helper()
	if !a.out.Scan() {
		t.Fatalf("the agent said no more: %v", a.out.Err())
	}
	return a.out.Text()
}

// gone waits until a process that is not ours to wait for has ended.
func gone(t *testing.T, pid int) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || bytes.Contains(b, []byte(") Z ")) { // nobody reaps orphans in some containers
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("process %d is still there: %s", pid, b)
		}
	}
}

func TestAgentKilled(t *testing.T) {
	p := newPostgres(t)
	pg := p.start()
	a := startAgent(t, p, time.Second, 20*time.Millisecond)
	pg.lives(t, 1200*time.Millisecond)
	a.Process.Kill()
	pg.lives(t, 500*time.Millisecond) // time for another agent to adopt it
	pg.dies(t, 5*time.Second)
	gone(t, a.guard)
}

func TestAgentStopped(t *testing.T) {
	p := newPostgres(t)
	pg := p.start()
	a := startAgent(t, p, 400*time.Millisecond, 20*time.Millisecond)
	a.Process.Signal(syscall.SIGSTOP)
	pg.dies(t, 5*time.Second)
	a.Process.Signal(syscall.SIGCONT)
	if got := a.line(t); got != "error "+ErrFired.Error() {
		t.Errorf("the agent says %q", got)
	}
}

// The guard is not ended by what ends the agent.
func TestSignalsIgnored(t *testing.T) {
	p := newPostgres(t)
	pg := p.start()
	a := startAgent(t, p, 500*time.Millisecond, 20*time.Millisecond)
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT} {
		syscall.Kill(a.guard, s)
	}
	a.Process.Kill()
	pg.dies(t, 5*time.Second)
}

func TestSuccessorTakesOver(t *testing.T) {
	p := newPostgres(t)
	pg := p.start()
	a := startAgent(t, p, 2*time.Second, 20*time.Millisecond)
	a.Process.Kill()
	<-a.dead
	g := startGuard(t, nil)
	if s := g.Status(); s.Left <= 0 || s.Left > 2*time.Second {
		t.Fatalf("it did not inherit the deadline: %+v", s)
	}
	gone(t, a.guard)
	if err := g.Feed(time.Hour, p.target()); err != nil {
		t.Fatal(err)
	}
	pg.lives(t, 2200*time.Millisecond)
	// And again, so that the socket's name has been passed on.
	next := startGuard(t, nil)
	if s := next.Status(); s.Left < time.Minute {
		t.Fatalf("the third guard did not inherit the deadline: %+v", s)
	}
	select {
	case <-g.Done():
	case <-time.After(5 * time.Second):
		t.Fatal("the second guard did not end")
	}
	if err := g.Feed(time.Hour, p.target()); !errors.Is(err, ErrEnded) {
		t.Errorf("Feed of a guard that was succeeded: %v", err)
	}
}

// A new agent that hangs before its first feed does not leave PostgreSQL unguarded.
func TestSuccessorInheritsDeadline(t *testing.T) {
	p := newPostgres(t)
	pg := p.start()
	a := startAgent(t, p, 2*time.Second, 20*time.Millisecond)
	a.Process.Kill()
	<-a.dead
	g := startGuard(t, nil)
	gone(t, a.guard)
	pg.dies(t, 5*time.Second)
	if err := waitFired(g); err != nil {
		t.Error(err)
	}
}

func waitFired(g *Guard) error {
	select {
	case <-g.Fired():
		return nil
	case <-time.After(5 * time.Second):
		return fmt.Errorf("it never told that it fired: %+v", g.Status())
	}
}

// A predecessor that is stopped is waited for briefly and not forgotten: it kills when it wakes.
func TestStoppedPredecessor(t *testing.T) {
	p := newPostgres(t)
	pg := p.start()
	a := startAgent(t, p, 300*time.Millisecond, 20*time.Millisecond)
	syscall.Kill(a.guard, syscall.SIGSTOP)
	a.Process.Kill()
	<-a.dead
	g := startGuard(t, nil)
	if s := g.Status(); s.Left != 0 {
		t.Fatalf("status %+v", s)
	}
	pg.lives(t, 300*time.Millisecond)
	syscall.Kill(a.guard, syscall.SIGCONT)
	pg.dies(t, 5*time.Second)
	gone(t, a.guard)
}

func TestCloseLeavesArmedGuard(t *testing.T) {
	p := newPostgres(t)
	pg := p.start()
	g := startGuard(t, nil)
	if err := g.Feed(400*time.Millisecond, p.target()); err != nil {
		t.Fatal(err)
	}
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	pg.lives(t, 100*time.Millisecond)
	pg.dies(t, 5*time.Second)
	gone(t, g.Status().PID)
}

func TestCloseEndsDisarmedGuard(t *testing.T) {
	g := startGuard(t, nil)
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	if s := g.Status(); s.Alive {
		t.Errorf("status %+v", s)
	}
}

func TestWatchdog(t *testing.T) {
	p := newPostgres(t)
	dev := filepath.Join(t.TempDir(), "watchdog") // a file takes the bytes; it has no timeout to set, which is told
	if err := os.WriteFile(dev, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	content := func() string { b, _ := os.ReadFile(dev); return string(b) }
	g := startGuard(t, func(c *Config) { c.Watchdog, c.WatchdogTimeout, c.Stderr = dev, time.Second, discard(t) })
	if got := content(); got != "" {
		t.Fatalf("fed %q before the guard was armed", got)
	}
	for range 4 {
		if err := g.Feed(time.Hour, p.target()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(400 * time.Millisecond)
	}
	if got := content(); len(got) < 3 || strings.Contains(got, "V") {
		t.Errorf("fed %q in 1.6 s, a third of a second each", got)
	}
	if err := g.Disarm(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(5 * time.Second); !strings.HasSuffix(content(), "V"); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not released: %q", content())
		}
	}
}

func discard(t *testing.T) *os.File {
	t.Helper()
	f, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// The same code runs from inside a bigger program, and from memory.
func TestOtherWaysToStart(t *testing.T) {
	for name, small := range map[string]func() (fs.File, error){
		"this program": func() (fs.File, error) { return nil, nil },
		"from memory":  func() (fs.File, error) { return os.Open(program) },
	} {
		t.Run(name, func(t *testing.T) {
			fires(t, startGuard(t, func(c *Config) { c.Program, c.small = "", small }))
		})
	}
}

func fires(t *testing.T, g *Guard) {
	t.Helper()
	p := newPostgres(t)
	pg := p.start()
	if err := g.Feed(50*time.Millisecond, p.target()); err != nil {
		t.Fatal(err)
	}
	pg.dies(t, 5*time.Second)
}

// The whole point of a program of its own.
func TestMemory(t *testing.T) {
	g := startGuard(t, nil)
	p := newPostgres(t)
	for range 2000 { // more than a queue's worth, so that what it allocates is collected
		for {
			err := g.Feed(time.Hour, p.target())
			if err == nil {
				break
			}
			if !errors.Is(err, syscall.EAGAIN) {
				t.Fatal(err)
			}
			time.Sleep(time.Millisecond)
		}
	}
	for deadline := time.Now().Add(5 * time.Second); g.Status().AckedSeq != 2000; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%+v", g.Status())
		}
	}
	f, err := os.Open(fmt.Sprintf("/proc/%d/smaps_rollup", g.Status().PID))
	if err != nil {
		t.Skip(err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		var kB int
		if n, _ := fmt.Sscanf(line, "Pss: %d kB", &kB); n == 1 {
			t.Logf("PSS %d kB", kB)
			if kB > 3<<10 {
				t.Errorf("the guard takes %d kB, more than 3 MB:\n%s", kB, b)
			}
			return
		}
	}
	t.Fatalf("no Pss in %s", b)
}

func TestFeedRefusesNonsense(t *testing.T) {
	g := startGuard(t, nil)
	for _, err := range []error{
		g.Feed(0, Target{Data: "/data"}),
		g.Feed(-time.Second, Target{Data: "/data"}),
		g.Feed(time.Second, Target{}),
		g.Feed(time.Second, Target{Data: "data"}),
		g.Feed(time.Second, Target{Data: "/data/"}),
	} {
		if err == nil {
			t.Error("accepted")
		}
	}
	if _, err := Start(context.Background(), Config{Program: program}); err == nil {
		t.Error("started without a name")
	}
	if _, err := Start(context.Background(), Config{Name: "x", Program: "/bin/false"}); !errors.Is(err, ErrEnded) {
		t.Errorf("a program that ends: %v", err)
	}
}
