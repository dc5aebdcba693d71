package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"standfast/agent"
	"standfast/api"
	"standfast/beat"
	"standfast/cluster"
	"standfast/config"
	"standfast/logs"
	"standfast/postgres"
	"standfast/relay"
	"standfast/router"
)

func (n *Node) openBeats() error {
	key, err := n.secret()
	if err != nil {
		return err
	}
	n.beats, err = beat.New(beat.Config{
		Self: n.cfg.Name, Listen: n.cfg.ListenAt(n.cfg.Self().Ports.Beat), Key: key, Interval: 100 * time.Millisecond,
		Peers: n.beatAddresses, Log: n.log.With("part", "beats"), Stale: func() time.Duration { return n.agreed.settings().Detect },
		Told: func(from string, body []byte) { n.addresses.told(from, body) },
	})
	return portTaken(err, "heartbeats", "ports.beat")
}

// addressBook is where the members of one list hear beats.
type addressBook struct {
	members *[]cluster.Member
	former  *[]cluster.Member
	of      map[string]string
}

// beatAddresses is asked for at every datagram; the map is made once for each list of members, and never changed.
func (n *Node) beatAddresses() map[string]string {
	members, former := n.members.Load(), n.former.Load()
	if b := n.beatBook.Load(); b != nil && b.members == members && b.former == former {
		return b.of
	}
	b := &addressBook{members: members, former: former, of: map[string]string{}}
	for _, m := range slices.Concat(n.formers(), *members) { // those of before are told that they are
		if m.Beat != "" && m.Name != n.cfg.Name {
			b.of[m.Name] = m.Beat
		}
	}
	n.beatBook.Store(b)
	return b.of
}

func (n *Node) openPostgres() error {
	if !n.data() {
		return nil
	}
	bin, version, err := postgres.FindBinDir(n.cfg.Postgres.BinDir)
	if err != nil {
		return err
	}
	n.log.Info("found PostgreSQL", "bin_dir", bin, "version", version)
	n.cfg.Postgres.BinDir = bin
	if n.pgUnitFile, err = n.unitFile(); err != nil {
		return err
	}
	n.pg = postgres.New(n.postgresConfig())
	n.relay, err = relay.New(relay.Config{
		Dir: n.relayDir(), Port: n.cfg.Self().Ports.Postgres, Self: n.cfg.Name, Log: n.log.With("part", "relay"),
		TLS: func() *tls.Config { return n.tls.client.Clone() },
	})
	return err
}

func (n *Node) relayDir() string { return filepath.Join(n.runDir(), "relay") }

// postgresConfig is what the server is run with: this member's file and what is agreed.
func (n *Node) postgresConfig() postgres.Config {
	c := n.agreed.get()
	return postgres.Config{
		Name: n.cfg.Name, BinDir: n.cfg.Postgres.BinDir, DataDir: n.cfg.Postgres.DataDir, WALDir: n.cfg.Postgres.WALDir,
		SocketDir: n.runDir(), Listen: n.cfg.ListenHost(), Port: n.cfg.Self().Ports.Postgres,
		LogFile: n.postgresLog(), Superuser: "postgres",
		RelayDir: n.relayDir(), RelayPort: n.cfg.Self().Ports.Postgres,
		CA: n.tls.files.CA, Cert: n.tls.files.Cert, Key: n.tls.files.Key,
		Parameters: parameters(c), HBA: c.PostgreSQL.HBA, Ident: c.PostgreSQL.Ident, Slots: slots(c), ReplicationClients: replicationClients(c),
		Members: n.dataMembers(), PasswordDir: filepath.Join(n.cfg.StateDir, "passwords"),
		Unit: n.cfg.Postgres.Unit, UnitFile: n.pgUnitFile,
	}
}

func (n *Node) openRouter() error {
	ports := n.cfg.Self().Ports
	var write, read []string
	if n.cfg.Routing == config.BuiltIn {
		write, read = append(n.floatingAt(ports.Write), n.cfg.ListenAt(ports.Write)), append(n.floatingAt(ports.Read), n.cfg.ListenAt(ports.Read))
	}
	var err error
	n.router, err = router.New(router.Config{
		Write: write, Read: read,
		Limits: routerLimits(n.agreed.get()), Cancels: n.cancels(), Log: n.log.With("part", "router"),
		Certificate: func() (*tls.Certificate, error) {
			cert, err := tls.LoadX509KeyPair(n.tls.files.Cert, n.tls.files.Key)
			return &cert, err
		},
	})
	return portTaken(err, "the router", "ports.write, ports.read")
}

// cancels has the PostgreSQL of each host asked by its own member whether a session may be cancelled.
func (n *Node) cancels() router.Cancels {
	c := router.Cancels{Self: n.cfg.Name, RouterOf: func(member string) string {
		for _, m := range *n.members.Load() {
			if m.Name == member {
				return m.Write
			}
		}
		return ""
	}}
	if n.pg != nil {
		c.Here, c.Sealed = n.pg.Cancel, n.pg.CancelSealed
	}
	return c
}

// readGrace keeps a standby's sessions through an election, within the lease that bounds how stale a read may be.
const readGrace = time.Second

func routerLimits(c config.Cluster) router.Limits {
	return router.Limits{
		MaxPerServer: c.Router.MaxSessions, Queue: c.Router.MaxWaiting, HoldFor: time.Duration(c.Router.Wait), LogSessions: c.Router.LogSessions,
		ReadLag: cluster.LSN(c.Router.ReadMaxLagBytes), ReadGrace: min(readGrace, time.Duration(c.Lease)),
	}
}

func (n *Node) openAPI() error {
	token, err := os.ReadFile(n.cfg.TokenFile)
	if err != nil {
		return fmt.Errorf("read the operators' token: %w (token_file in the member's file; any 16 or more random characters)", err)
	}
	want := []byte(strings.TrimSpace(string(token)))
	if len(want) < 16 {
		return fmt.Errorf("the operators' token in %s is shorter than 16 characters (token_file in the member's file)", n.cfg.TokenFile)
	}
	ports, examiner := n.cfg.Self().Ports, n.examiner()
	n.api, err = api.New(api.Config{
		Health: []string{n.cfg.ListenAt(ports.Health)}, Admin: []string{n.cfg.ListenAt(ports.Admin)},
		TLS: n.tls.open, Source: n, Ops: n, Log: n.log.With("part", "api"),
		Stale: time.Duration(n.agreed.get().Lease),
		Join:  n.desk(), Others: n.tls.client, Events: &n.events, Logs: n.logs(), Audit: n.audit, Salvage: n.salvage(),
		Facts:  func(ctx context.Context, brief bool) (any, error) { return examiner.Gather(ctx, brief) },
		Tokens: n.tokens(want), Grants: n, Support: n.dossier, Slots: n.slotLister(),
	})
	if err != nil {
		return err
	}
	if err := n.api.Listen(context.Background()); err != nil {
		return fmt.Errorf("%w (ports.health and ports.admin in the member's file)", err)
	}
	return nil
}

func (n *Node) postgresLog() string { return filepath.Join(n.cfg.StateDir, "log", "postgresql.log") }

// logs are this member's, for whoever reads those of all.
func (n *Node) logs() *logs.Member {
	m := &logs.Member{Name: n.cfg.Name, Ring: &n.lines}
	if n.data() {
		m.File = n.postgresLog()
	}
	return m
}

func (n *Node) openAgent() error {
	cfg := agent.Config{
		Self: n.cfg.Name, Cluster: n.cfg.Cluster, StateDir: n.cfg.StateDir, Store: n.store, Beats: n.beats, Router: n.router,
		Log: n.log.With("part", "agent"), Settings: n.agreed.settings, OnView: n.onView, Asked: n.asked, Extra: n.completeBeat,
		Probe: relay.Probe, Members: func() []cluster.Member { return *n.members.Load() },
	}
	var err error
	if n.pg != nil {
		cfg.Postgres, cfg.Relay = starter{n.pg, n}, n.relay
		if n.guard, err = n.startGuard(context.Background()); err != nil {
			return err
		}
		cfg.Guard, cfg.Release = n.guard, n.addresses.release
	}
	n.agent, err = agent.New(cfg)
	n.addresses.inherit(n.guard.left()) // not earlier: the agent is told of what is found
	return err
}

// portTaken says what to do about a port that something else has.
func portTaken(err error, what, key string) error {
	if !errors.Is(err, syscall.EADDRINUSE) {
		return err
	}
	var op *net.OpError
	at := ""
	if errors.As(err, &op) && op.Addr != nil {
		at = " " + op.Addr.String()
	}
	return fmt.Errorf("open the port of %s%s: %w (find who has it with: ss -ltnup; or set %s in the member's file)", what, at, err, key)
}

// completeBeat adds what only the node knows.
func (n *Node) completeBeat(b *cluster.Beat) {
	st := n.router.Stats()
	for _, s := range st.Sides {
		b.Sessions += int32(s.Sessions)
	}
	b.Draining = slices.Contains(n.agreed.get().Drained, n.cfg.Name)
	b.PendingRestart = len(n.waiting().Restart) > 0
	b.Addresses = n.addresses.held()
	if b.Note == "" {
		b.Note = n.slotNote()
	}
}

func (n *Node) lastNote() string {
	if s := n.status.Load(); s != nil && s.Me() != nil {
		return s.Me().Note
	}
	return ""
}

func (n *Node) storeKind() string {
	if n.etcd != nil {
		return "embedded"
	}
	return "external"
}

func (n *Node) routerStatus(r cluster.Route) api.Router {
	st := n.router.Stats()
	listen := func(port int) string {
		if n.cfg.Routing != config.BuiltIn {
			return "" // another program does
		}
		return n.cfg.ListenAt(port)
	}
	side := func(i router.Side, port int, target string) api.Side {
		s := st.Sides[i]
		return api.Side{
			Listen: listen(port), Target: target, Hold: r.Hold, Why: r.Why,
			Sessions: s.Sessions, Waiting: s.Held + s.Queued, Accepted: s.Accepted, Refused: s.Refused, Cut: s.Cut,
			Received: s.In, Sent: s.Out,
		}
	}
	ports := n.cfg.Self().Ports
	read := r.Write
	if len(r.Reads) > 0 {
		read = r.Reads[0].Name
	}
	return api.Router{
		Write: side(router.WriteSide, ports.Write, r.Write), Read: side(router.ReadSide, ports.Read, read), Backends: backends(st.Servers, n.agreed.get().Router.MaxSessions),
		Cancels: st.Cancels, CancelsWithheld: st.Withheld, CancelsLost: st.CancelsLost,
	}
}

// backends are the servers that have sessions of this router, or are sent some now.
func backends(servers []router.ServerStats, limit int) (out []api.Backend) {
	for _, s := range servers {
		for side, name := range map[router.Side]string{router.WriteSide: "write", router.ReadSide: "read"} {
			if n := s.Sides[side].Sessions; n > 0 || s.Primary && side == router.WriteSide || s.Standby && side == router.ReadSide {
				out = append(out, api.Backend{Member: s.Name, Side: name, Sessions: n, Limit: limit, Draining: s.Draining})
			}
		}
	}
	slices.SortFunc(out, func(a, b api.Backend) int { return strings.Compare(a.Side+a.Member, b.Side+b.Member) })
	return out
}

// abandon closes what Run would have run and closed.
func (n *Node) abandon() error {
	var err error
	if n.beats != nil {
		err = n.beats.Close()
	}
	if n.relay != nil {
		n.relay.Close()
	}
	if n.router != nil {
		n.router.Close()
	}
	if n.api != nil {
		n.api.Close()
	}
	return err
}

func (n *Node) close() error {
	var err error
	err = n.guard.close()
	n.guard = nil
	if n.etcd != nil {
		err = errors.Join(err, n.etcd.close())
	}
	if n.storeClose != nil {
		err = errors.Join(err, n.storeClose())
	}
	if n.locked != nil { // last: what has to be alone on the directory has ended
		err = errors.Join(err, n.locked.Close())
		n.locked = nil
	}
	return err
}
