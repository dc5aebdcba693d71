//go:build e2e

package netlab_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"standfast/test/netlab"
)

var (
	lab *netlab.Lab
	all context.Context // ends when the tests are interrupted
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if err := netlab.Missing(); err != nil {
		fmt.Println("SKIP: no whole machines can be booted here:", err)
		return 0
	}
	var stop context.CancelFunc
	all, stop = signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	logf := func(format string, args ...any) { fmt.Printf(format+"\n", args...) }
	began := time.Now()
	var err error
	if lab, err = netlab.Start(all, netlab.Config{Logf: logf}); err != nil {
		fmt.Println(err)
		return 1
	}
	logf("%d hosts booted in %.1f s", len(lab.Hosts), time.Since(began).Seconds())
	code := m.Run()
	if err := lab.Close(); err != nil {
		fmt.Println(err)
		code = 1
	}
	return code
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// reaches pings once.
func reaches(from, to *netlab.Host) bool {
	ctx, cancel := context.WithTimeout(all, 5*time.Second)
	defer cancel()
	_, err := from.Run(ctx, "ping", "-n", "-c", "1", "-W", "1", to.Addr.String())
	return err == nil
}

// topology fails unless exactly the given pairs, "pg1>pg2", don't get an answer.
func topology(t *testing.T, deaf ...string) {
	t.Helper()
	for _, a := range lab.Hosts {
		for _, b := range lab.Hosts {
			want := !strings.Contains(" "+strings.Join(deaf, " ")+" ", " "+a.Name+">"+b.Name+" ")
			if a != b && reaches(a, b) != want {
				t.Errorf("%s reaches %s: %v, want %v", a.Name, b.Name, !want, want)
			}
		}
	}
}

func TestCuts(t *testing.T) {
	pg1, pg2 := lab.Hosts[0], lab.Hosts[1]
	topology(t)
	ok(t, lab.Cut(all, pg1))
	topology(t, "pg1>pg2", "pg2>pg1", "pg1>pg3", "pg3>pg1")
	ok(t, lab.Heal(all))
	ok(t, lab.CutPair(all, pg1, pg2))
	topology(t, "pg1>pg2", "pg2>pg1")
	ok(t, lab.Heal(all))
	topology(t)
}

// TestOneWay: a ping needs both ways, so what arrives is looked at instead.
func TestOneWay(t *testing.T) {
	pg1, pg2 := lab.Hosts[0], lab.Hosts[1]
	ok(t, lab.CutOneWay(all, pg1, pg2))
	defer func() { ok(t, lab.Heal(all)) }()
	received := func(h *netlab.Host) string {
		out, err := h.Run(all, "cat", "/sys/class/net/"+netlab.Interface+"/statistics/rx_packets")
		ok(t, err)
		return strings.TrimSpace(out)
	}
	before := received(pg1)
	ok(t, shell(pg2, "ip neigh replace "+pg1.Addr.String()+" lladdr 02:00:00:00:00:0b dev "+netlab.Interface))
	for range 3 {
		if reaches(pg2, pg1) {
			t.Fatal("an answer went through a cut")
		}
	}
	if after := received(pg1); after == before {
		t.Error("nothing arrives though only the other way is cut")
	}
	ok(t, shell(pg2, "ip neigh flush all"))
}

func shell(h *netlab.Host, script string) error {
	_, err := h.Shell(all, script)
	return err
}

// roundTrips pings in a quick row and returns how many answers came and their mean time.
func roundTrips(t *testing.T, from, to *netlab.Host, n int) (answers int, mean float64) {
	t.Helper()
	out, _ := from.Run(all, "ping", "-n", "-q", "-i", "0.01", "-c", fmt.Sprint(n), "-W", "1", to.Addr.String()) // its status says that some were lost
	for line := range strings.Lines(out) {
		if strings.Contains(line, " received") {
			_, err := fmt.Sscanf(line, "%d packets transmitted, %d received", new(int), &answers)
			ok(t, err)
		}
		if _, figures, is := strings.Cut(line, " = "); is {
			_, err := fmt.Sscanf(figures, "%f/%f/", new(float64), &mean)
			ok(t, err)
		}
	}
	return answers, mean
}

func TestLoss(t *testing.T) {
	ok(t, lab.Loss(all, lab.Hosts[0], 0.3))
	defer func() { ok(t, lab.Heal(all)) }()
	if n, _ := roundTrips(t, lab.Hosts[0], lab.Hosts[1], 300); n < 75 || n > 225 { // 147 are expected: both ways are lossy
		t.Errorf("%d of 300 round trips at 30 %% loss", n)
	}
	if n, _ := roundTrips(t, lab.Hosts[1], lab.Hosts[2], 100); n != 100 {
		t.Errorf("%d of 100 round trips between hosts without loss", n)
	}
}

func TestDelay(t *testing.T) {
	ok(t, lab.Delay(lab.Hosts[0], 20*time.Millisecond, 5*time.Millisecond))
	defer func() { ok(t, lab.Heal(all)) }()
	if n, mean := roundTrips(t, lab.Hosts[0], lab.Hosts[1], 50); n < 45 || mean < 35 {
		t.Errorf("%d of 50 round trips, %.1f ms each, at 20 ms one way", n, mean)
	}
	ok(t, lab.Heal(all))
	if _, mean := roundTrips(t, lab.Hosts[0], lab.Hosts[1], 50); mean > 15 {
		t.Errorf("round trips still take %.1f ms", mean)
	}
}

func TestPause(t *testing.T) {
	h := lab.Hosts[0]
	ok(t, shell(h, "sh -c 'while :; do date +%s%N >/root/beat; sleep 0.01; done' >/dev/null 2>&1 & echo $! >/root/beat.pid"))
	ok(t, h.Pause(all))
	defer func() {
		ok(t, h.Resume(all))
		topology(t)
		ok(t, shell(h, "kill $(cat /root/beat.pid)"))
	}()
	beat := func() string {
		b, err := os.ReadFile(h.Root() + "/root/beat")
		ok(t, err)
		return string(b)
	}
	first := beat()
	time.Sleep(200 * time.Millisecond) // the time in which nothing may happen
	if beat() != first {
		t.Error("a paused host goes on working")
	}
	if reaches(lab.Hosts[1], h) {
		t.Error("a paused host answers")
	}
}

// TestPowerOff: nobody is told of the end of a host, and its disk is as it was.
func TestPowerOff(t *testing.T) {
	h := lab.Hosts[2]
	ok(t, shell(h, "echo kept >"+netlab.StateDir+"/file; ip addr add 10.99.0.77/24 dev "+netlab.Interface+""))
	ok(t, h.PowerOff())
	if h.Up() {
		t.Error("up without power")
	}
	if reaches(lab.Hosts[0], h) {
		t.Error("a host without power answers")
	}
	began := time.Now()
	ok(t, h.Boot(all))
	t.Logf("booted in %.1f s", time.Since(began).Seconds())
	out, err := h.Shell(all, "cat "+netlab.StateDir+"/file; ip addr")
	ok(t, err)
	if !strings.HasPrefix(out, "kept\n") || strings.Contains(out, "10.99.0.77") {
		t.Errorf("after a loss of power the disk must be as it was and the card bare: %s", out)
	}
	topology(t)
}

func TestReboot(t *testing.T) {
	h := lab.Hosts[1]
	id := func() string {
		out, err := h.Shell(all, "systemctl show -p UserspaceTimestampMonotonic --value")
		ok(t, err)
		return out
	}
	before := id()
	ok(t, h.Reboot(all))
	if id() == before {
		t.Error("not rebooted")
	}
	topology(t)
}

func TestDisk(t *testing.T) {
	h := lab.Hosts[0]
	ok(t, h.FillDisk(1<<20))
	if err := shell(h, "dd if=/dev/zero of="+netlab.StateDir+"/big bs=1M count=4 conv=fsync"); err == nil || !strings.Contains(err.Error(), "No space left") {
		t.Errorf("writing to a full disk: %v", err)
	}
	ok(t, h.FreeDisk())
	ok(t, shell(h, "rm -f "+netlab.StateDir+"/big"))
	ok(t, h.StallDisk(all))
	wrote := make(chan error, 1)
	go func() {
		wrote <- shell(h, "dd if=/dev/zero of="+netlab.StateDir+"/small bs=1k count=1 conv=fsync")
	}()
	select {
	case err := <-wrote:
		t.Errorf("a write to a disk that hangs ended: %v", err)
	case <-time.After(300 * time.Millisecond):
	}
	ok(t, h.ContinueDisk(all))
	ok(t, <-wrote)
}

func TestDial(t *testing.T) {
	h := lab.Hosts[0]
	ok(t, shell(h, "systemctl start ssh"))
	conn, err := lab.Dial(all, "tcp", net.JoinHostPort(h.Addr.String(), "22"))
	ok(t, err)
	defer conn.Close()
	hello := make([]byte, 4)
	ok(t, conn.SetReadDeadline(time.Now().Add(5*time.Second)))
	if _, err := conn.Read(hello); err != nil || string(hello) != "SSH-" {
		t.Errorf("read %q, %v", hello, err)
	}
	if _, err := lab.Dial(all, "tcp", "localhost:22"); err == nil {
		t.Error("a name was dialled on a network without names")
	}
}

func TestSignal(t *testing.T) {
	h := lab.Hosts[0]
	ok(t, shell(h, "systemctl start ssh"))
	pick := func(p netlab.Process) bool { return p.Name == "sshd" }
	ok(t, h.Signal(syscall.SIGKILL, pick))
	ok(t, shell(h, "while systemctl -q is-active ssh; do sleep 0.05; done; systemctl reset-failed ssh"))
	if err := h.Signal(syscall.SIGKILL, func(netlab.Process) bool { return false }); err == nil {
		t.Error("a signal to nobody succeeded")
	}
}
