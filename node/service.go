package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/coreos/go-systemd/v22/dbus"
	"golang.org/x/sys/unix"

	"standfast/api"
	"standfast/cluster"
)

// leaveBound is for handing the role over while the host is going down. systemd waits for longer.
const leaveBound = 30 * time.Second

// service tells the service manager how this member is, if there is one (sd_notify(3)): that it is ready, what it does, and,
// as long as the agent's loop goes round, that it is alive. Without a service manager it only waits.
func (n *Node) service(ctx context.Context) {
	every, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		n.log.Warn("the service manager's watchdog is not fed", "error", err)
	}
	pace := time.Second
	if every > 0 {
		pace = min(pace, every/4)
	}
	n.notify(daemon.SdNotifyReady)
	tick := time.NewTicker(pace)
	defer tick.Stop()
	said := ""
	for {
		if text := n.statusLine(); text != said {
			said = text
			n.notify("STATUS=" + text)
		}
		if s := n.status.Load(); every > 0 && (s == nil || time.Since(s.Observed) < every/2) {
			n.notify(daemon.SdNotifyWatchdog)
		}
		select {
		case <-ctx.Done():
			n.notify(daemon.SdNotifyStopping)
			return
		case <-tick.C:
		}
	}
}

func (n *Node) notify(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		n.log.Warn("tell the service manager", "state", state, "error", err)
	}
}

// statusLine is what systemctl status shows.
func (n *Node) statusLine() string {
	s := n.status.Load()
	switch {
	case s == nil || s.Term == 0:
		return "waiting for the cluster"
	case s.Primary == n.cfg.Name && s.Me() != nil && s.Me().Writable:
		return fmt.Sprintf("primary of term %d", s.Term)
	case s.Primary == "":
		return fmt.Sprintf("term %d: electing", s.Term)
	}
	return fmt.Sprintf("term %d: %s is the primary", s.Term, s.Primary)
}

// leave hands the role over if this host is going down: an orderly shutdown costs a switchover, not a failover. When only
// the service is stopped, restarted or upgraded, PostgreSQL goes on for the next agent to take over.
func (n *Node) leave(ctx context.Context) {
	v := n.view.Load()
	if v == nil || v.State == nil || v.State.Primary != n.cfg.Name || v.State.Phase != cluster.Reigning || !hostStopping(ctx) {
		return
	}
	n.log.Info("this host is going down: handing the role over")
	ctx, cancel := context.WithTimeout(ctx, leaveBound)
	defer cancel()
	r := api.SwitchoverRequest{Leader: n.cfg.Name, By: api.By{Operator: "shutdown of " + n.cfg.Name}}
	if err := n.Switchover(ctx, r, func(p api.Progress) { n.log.Info("handing the role over", "step", p.Step, "text", p.Text) }); err != nil {
		n.log.Warn("the role was not handed over; the others will elect", "error", err)
	}
}

// hostStopping asks systemd whether the host is being shut down. Where that can't be asked, it is not.
func hostStopping(ctx context.Context) bool {
	if os.Getenv("NOTIFY_SOCKET") == "" {
		return false // not a service
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	bus, err := dbus.NewSystemConnectionContext(ctx)
	if err != nil {
		return false
	}
	defer bus.Close()
	state, err := bus.SystemStateContext(ctx)
	return err == nil && state.Value.Value() == "stopping"
}

// restarting asks systemd whether this service is being stopped to be started again: by systemctl restart, or by a package's
// upgrade. Where that can't be asked, it is not.
func restarting(ctx context.Context) bool {
	if os.Getenv("NOTIFY_SOCKET") == "" {
		return false // not a service
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	bus, err := dbus.NewSystemConnectionContext(ctx)
	if err != nil {
		return false
	}
	defer bus.Close()
	unit, err := bus.GetUnitNameByPID(ctx, uint32(os.Getpid()))
	if err != nil {
		return false
	}
	jobs, err := bus.ListJobsContext(ctx)
	return err == nil && slices.ContainsFunc(jobs, func(j dbus.JobStatus) bool { return j.Unit == unit && j.JobType == "restart" })
}

// unitFile is where the server's service finds what to start, "" if PostgreSQL is no service.
func (n *Node) unitFile() (string, error) {
	if n.cfg.Postgres.Unit == "" {
		return "", nil
	}
	dir := os.Getenv("RUNTIME_DIRECTORY")
	if dir == "" {
		return "", errors.New("postgres.unit works only in a service with RuntimeDirectory=standfast, as standfast.service is; leave it empty to start PostgreSQL without systemd")
	}
	return filepath.Join(dir, "postgres.json"), nil
}

// defaultWatchdog is the kernel's first watchdog device ("The Linux Watchdog driver API").
const defaultWatchdog = "/dev/watchdog"

// watchdog is the device for the guard, "": none.
func (n *Node) watchdog() (string, error) {
	switch path := n.cfg.Watchdog; path {
	case "off":
		return "", nil
	case "auto":
		if unix.Access(defaultWatchdog, unix.W_OK) != nil {
			return "", nil
		}
		return defaultWatchdog, nil
	default:
		if err := unix.Access(path, unix.W_OK); err != nil {
			return "", fmt.Errorf("watchdog: %s: %w (the rule for udev in packaging gives it to the user postgres)", path, err)
		}
		return path, nil
	}
}
