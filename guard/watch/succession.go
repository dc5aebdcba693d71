package watch

import (
	"golang.org/x/sys/unix"

	"standfast/guard/feed"
)

// answerTime is how long a guard waits for its predecessor's answer, in nanoseconds.
const answerTime = 1_000_000_000

// address is the abstract socket of a member's guard: it needs no file system and vanishes with its owner.
func (g *guard) address() *unix.SockaddrUnix { return &unix.SockaddrUnix{Name: "@" + g.name} }

func socket() (int, error) {
	return unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
}

// succeed takes over from the guard before this one, if there is one: see the package comment.
func (g *guard) succeed() {
	fd, err := socket()
	if err != nil {
		say("socket: " + err.Error())
		return
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, g.address()); err != nil {
		return // nobody there
	}
	if !ours(fd) {
		say("another user holds the socket @" + g.name)
		return
	}
	send(fd, &feed.Message{Kind: feed.Take})
	m, err := g.await(fd)
	if err != nil || m.Kind != feed.State {
		say("the guard before this one does not answer; it stays armed")
		return
	}
	g.held = m
	g.held.Seq = 0 // it counted another agent's feeds
	g.setTimer()
	send(fd, &feed.Message{Kind: feed.Taken})
	g.await(fd) // its end, which frees the socket's name
}

// await receives the predecessor's answer, or that it has ended.
func (g *guard) await(fd int) (feed.Message, error) {
	for end := feed.Now() + answerTime; ; {
		m, err := g.receive(fd)
		left := end - feed.Now()
		if err != unix.EAGAIN || left <= 0 {
			return m, err
		}
		// Go's runtime interrupts system calls now and then, so that one poll is not enough.
		unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(left/1_000_000)+1)
	}
}

// listenForHeir binds the socket, as soon as its previous owner has gone.
func (g *guard) listenForHeir() {
	if g.listen >= 0 {
		return
	}
	fd, err := socket()
	if err != nil {
		return
	}
	if unix.Bind(fd, g.address()) != nil || unix.Listen(fd, 4) != nil {
		unix.Close(fd)
		return
	}
	g.listen = fd
}

// attendHeir answers a successor and reports whether it has taken over.
func (g *guard) attendHeir() (taken bool) {
	if g.heir < 0 && g.listen >= 0 {
		if fd, _, err := unix.Accept4(g.listen, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK); err == nil {
			g.heir = fd
		}
	}
	for g.heir >= 0 {
		m, err := g.receive(g.heir)
		switch {
		case err == unix.EAGAIN:
			return false
		case err == nil && ours(g.heir) && m.Kind == feed.Take:
			state := g.held
			state.Kind = feed.State
			if g.firing && g.clean {
				state.Deadline = 0 // done
			}
			send(g.heir, &state)
		case err == nil && ours(g.heir) && m.Kind == feed.Taken:
			return true
		default:
			unix.Close(g.heir)
			g.heir = -1
		}
	}
	return false
}

func send(fd int, m *feed.Message) {
	unix.Sendto(fd, m.Append(nil), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, nil) // a message lost leaves both armed
}

func (g *guard) receive(fd int) (feed.Message, error) {
	n, _, err := unix.Recvfrom(fd, g.buf[:], unix.MSG_DONTWAIT)
	if err != nil {
		return feed.Message{}, err
	}
	return feed.Parse(g.buf[:n])
}

// ours reports whether the other end is the same user or root: anyone may connect to an abstract socket.
func ours(fd int) bool {
	c, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	return err == nil && (c.Uid == 0 || int(c.Uid) == unix.Geteuid())
}
