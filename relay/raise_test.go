package relay

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"standfast/cluster"
)

// queued is how many bytes wait in a socket to be read.
func queued(t *testing.T, c syscall.Conn) (n int) {
	t.Helper()
	rc, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	rc.Control(func(fd uintptr) { n, err = unix.IoctlGetInt(int(fd), unix.TIOCINQ) })
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// The copy loops are stuck in the middle of a write when the term is raised: what they hold in their buffers must not
// follow when the readers wake up.
func TestRaiseDropsBuffered(t *testing.T) {
	r := open(t, nil)
	recv, prim := stream(t, r, 1)
	var wg sync.WaitGroup
	for _, c := range []net.Conn{recv, prim} {
		wg.Go(func() {
			b := make([]byte, 64<<10)
			for {
				if _, err := c.Write(b); err != nil {
					return
				}
			}
		})
	}
	// Full means that neither side's queue grows any more, though both are written to all the time.
	for before := [2]int{-1, -1}; ; time.Sleep(20 * time.Millisecond) {
		now := [2]int{queued(t, recv), queued(t, prim)}
		if now == before && now[0] > 0 && now[1] > 0 {
			break
		}
		before = now
	}
	r.Raise(2)
	limits := [2]int{queued(t, recv), queued(t, prim)}
	wg.Wait()
	for i, c := range []net.Conn{recv, prim} {
		c.SetReadDeadline(time.Now().Add(5 * time.Second))
		n, _ := io.Copy(io.Discard, c)
		if int(n) > limits[i] {
			t.Errorf("side %d read %d bytes, only %d had arrived when Raise returned", i, n, limits[i])
		}
	}
}

// A mark is one message of the stress test: the term that its sender belongs to (0: a receiver) and the term that had
// been raised when it was sent.
const markSize = 16

func mark(from, raised uint64) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, from), raised)
}

// Primaries of many terms and a restless receiver talk through the relay as fast as they can, while others attach,
// detach and raise. Every message says which term had been raised, for certain, when it was sent; no primary and no
// receiver may ever get a message sent after a later term than the primary's had been raised.
func TestNoByteAfterRaise(t *testing.T) {
	const terms = 40
	r := open(t, nil)
	w := &stress{t: t, r: r}
	ctx, cancel := context.WithCancel(context.Background())
	var ends, primaries sync.WaitGroup
	addrs := make([]string, terms+1)
	for i := 1; i <= terms; i++ {
		p := listenPrimary(t)
		addrs[i] = p.addr()
		primaries.Go(func() { w.reign(p, uint64(i)) })
		defer p.Close()
	}
	ends.Go(func() {
		for ctx.Err() == nil {
			w.receive(ctx)
		}
	})
	for range 3 {
		ends.Go(func() {
			for ctx.Err() == nil {
				n := min(max(w.raised.Load()+rand.N(uint64(3)), 1)-1, terms) // at times the term just left behind
				r.Attach(cluster.Term(n), cluster.Timeline(n), addrs[n])
				if rand.N(20) == 0 {
					r.Detach("stress")
				}
				r.Status()
				time.Sleep(rand.N(2 * time.Millisecond))
			}
		})
	}
	for term := uint64(1); term <= terms; term++ {
		time.Sleep(rand.N(20 * time.Millisecond))
		r.Raise(cluster.Term(term))
		w.raise(term)
	}
	cancel()
	r.Raise(terms + 1)
	w.raise(terms + 1)
	ends.Wait()
	w.close()
	primaries.Wait()
	if w.passed.Load() == 0 {
		t.Error("nothing was carried at all")
	}
	t.Logf("%d messages passed", w.passed.Load())
}

type stress struct {
	t      *testing.T
	r      *Relay
	raised atomic.Uint64
	passed atomic.Int64

	mu     sync.Mutex
	closed bool
	conns  []net.Conn
	lns    []net.Listener
}

// raise notes that Raise(term) has returned. Terms raised by an Attach are not noted, which only makes the test milder.
func (w *stress) raise(term uint64) { w.raised.Store(term) }

func (w *stress) keep(c net.Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.conns = append(w.conns, c)
	return !w.closed
}

func (w *stress) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	for _, c := range w.conns {
		c.Close()
	}
	for _, l := range w.lns {
		l.Close()
	}
}

// reign is the primary of one term.
func (w *stress) reign(p primary, term uint64) {
	w.mu.Lock()
	w.lns = append(w.lns, p)
	w.mu.Unlock()
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		c, err := p.AcceptTCP()
		if err != nil {
			return
		}
		wg.Go(func() {
			defer c.Close()
			if !w.keep(c) {
				return
			}
			for i, want := range [][]byte{hello, whoAreYou, start} {
				got := make([]byte, len(want))
				if _, err := io.ReadFull(c, got); err != nil {
					return
				}
				if !bytes.Equal(got, want) {
					w.t.Errorf("the primary of term %d was sent %q, want %q", term, got, want)
				}
				if i == 1 {
					c.Write(iAm(cluster.Timeline(term)))
				}
				c.Write(message('N', mark(term, w.raised.Load())))
			}
			wg.Go(func() { w.talk(c, term) })
			w.listen(c, term)
		})
	}
}

// receive is the life of one WAL receiver.
func (w *stress) receive(ctx context.Context) {
	c, err := net.Dial("unix", w.r.Path())
	if err != nil {
		w.t.Error(err)
		return
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	if rand.N(10) == 0 {
		c.SetDeadline(time.Now().Add(rand.N(5 * time.Millisecond))) // a receiver that dies by itself
	}
	in := bufio.NewReader(c)
	for _, msg := range [][]byte{hello, whoAreYou, start} {
		if _, err := c.Write(msg); err != nil {
			return
		}
		for answer := []byte{0}; answer[0] != 'N'; { // it goes on only when it has been answered, as a real one does
			var err error
			if answer, err = readMessage(in); err != nil {
				return
			}
			if answer[0] == 'N' {
				w.check(answer[5:], 0)
			}
		}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.talk(c, 0)
	}()
	w.listen(in, 0)
	c.Close()
	<-done
}

func (w *stress) talk(c net.Conn, as uint64) {
	for {
		if _, err := c.Write(mark(as, w.raised.Load())); err != nil {
			return
		}
	}
}

func (w *stress) listen(c io.Reader, as uint64) {
	msg := make([]byte, markSize)
	for {
		if _, err := io.ReadFull(c, msg); err != nil {
			return
		}
		w.check(msg, as)
	}
}

func (w *stress) check(msg []byte, as uint64) {
	w.passed.Add(1)
	from, raised := binary.BigEndian.Uint64(msg), binary.BigEndian.Uint64(msg[8:])
	if term := max(from, as); raised > term {
		w.t.Errorf("a message of term %d was carried that was sent after term %d had been raised", term, raised)
	}
}
