// Package watch is the guard's own program: it kills PostgreSQL when the agent does not feed it in time.
//
// It does nothing else, on one thread, without touching a disk, so that it still works when the host does not: its code
// lies in memory (see guard.Start) and is locked there, what it reads is procfs, and whom it talks to are sockets. It is
// fed deadlines, not intervals: a feed that was delayed on its way prolongs nothing.
//
// # Succession
//
// An agent that is restarted starts a new guard, while the old one still holds the deadline last fed to it. The new one
// asks the old one for it, over an abstract Unix socket that is named after the member, makes it its own, and only then
// tells the old one to go:
//
//	new → old   Take
//	old → new   State: deadline, target
//	            new is armed with that deadline
//	new → old   Taken
//	            old ends
//
// At every moment some guard is armed with a deadline no later than the last one fed: the old one until Taken has
// arrived, which is sent when the new one is armed already. Whatever breaks in between, the death of either or a lost
// message, leaves one of them or both armed, and both kill the same processes: an error costs a restart of PostgreSQL,
// never an unguarded one. An old guard that is stopped and does not answer is left alone after a second, and kills when
// it wakes. A fired guard that has not finished hands its deadline, already past, over, and the new one fires too.
package watch

import (
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"standfast/guard/feed"
)

// feedFD is where the agent's end of the feeding socket was put.
const feedFD = 3

// guard is the state of the loop. A descriptor that is not open is -1.
type guard struct {
	name   string
	agent  int // the feeding socket
	timer  int // fires at the deadline
	listen int // where a successor asks
	heir   int // a successor that is asking

	held   feed.Message // what is in force: Deadline and target; Seq of the last feed
	fires  uint32       // how often it has fired
	firing bool         // it has fired, and the agent does not know yet or processes are left
	since  int64        // when it fired
	clean  bool         // nothing was left at the last look

	sweep    sweeper
	watchdog watchdog
	buf      [feed.Max]byte
}

// Main is the program. Its arguments are the member's name on this host, the watchdog's device ("": none) and the
// watchdog's timeout in seconds. The feeding socket is descriptor 3.
func Main(args []string) int {
	if len(args) != 3 {
		say("run by standfast, not by hand")
		return 2
	}
	seconds, err := strconv.Atoi(args[2])
	if err != nil {
		say("watchdog's timeout: " + err.Error())
		return 2
	}
	g := &guard{name: args[0], agent: feedFD, listen: -1, heir: -1, watchdog: watchdog{path: args[1], seconds: seconds, fd: -1}}
	if err := g.setup(); err != nil {
		say(err.Error())
		return 1
	}
	g.succeed()
	g.listenForHeir() // before the agent is told that it has a guard
	g.ack()
	g.loop()
	g.watchdog.release()
	return 0
}

// setup prepares what the loop needs, so that nothing is left to be opened when it counts.
func (g *guard) setup() error {
	runtime.LockOSThread()
	debug.SetGCPercent(20)
	// The agent's service manager or terminal ends the agent with these; the guard must outlive it.
	signal.Ignore(syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGPIPE)
	writeTo("/proc/self/comm", "standfast-guard")
	if err := unix.SetNonblock(g.agent, true); err != nil {
		return err
	}
	unix.CloseOnExec(g.agent)
	var err error
	if g.timer, err = unix.TimerfdCreate(unix.CLOCK_BOOTTIME, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK); err != nil {
		return err
	}
	if err := g.sweep.open(); err != nil {
		return err
	}
	g.sweep.look("/nowhere", "", false) // so that this code is in memory before it is locked
	if missing := harden(); missing != nil {
		say("warning: not permitted, done without: " + strings.Join(missing, ", "))
	}
	return nil
}

// harden makes the process hard to swap out, to starve and to choose as the victim when memory runs out. It returns
// what was not permitted, and what would permit it.
func harden() (missing []string) {
	if unix.Mlockall(unix.MCL_CURRENT|unix.MCL_FUTURE|unix.MCL_ONFAULT) != nil {
		missing = append(missing, "locking its memory (LimitMEMLOCK=infinity)")
	}
	if unix.Setpriority(unix.PRIO_PROCESS, 0, -20) != nil {
		missing = append(missing, "raising its priority (LimitNICE=-20)")
	}
	if writeTo("/proc/self/oom_score_adj", "-1000") != nil {
		missing = append(missing, "exempting itself from the OOM killer (OOMScoreAdjust=-1000)")
	}
	return missing
}

// loop runs until there is nothing left to guard: disarmed with the agent gone, or succeeded.
func (g *guard) loop() {
	for {
		fds := []unix.PollFd{
			{Fd: int32(g.agent), Events: unix.POLLIN},
			{Fd: int32(g.timer), Events: unix.POLLIN},
			{Fd: int32(g.listen), Events: unix.POLLIN},
			{Fd: int32(g.heir), Events: unix.POLLIN},
		}
		unix.Poll(fds, g.patience()) // an error, EINTR, is like a timeout: everything is looked at anew
		g.readFeeds()
		if g.held.Deadline != 0 && !g.firing && feed.Now() >= g.held.Deadline {
			g.fire()
		}
		if g.firing {
			g.kill()
		}
		g.listenForHeir()
		if g.attendHeir() {
			return
		}
		g.watchdog.tick(g.held.Deadline != 0, g.firing && !g.clean)
		if g.agent < 0 && g.held.Deadline == 0 && !g.firing {
			return
		}
	}
}

// patience is how long to wait for an event, in milliseconds; -1: for ever.
func (g *guard) patience() int {
	wait := g.watchdog.patience()
	atMost := func(ms int) {
		if wait < 0 || ms < wait {
			wait = ms
		}
	}
	if g.listen < 0 {
		atMost(50)
	}
	switch {
	case g.firing && g.clean:
		atMost(1000)
	case g.firing && feed.Now()-g.since > int64(time.Second): // what is left sleeps uninterruptibly
		atMost(100)
	case g.firing:
		atMost(5)
	}
	return wait
}

// readFeeds takes in what the agent has sent; the last one counts.
func (g *guard) readFeeds() {
	fresh := false
	for g.agent >= 0 {
		n, _, err := unix.Recvfrom(g.agent, g.buf[:], unix.MSG_DONTWAIT)
		if err == unix.EAGAIN {
			break
		}
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			unix.Close(g.agent)
			g.agent = -1
			break
		}
		m, err := feed.Parse(g.buf[:n])
		if err != nil || m.Kind != feed.Feed {
			say("feed not understood")
			continue
		}
		fresh = true
		// An agent that does not know yet that the guard has fired speaks of a PostgreSQL that is being killed.
		if m.Fires == g.fires {
			g.held, g.firing = m, false
			g.setTimer()
		}
	}
	if fresh {
		g.ack()
	}
}

// ack tells the agent what is in force.
func (g *guard) ack() {
	if g.agent < 0 {
		return
	}
	m := feed.Message{Kind: feed.Ack, Seq: g.held.Seq, Deadline: g.held.Deadline, Fires: g.fires}
	unix.Sendto(g.agent, m.Append(nil), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, nil) // an agent that does not read asks too little
}

// setTimer wakes poll at the deadline. A deadline that is past does so at once.
func (g *guard) setTimer() {
	it := unix.ItimerSpec{}
	if g.held.Deadline != 0 {
		it.Value = unix.NsecToTimespec(g.held.Deadline)
	}
	if err := unix.TimerfdSettime(g.timer, unix.TFD_TIMER_ABSTIME, &it, nil); err != nil {
		say("timer: " + err.Error())
	}
}

// fire begins the killing. The addresses go first: a process in an uninterruptible sleep does not die, and is not
// waited for.
func (g *guard) fire() {
	g.fires++
	g.firing, g.clean, g.since = true, false, feed.Now()
	it := unix.ItimerSpec{} // else its event, which nobody reads, would wake every poll
	unix.TimerfdSettime(g.timer, 0, &it, nil)
	for _, a := range g.held.Addresses {
		if err := RemoveAddress(a); err != nil {
			say("address not removed: " + err.Error())
		}
	}
	killed, _ := g.sweep.look(g.held.Data, g.held.Cgroup, true)
	g.ack()
	if n := len(g.held.Addresses); n > 0 {
		say("not fed in time: removed " + strconv.Itoa(n) + " floating addresses")
	}
	if g.held.Data != "" {
		say("not fed in time: killed " + strconv.Itoa(killed) + " processes of PostgreSQL in " + g.held.Data)
	}
}

// kill looks again until nothing is left, and goes on looking now and then until the agent has acknowledged: it may not
// have noticed and start PostgreSQL again.
func (g *guard) kill() {
	_, left := g.sweep.look(g.held.Data, g.held.Cgroup, true)
	g.clean = left == 0
	if g.clean && g.agent < 0 {
		g.firing, g.held.Deadline = false, 0
	}
}

// say writes one line for the log. It comes after what it tells: the reader may be stopped and the pipe full.
func say(s string) { os.Stderr.WriteString("standfast-guard: " + s + "\n") }
