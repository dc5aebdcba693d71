// Package beat sends and hears the heartbeats between hosts: what each member says of itself, ten times a second and at
// once when it changes, in authenticated UDP datagrams. It is the failure detector's ear; what silence means is decided
// elsewhere.
//
// UDP, because a lost beat should be followed by the next one, not waited for: with 5 % loss the longest gap over TCP
// was above 700 ms, over UDP 400 ms.
//
// # What is believed
//
// A datagram carries an HMAC-SHA256 under the cluster's secret. Against replay, a sender numbers its datagrams, and only
// rising numbers of its present life (incarnation) are heard. Numbers start anew when it is restarted, so a life that is
// not the one known is believed only when its datagram proves to be fresh. No clock could prove that; an echo does: every
// datagram says how late it was, by the receiver's own clock, when its sender last heard the receiver. One that echoes a
// reading of ours, in our own present life, cannot have been made before that reading. It must be recent, and later than
// whatever the life known so far had echoed, so that neither an old recording nor a straggler of the previous life can
// displace the present one. A stranger's datagram is answered at once, so two members know each other after one and a
// half round trips.
//
// So a member that hears but is not heard by another, and is restarted, stays unheard until both ways work.
package beat

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"standfast/cluster"
)

const (
	defaultInterval = 100 * time.Millisecond
	burstGap        = 5 * time.Millisecond  // between the two datagrams that tell a change: losses come in clumps
	answerGap       = 20 * time.Millisecond // at least, between answers to strangers: a replay must not be amplified
	freshness       = 3 * time.Second       // age of an echo that still introduces a new life
	silence         = 5                     // intervals after which a peer's return is told
)

// Config says who speaks, from where, to whom.
type Config struct {
	Self     string                         // the member's name
	Listen   string                         // host:port that is listened on and sent from
	Key      []byte                         // the cluster's secret
	Interval time.Duration                  // between beats; 0: 100 ms
	Stale    func() time.Duration           // nothing is said once Set was not called for so long; nil or 0: it never is stale
	Peers    func() map[string]string       // name → host:port of the others; asked for at every datagram, may change; Self is left out. Not written to
	Told     func(from string, body []byte) // takes in what another has said by Tell; must not block, nor keep the body; nil: nobody
	Log      *slog.Logger
}

// Peer is the newest beat of another member.
type Peer struct {
	cluster.Beat
	HeardAt time.Time // when it was read, with the monotonic clock
}

// Stats counts datagrams since the start.
type Stats struct {
	Sent       uint64
	SendErrors uint64 // refused by the kernel: no route, no permission (nftables), …; the beat is lost, the next one is sent
	Unresolved uint64 // not sent, because the peer's host name has no address
	Heard      uint64 // beats believed
	Forged     uint64 // malformed, or authenticated with another key
	Foreign    uint64 // of nobody among Peers
	Replayed   uint64 // not newer than what was heard
	Unproven   uint64 // of a life not known yet, without a fresh echo; each new life begins with one
}

type counters struct {
	sent, sendErrors, unresolved, heard, forged, foreign, replayed, unproven atomic.Uint64
}

// conn is what is used of a UDP socket.
type conn interface {
	ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error)
	WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error)
	LocalAddr() net.Addr
	Close() error
}

// Beats sends this member's beats and keeps the others'. Its methods may be called from any goroutine.
type Beats struct {
	cfg         Config
	conn        conn
	born        time.Time
	incarnation uint64
	changed     chan struct{}
	kick        chan struct{} // say it now, twice
	answer      chan struct{} // a stranger wants to be answered
	names       *resolver
	stall       stallMeter
	stats       counters

	mu    sync.Mutex
	said  cluster.Beat
	setAt time.Time
	peers map[string]*peer
}

// peer is what is known of another member.
type peer struct {
	beat    cluster.Beat
	heardAt time.Time
	echoed  time.Duration // the latest reading of our clock that a beat of this life has echoed

	last   echo      // of the newest authentic datagram, believed or not: what we echo in turn
	lastAt time.Time // when it was heard

	heard, lost uint64        // beats of this life and the ones before: believed, and missing in their numbers
	trip        time.Duration // smoothed; 0: not measured yet
}

// Link is how well another member is heard.
type Link struct {
	Heard, Lost uint64        // its beats: believed, and sent but never heard
	Trip        time.Duration // there and back, from program to program, smoothed; 0: not known
}

// Links tells about every member that was heard, since the start.
func (b *Beats) Links() map[string]Link {
	b.mu.Lock()
	defer b.mu.Unlock()
	m := make(map[string]Link, len(b.peers))
	for name, p := range b.peers {
		if p.heard > 0 {
			m[name] = Link{p.heard, p.lost, p.trip}
		}
	}
	return m
}

// New binds the socket. The incarnation is the wall clock's reading, which need not rise but is never the same twice.
func New(cfg Config) (*Beats, error) {
	switch {
	case cfg.Self == "":
		return nil, errors.New("beat: the member's own name is missing")
	case len(cfg.Key) < 16:
		return nil, fmt.Errorf("beat: the key has %d bytes, at least 16 are needed", len(cfg.Key))
	case cfg.Peers == nil:
		return nil, errors.New("beat: no function that names the peers")
	}
	if cfg.Interval <= 0 {
		cfg.Interval = defaultInterval
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	addr, err := net.ResolveUDPAddr("udp", cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("beat: %w", err)
	}
	c, err := net.ListenUDP("udp", addr)
	if err != nil {
		return nil, fmt.Errorf("beat: %w", err)
	}
	return newBeats(cfg, c), nil
}

func newBeats(cfg Config, c conn) *Beats {
	now := time.Now()
	return &Beats{
		cfg: cfg, conn: c, born: now, incarnation: uint64(now.UnixNano()),
		changed: make(chan struct{}, 1),
		kick:    make(chan struct{}, 1),
		answer:  make(chan struct{}, 1),
		names:   newResolver(cfg.Log, c.LocalAddr()),
		peers:   make(map[string]*peer),
		setAt:   now,
	}
}

// Addr is the address listened on.
func (b *Beats) Addr() string { return b.conn.LocalAddr().String() }

// Run sends and hears until ctx ends, then says what has been changed last, closes the socket and returns nil.
func (b *Beats) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { b.send(ctx); return b.conn.Close() })
	g.Go(func() error { return b.listen(ctx) })
	g.Go(func() error { b.names.run(ctx); return nil })
	return g.Wait()
}

// Close closes the socket of Beats that are never run; Run does it by itself.
func (b *Beats) Close() error { return b.conn.Close() }

// Amend changes what is said, at once, when whoever sets it has stopped.
func (b *Beats) Amend(change func(*cluster.Beat)) {
	b.mu.Lock()
	change(&b.said)
	b.mu.Unlock()
	signal(b.kick)
}

// Set gives what to say from now on. It is sent at once, twice, if it differs in what others act on; positions, the
// number of sessions and the stall go with the next beat. From, Incarnation, Seq and StallMS are filled in here.
func (b *Beats) Set(said cluster.Beat) {
	said.Suspects, said.Hears = slices.Clone(said.Suspects), slices.Clone(said.Hears)
	b.mu.Lock()
	news := !sameMeaning(b.said, said)
	news = news || b.stale()
	b.said, b.setAt = said, time.Now()
	b.mu.Unlock()
	if news {
		signal(b.kick)
	}
}

// stale reports whether what is to be said is too old to be said: whoever gives it has hung, and others must not go on
// believing, for instance, that this member lets clients in. mu is held.
func (b *Beats) stale() bool {
	if b.cfg.Stale == nil {
		return false
	}
	after := b.cfg.Stale()
	return after > 0 && time.Since(b.setAt) > after
}

// Peers returns the newest beat of every member that has been heard and is still among the configured ones.
func (b *Beats) Peers() map[string]Peer {
	configured := b.cfg.Peers()
	b.mu.Lock()
	defer b.mu.Unlock()
	m := make(map[string]Peer, len(b.peers))
	for name, p := range b.peers {
		if _, ok := configured[name]; ok && !p.heardAt.IsZero() {
			m[name] = Peer{p.beat, p.heardAt}
		}
	}
	return m
}

// Changed yields a value after a beat whose meaning differs from the one before, and when a peer is heard again after a
// silence of five intervals. Several may come as one. It is meant for one reader.
func (b *Beats) Changed() <-chan struct{} { return b.changed }

// Stall is how late this process's own ticker was at worst in the last second.
func (b *Beats) Stall() time.Duration { return b.stall.worst(time.Now()) }

// Stats returns the counts so far.
func (b *Beats) Stats() Stats {
	c := &b.stats
	return Stats{c.sent.Load(), c.sendErrors.Load(), c.unresolved.Load(), c.heard.Load(),
		c.forged.Load(), c.foreign.Load(), c.replayed.Load(), c.unproven.Load()}
}

// sameMeaning reports whether nobody needs to act on the difference between two beats.
func sameMeaning(a, b cluster.Beat) bool {
	for _, x := range []*cluster.Beat{&a, &b} {
		x.Seq, x.StallMS, x.Sessions, x.Wall = 0, 0, 0, 0
		x.Position.LSN, x.Replayed = 0, 0
		x.Suspects, x.Hears = sorted(x.Suspects), sorted(x.Hears)
	}
	return reflect.DeepEqual(a, b)
}

func sorted(names []string) []string { return slices.Sorted(slices.Values(names)) }

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// others returns the peers to send to.
func (b *Beats) others() map[string]string {
	m := b.cfg.Peers()
	if _, ok := m[b.cfg.Self]; ok {
		m = maps.Clone(m)
		delete(m, b.cfg.Self)
	}
	return m
}
