package router

import (
	"cmp"
	"crypto/tls"
	"fmt"
	"log/slog"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"standfast/cluster"
)

// Config says where to listen and how much to carry. The zero value of each field is usable: with no listen address at all nothing is carried.
type Config struct {
	Write []string // listen addresses (host:port) of the writing side
	Read  []string // listen addresses (host:port) of the reading side; may be empty

	// MaxSessions bounds the clients of both sides together, waiting ones included. 0: as many as the limit of open
	// files allows (each session needs two).
	MaxSessions int

	Limits Limits // to begin with; SetLimits changes them

	// Certificate returns PostgreSQL's own certificate, to answer an error inside TLS: a client with sslmode=require
	// shows no other. It is called for each such error. nil: such clients learn only that there is no TLS.
	Certificate func() (*tls.Certificate, error)

	Cancels Cancels // how CancelRequests are carried

	Log     *slog.Logger // nil: slog.Default()
	Workers int          // event loops; 0: one for each processor that Go may use, at most 4
}

// Limits are what may change while the router runs.
type Limits struct {
	MaxPerServer int // sessions to one server, from this router; 0: no limit
	Queue        int // clients of one side that may wait for a server below MaxPerServer; beyond it: FATAL 53300

	// HoldFor is how long a new connection waits for a server: while a primary is being chosen, while the server can't be
	// reached, in the queue. 0: not at all, it is refused at once.
	HoldFor time.Duration

	ReadLag cluster.LSN // standbys further behind get no new sessions, in bytes; 0: no bound

	LogSessions bool // tell the log of each session when it has ended, 50 a second at most; the rest is counted

	// ReadGrace is how long the sessions of a standby are kept that is no read target any more while a primary is being
	// chosen. A standby leaves the read targets in every election and is mostly back within a second; its sessions needn't
	// know. It prolongs the bound of a stale read, so it must not exceed the lease. 0: they are cut at once.
	ReadGrace time.Duration
}

func (l Limits) check() error {
	switch {
	case l.MaxPerServer < 0:
		return fmt.Errorf("router: MaxPerServer is %d, it can't be negative", l.MaxPerServer)
	case l.Queue < 0:
		return fmt.Errorf("router: Queue is %d, it can't be negative", l.Queue)
	case l.HoldFor < 0 || l.ReadGrace < 0:
		return fmt.Errorf("router: HoldFor is %s and ReadGrace %s, they can't be negative", l.HoldFor, l.ReadGrace)
	}
	return nil
}

const (
	// maxWorkers and one per processor. One loop carries more than PostgreSQL answers on several, but where more want to run than there
	// are processors, a thread gets its share of them and no more: with 64 clients on two processors one loop passed on a sixth less
	// than HAProxy's two threads.
	maxWorkers = 4

	spareFiles = 256 // open files left to everything else in the process
)

// withDefaults fills what was left zero and rejects what makes no sense.
func (c Config) withDefaults() (Config, error) {
	if len(c.Write) == 0 && len(c.Read) > 0 {
		return c, fmt.Errorf("router: no listen address for the writing side")
	}
	if err := c.Limits.check(); err != nil {
		return c, err
	}
	for name, n := range map[string]int{"MaxSessions": c.MaxSessions, "Workers": c.Workers} {
		if n < 0 {
			return c, fmt.Errorf("router: %s is %d, it can't be negative", name, n)
		}
	}
	c.Workers = cmp.Or(c.Workers, min(runtime.GOMAXPROCS(0), maxWorkers))
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.MaxSessions == 0 {
		c.MaxSessions = sessionsByFiles()
	}
	return c, nil
}

// sessionsByFiles is how many sessions the limit of open files leaves room for.
func sessionsByFiles() int {
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
		return 1024
	}
	files := int(min(lim.Cur, 1<<20))
	return max((files-spareFiles)/2, 16)
}
