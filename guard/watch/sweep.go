package watch

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// sweeper finds and kills the processes of one PostgreSQL. All it reads is procfs and cgroupfs, by links and not by
// opening what they point to, so a disk that hangs does not hang it.
type sweeper struct {
	proc int
	buf  [8 << 10]byte
	link [4 << 10]byte
}

func (s *sweeper) open() (err error) {
	s.proc, err = unix.Open("/proc", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	return err
}

// look kills every process of PostgreSQL in the data directory and the control group, and returns how many it has sent
// the signal to and how many there were. It is to be repeated until none is left: a process can fork while it looks.
//
// A process belongs to PostgreSQL if it works in the data directory and its program is called postgres. The postmaster
// and its children never leave that directory, whatever session or process group they make.
func (s *sweeper) look(data, cgroup string, kill bool) (killed, left int) {
	if cgroup != "" && kill {
		writeTo(cgroup+"/cgroup.kill", "1")
	}
	if cgroup != "" && s.populated(cgroup) {
		left++
	}
	if data == "" {
		return killed, left
	}
	unix.Seek(s.proc, 0, 0)
	for {
		n, err := unix.ReadDirent(s.proc, s.buf[:])
		if err == unix.EINTR {
			continue
		}
		if err != nil || n <= 0 {
			return killed, left
		}
		_, _, names := unix.ParseDirent(s.buf[:n], -1, nil)
		for _, name := range names {
			pid, err := strconv.Atoi(name)
			if err != nil || !s.belongs(name, data) {
				continue
			}
			left++
			if kill && s.kill(pid, name, data) {
				killed++
			}
		}
	}
}

// belongs reports whether a process is one of PostgreSQL's. A zombie is nobody's: it has neither directory nor program.
func (s *sweeper) belongs(pid, data string) bool {
	return s.readlink(pid+"/cwd") == data && strings.HasSuffix("/"+s.readlink(pid+"/exe"), "/postgres")
}

func (s *sweeper) readlink(path string) string {
	n, err := unix.Readlinkat(s.proc, path, s.link[:])
	if err != nil {
		return ""
	}
	return strings.TrimSuffix(string(s.link[:n]), " (deleted)")
}

// kill looks once more when it holds the process by a descriptor: the number may have been given to another.
func (s *sweeper) kill(pid int, name, data string) bool {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return err == unix.ENOSYS && unix.Kill(pid, unix.SIGKILL) == nil
	}
	defer unix.Close(fd)
	return s.belongs(name, data) && unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0) == nil
}

// populated reports whether a control group has living processes, its children's included ("Control Group v2",
// cgroup.events).
func (s *sweeper) populated(cgroup string) bool {
	fd, err := unix.Open(cgroup+"/cgroup.events", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	n, err := unix.Read(fd, s.link[:])
	return err == nil && strings.Contains(string(s.link[:n]), "populated 1")
}

func writeTo(path, text string) error {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	_, err = unix.Write(fd, []byte(text))
	return err
}
