package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"standfast/agent"
	"standfast/api"
	"standfast/beat"
	"standfast/certs"
	"standfast/cluster"
	"standfast/config"
	"standfast/events"
	"standfast/logs"
	"standfast/notify"
	"standfast/postgres"
	"standfast/recovery"
	"standfast/relay"
	"standfast/router"
	"standfast/store"
)

// Version is what this member says it is; the command line sets it to what the linker has stamped.
var Version = "dev"

// Node is one member. Make it with New, run it with Run.
type Node struct {
	cfg     config.Node
	log     *slog.Logger
	version string
	started time.Time

	file string // this member's; see File

	agreed agreed
	store  *store.Cluster
	etcd   *etcd
	tls    tlsFiles

	pg         *postgres.Server // nil on a witness
	pgUnitFile string
	relay      *relay.Relay // nil on a witness
	beats      *beat.Beats
	router     *router.Router
	agent      *agent.Agent
	guard      *guarded // nil on a witness
	api        *api.Server

	addresses *addresses
	events    events.Book
	keeper    *events.Keeper
	outward   *notify.Notifier
	lines     logs.Ring // what this member logs
	watched   watched   // the agent's loop only

	over        *recovery.Over // this host's cluster was founded anew elsewhere: nothing of the below runs but the API
	members     atomic.Pointer[[]cluster.Member]
	former      atomic.Pointer[[]cluster.Member] // of the founding before; nil: none is known
	beatBook    atomic.Pointer[addressBook]
	view        atomic.Pointer[cluster.View]
	status      atomic.Pointer[api.Status]
	entries     atomic.Pointer[[]api.Entry]
	applying    sync.Mutex              // held while PostgreSQL's parameters are put in force
	applied     atomic.Pointer[applied] // what came of it the last time
	receivers   atomic.Pointer[receivers]
	lostSlots   atomic.Pointer[[]string] // logical ones; nil: none, or not the primary
	impostors   chan struct{}            // end them now
	stale       atomic.Bool              // what PostgreSQL may have has changed since, with its role
	viewChanged broadcast                // of view and applied

	membersChanged broadcast
	departed       map[string]bool // members whose slots are to go; keepHouse only

	asking      sync.Mutex             // held while a request is recorded
	stoodBy     atomic.Pointer[string] // the ID of the newest request that the store has acknowledged
	storeClose  func() error
	locked      *os.File // see lock
	lastMark    mark
	drained     []string // members that the router keeps new sessions away from; the agent's loop only
	wasUp       bool     // the agent's loop only, as wasStandby
	wasStandby  bool
	lastReplay  cluster.LSN   // of a standby that was behind, at the last look; keepHouse only
	kick        chan struct{} // keep house now
	leader      atomic.Pointer[string]
	grants      atomic.Pointer[map[string]store.Grant] // operators' tokens, as agreed
	gauges      gauges
	changes     changes   // keepHouse only, but for what it tells
	behindSince time.Time // the agent's loop only, as lastMark
}

// New prepares the member: it reads certificates and secrets, finds PostgreSQL and opens its ports, so that whatever is
// wrong with the host is told before anything runs.
func New(cfg config.Node, log *slog.Logger) (*Node, error) {
	n := &Node{cfg: cfg, version: Version, started: time.Now(), kick: make(chan struct{}, 1), impostors: make(chan struct{}, 1)}
	n.log = slog.New(n.lines.Tee(log.Handler()))
	n.agreed.log, n.agreed.cfg = n.log, cfg.Bootstrap
	founders := make([]cluster.Member, 0, len(cfg.Members))
	for _, m := range cfg.Members {
		founders = append(founders, m.Member())
	}
	n.members.Store(&founders)
	for _, step := range []func() error{n.makeDirs, n.lock, n.loadTLS, n.openOver, n.openStore, n.openEvents, n.openBeats, n.openPostgres, n.openRouter, n.openAPI, n.openAddresses, n.openAgent} {
		if n.over != nil {
			break
		}
		if err := step(); err != nil {
			return nil, errors.Join(err, n.abandon(), n.close())
		}
	}
	return n, nil
}

// Run works until ctx ends, then stops everything in order; PostgreSQL goes on. An error names what failed; ErrOver says that the
// cluster was founded anew without this member, and that a node made afresh stays out; ErrHalted,
// that an operator has shut the cluster down.
//
// From the agent's last look to its successor's first nobody feeds the guard, and all of it has to fit into the lease. So what
// takes long, etcd's orderly stop, comes first, while the agent still works with the other members' etcd.
func (n *Node) Run(ctx context.Context) (err error) {
	defer func() { err = errors.Join(err, n.close()) }()
	if n.over != nil {
		return n.stayOver(ctx)
	}
	// Of the rest, what others rely on outlives what relies on it: first the agent stops, then what carries and tells.
	base, stopBase := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stopBase(errors.New("node stopped"))
	g, gctx := errgroup.WithContext(base)
	stopEtcd := func() {}
	if n.etcd != nil {
		ectx, stop := context.WithCancel(gctx)
		defer stop()
		ended := make(chan struct{})
		g.Go(func() error { defer close(ended); n.etcd.run(ectx); return nil })
		stopEtcd = func() { stop(); <-ended }
	}
	g.Go(func() error { return named("beats", n.beats.Run(behind(gctx, n.addresses.over, 2*cutFor))) })
	cut := make(chan struct{})
	g.Go(func() error { defer close(cut); return named("router", n.router.Run(gctx)) })
	g.Go(func() error { return named("api", n.api.Run(gctx)) })
	g.Go(func() error { return named("addresses", n.addresses.run(behind(gctx, cut, cutFor))) })
	g.Go(func() error { n.service(gctx); return nil })
	if n.guard != nil {
		g.Go(func() error { n.guard.run(gctx); return nil })
	}
	if n.relay != nil {
		g.Go(func() error { return named("relay", n.relay.Run(gctx)) })
	}
	work, stopWork := context.WithCancelCause(gctx)
	defer stopWork(errors.New("node stopped"))
	w, wctx := errgroup.WithContext(work)
	w.Go(func() error { return named("store", n.seed(wctx)) })
	w.Go(func() error { return named("agent", n.agent.Run(wctx)) })
	w.Go(func() error { return n.keepHouse(wctx) })
	w.Go(func() error { return n.keeper.Run(wctx) })
	w.Go(func() error { return n.outward.Run(wctx) })
	w.Go(func() error { return n.keepLogical(wctx) })
	w.Go(func() error { return n.keepCertificates(wctx) })
	w.Go(func() error { return n.seedAuthority(wctx) })
	w.Go(func() error { return n.keepReceivers(wctx) })
	w.Go(func() error { return n.keepMeasures(wctx) })
	w.Go(func() error { return n.keepKnown(wctx) })
	w.Go(func() error { return n.endOver(wctx) })
	w.Go(func() error { return n.endHalted(wctx) })
	w.Go(func() error {
		select {
		case <-ctx.Done():
			n.leave(wctx)
			if n.guard.left() > 0 && restarting(wctx) { // else nobody would take them off if no agent followed
				n.addresses.stay()
			}
			n.guard.leave()
			stopEtcd()
			stopWork(context.Cause(ctx))
		case <-wctx.Done():
		}
		return nil
	})
	werr := w.Wait()
	stopBase(errors.New("node stopped"))
	return errors.Join(unlessCancelled(werr), unlessCancelled(g.Wait()))
}

// behind is a context that ends after ctx, when what it waits for is done or has taken too long. What relies on another part to
// the end is so stopped before it: sessions are cut while the floating address is here, from which their clients are told, and the
// others are told that it is here no more.
func behind(ctx context.Context, done <-chan struct{}, most time.Duration) context.Context {
	late, end := context.WithCancelCause(context.WithoutCancel(ctx))
	context.AfterFunc(ctx, func() {
		select {
		case <-done:
		case <-time.After(most):
		}
		end(context.Cause(ctx))
	})
	return late
}

const cutFor = 200 * time.Millisecond

func named(what string, err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	return fmt.Errorf("%s: %w", what, err)
}

func unlessCancelled(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

func (n *Node) makeDirs() error {
	for _, d := range []string{n.cfg.StateDir, n.runDir(), filepath.Join(n.cfg.StateDir, "log")} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return fmt.Errorf("make the state directory: %w", err)
		}
	}
	return nil
}

// runDir holds the sockets of this member. A socket's path may have 107 bytes at most.
func (n *Node) runDir() string { return filepath.Join(n.cfg.StateDir, "run") }

func (n *Node) data() bool { return n.cfg.Self().Kind != cluster.Witness }

// tlsFiles are the member's certificate and key and the cluster's CA.
type tlsFiles struct {
	files  certs.Files
	open   *tls.Config // for operators, who show a token and need no certificate
	client *tls.Config
}

func (n *Node) loadTLS() error {
	n.tls.files = certs.In(n.cfg.TLSDir)
	var err error
	if n.tls.open, err = certs.OpenTLS(n.tls.files); err == nil {
		n.tls.client, err = certs.ClientTLS(n.tls.files)
	}
	if err != nil {
		return fmt.Errorf("%w (tls_dir in the member's file; it needs ca.crt, and member.crt and member.key of this member)", err)
	}
	// No reason to stay out: sessions that are there go on, and a clock may be set right later.
	if err := n.tls.files.Valid(n.started); err != nil {
		n.log.Error("the other members will refuse this one", "error", err)
	}
	return nil
}

// secret reads the key that authenticates heartbeats.
func (n *Node) secret() ([]byte, error) {
	b, err := os.ReadFile(n.cfg.SecretFile)
	if err != nil {
		return nil, fmt.Errorf("read the cluster's secret: %w (secret_file in the member's file; copy it from another member)", err)
	}
	if s := strings.TrimSpace(string(b)); len(s) >= 16 {
		return []byte(s), nil
	}
	return nil, fmt.Errorf("the cluster's secret in %s is shorter than 16 characters (secret_file in the member's file; copy it from another member)", n.cfg.SecretFile)
}

func (n *Node) dataMembers() []string {
	var out []string
	for _, m := range *n.members.Load() {
		if m.Kind == cluster.Data {
			out = append(out, m.Name)
		}
	}
	return out
}

// StopPostgres stops this member's server in order, for whoever ends the member and its host's service for good.
func (n *Node) StopPostgres() error {
	if n.pg == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	running, err := n.pg.Running()
	if err != nil || !running {
		return err
	}
	if err := n.pg.Stop(ctx, postgres.Fast); err != nil {
		return errors.Join(err, n.pg.KillAll(ctx))
	}
	return nil
}
