package peers

import (
	"context"
	"fmt"
	"time"

	"standfast/test/netlab"
	"standfast/test/netlab/site"
)

// Stack is one that runs on three hosts. Applications reach it at site.Floating, port site.WritePort, and on the same port of every
// host; the role app may use the database app from the lab's network without a password.
type Stack interface {
	// Name is what tables call it.
	Name() string
	// With names the versions of what it consists of.
	With() string
	Lab() *netlab.Lab
	// Whole boots every host that is off, and waits until three servers work with each other and the floating address is at the
	// primary's host, which it returns. What the stack leaves broken is repaired as by hand.
	Whole(ctx context.Context) (*netlab.Host, error)
	// Primary is the server whose history goes on: of all that take writes the one on the newest timeline.
	Primary(ctx context.Context) (*netlab.Host, error)
	// Switchover moves the primary with the stack's own command.
	Switchover(ctx context.Context, from, to *netlab.Host) error
	Close() error
}

// Starters are the stacks by their names.
var Starters = map[string]func(ctx context.Context, cfg Config) (Stack, error){
	"standfast": startStandfast, "guide": startGuide, "patroni": startPatroni,
}

// Config says how to start a stack.
type Config struct {
	Binary   string   // Standfast's program, statically linked
	Settings []string // of Standfast's members, "key=value"
	Logf     func(format string, args ...any)
}

// diskSize is of each host's disk: what repmgr's guide keeps of WAL alone is 1 GB.
const diskSize = 6 << 30

// wholeTime bounds Whole, which may have to clone two servers.
const wholeTime = 5 * time.Minute

func (c Config) lab(prepare func(*netlab.Host, string) error) netlab.Config {
	return netlab.Config{Image: Image, DiskSize: diskSize, Logf: c.Logf, Prepare: func(h *netlab.Host, root string) error {
		if err := disable(root); err != nil {
			return err
		}
		return prepare(h, root)
	}}
}

// DSN leads to a port of a host or of the floating address, for the application.
func DSN(address string, port int) string {
	return fmt.Sprintf("host=%s port=%d user=app dbname=app sslmode=disable connect_timeout=2", address, port)
}

// FloatingDSN is where applications write.
func FloatingDSN() string { return DSN(site.Floating.String(), site.WritePort) }
