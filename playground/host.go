package playground

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"standfast/ops/founding"
)

// Host is one member with everything that would be a host's of its own.
type Host struct {
	Name    string
	Address string // 127.0.0.11 and so on
	Dir     string // its files and state
	Witness bool   // it holds no data

	binary string
	cmd    *exec.Cmd
	alive  io.Closer     // closing it tells the member to stop
	done   chan struct{} // closed when the member's process has ended
	err    error         // why, after done
}

// DataDir is where its PostgreSQL keeps the data.
func (h *Host) DataDir() string { return filepath.Join(h.StateDir(), "data") }

// StateDir is where the member keeps its state.
func (h *Host) StateDir() string { return filepath.Join(h.Dir, stateName) }

const stateName = "state"

// File is its configuration.
func (h *Host) File() string { return filepath.Join(h.Dir, founding.FileName) }

// LogFile takes what the member's process prints.
func (h *Host) LogFile() string { return filepath.Join(h.Dir, "standfast.log") }

// Start runs the member in a session of its own, so that a Ctrl-C at the terminal reaches the playground only, and stops it
// should the playground die: then the kernel closes the pipe that is its standard input.
func (h *Host) Start() error {
	log, err := os.OpenFile(h.LogFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("start %s: %w", h.Name, err)
	}
	defer log.Close()
	cmd := exec.Command(h.binary, "run", "--config", h.File(), "--until-eof")
	cmd.Dir, cmd.Stdout, cmd.Stderr = h.Dir, log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	alive, err := cmd.StdinPipe()
	if err != nil {
		return fmt.Errorf("start %s: %w", h.Name, err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", h.Name, err)
	}
	h.cmd, h.alive, h.done = cmd, alive, make(chan struct{})
	go func() {
		h.err = cmd.Wait()
		close(h.done)
	}()
	return nil
}

// Done is closed when the member's process has ended.
func (h *Host) Done() <-chan struct{} { return h.done }

// Ended is how the member's process ended, after Done; nil: in order.
func (h *Host) Ended() error { return h.err }

// PID is the member's own process.
func (h *Host) PID() int { return h.cmd.Process.Pid }

// Processes are all that belong to the member: its own, etcd's, the guard's, PostgreSQL's.
func (h *Host) Processes() []Process { return processesIn(h.Dir) }

// KillPostmaster kills PostgreSQL's first process with SIGKILL, as the out-of-memory killer does.
func (h *Host) KillPostmaster() error {
	pid, err := postmaster(h.DataDir())
	if err != nil {
		return fmt.Errorf("kill the postmaster of %s: %w", h.Name, err)
	}
	return syscall.Kill(pid, syscall.SIGKILL)
}

// Freeze stops every process of the member with SIGSTOP, as a hypervisor stops a guest; Thaw lets them go on.
func (h *Host) Freeze() { signalAll(h.Dir, syscall.SIGSTOP) }

// Thaw lets a frozen member go on.
func (h *Host) Thaw() { signalAll(h.Dir, syscall.SIGCONT) }

// Kill ends every process of the member at once, as a power failure does, and returns when they are gone. Start brings the
// member back.
func (h *Host) Kill() error {
	err := killAll(h.Dir, 10*time.Second)
	if h.cmd != nil {
		_ = h.alive.Close() // nobody reads it any more
		<-h.done
	}
	return err
}

// stop ends the member in order, and by force what is still there after a while.
func (h *Host) stop(grace time.Duration) error {
	if h.cmd == nil {
		return nil
	}
	h.Thaw()
	_ = h.alive.Close() // this is the request
	select {
	case <-h.done:
	case <-time.After(grace):
	}
	return h.Kill()
}

// lastWords are the end of the member's log, for an error.
func (h *Host) lastWords() string {
	b, err := os.ReadFile(h.LogFile())
	if err != nil || len(b) == 0 {
		return errors.Join(errors.New("it left no log"), err).Error()
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(lines[max(0, len(lines)-5):], "\n")
}
