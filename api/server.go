package api

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// Config says where to listen and whom to ask. Only Source is required.
type Config struct {
	Health []string // plain HTTP, host:port; nil: ":8008"; empty: none
	Admin  []string // with TLS, host:port; nil: ":8443" if TLS is set

	TLS    *tls.Config                         // this member's certificate; nil: changes are refused everywhere
	Tokens func(token string) (Operator, bool) // who a bearer token belongs to; compares in constant time
	Source Source
	Ops    Ops // required with TLS

	Grants Grants // the operators' tokens; nil: there are none

	// Others is how this member trusts the others, for passing on what concerns one of them; nil: nothing is passed on.
	Others *tls.Config

	// Join answers POST /join on the TLS side, where a host shows an invitation of its own instead of a token; nil: nobody is answered.
	Join http.Handler

	// Events are what GET /events on the TLS side tells, to whoever has a token; nil: nothing.
	Events Events

	// Logs are what GET /logs on the TLS side tells, to whoever has a token that may change something; nil: nothing.
	Logs Logs

	// Audit is told of every change that was asked for with a token, once it has ended. It must not block; nil: nobody is told.
	Audit func(Audited)

	// Facts answers GET /facts on the TLS side, which needs the token: what this member finds out about its host and its PostgreSQL when it
	// is examined, a value for JSON. With brief (?brief=true) it is what costs next to nothing, for whoever asks every minute. It bounds its
	// own time. nil: there is no such path.
	Facts func(ctx context.Context, brief bool) (any, error)

	// Salvage answers GET /salvage on the TLS side, to whoever has a token: what this member keeps of what it discarded, newest first.
	// nil: a witness.
	Salvage func(ctx context.Context) ([]Salvaged, error)

	// Slots answers GET /slots on the TLS side, to whoever has a token: all replication slots of this member's server. nil: a witness.
	Slots func(ctx context.Context) ([]Slot, error)

	// Support answers GET /support on the TLS side, to whoever has a token: what this member gives to a supporter, a value for JSON without
	// secrets. It bounds its own time. nil: there is no such path.
	Support func(ctx context.Context) any

	// Stale is how old a Status may be to be believed, by the monotonic clock. 0: 3 s, the default lease: a host that was
	// paused for longer may have been replaced as primary.
	Stale time.Duration

	MaxConns     int // open at once, for each side (plain, TLS); 0: 1024
	MaxPerRemote int // of these from one remote host; 0: 256

	Log *slog.Logger // nil: slog.Default
}

// Server answers for one member. Make it with New.
type Server struct {
	cfg     Config
	health  *health
	changes *changes

	plain, secure []net.Listener
	changing      sync.RWMutex // read-locked by every request on the TLS side, so that Run can wait for them
}

// New checks the configuration and prepares a server; nothing is opened yet.
func New(cfg Config) (*Server, error) {
	if cfg.Source == nil {
		return nil, errors.New("new api: no source")
	}
	if cfg.TLS != nil && (cfg.Ops == nil || cfg.Tokens == nil) {
		return nil, errors.New("new api: TLS needs operations and tokens")
	}
	if cfg.TLS == nil && len(cfg.Admin) > 0 {
		return nil, fmt.Errorf("new api: changes on %s need a TLS certificate", cfg.Admin[0])
	}
	cfg.fill()
	h := newHealth(cfg.Source, cfg.Stale, time.Now)
	h.metrics = newMetrics(h.boards, &h.tally)
	c := &changes{health: h, source: cfg.Source, ops: cfg.Ops, tokens: cfg.Tokens, grants: cfg.Grants, join: cfg.Join, forward: newForwarder(cfg.Others), facts: cfg.Facts, log: cfg.Log, events: cfg.Events, logs: cfg.Logs, audit: cfg.Audit, salvage: cfg.Salvage, support: cfg.Support, slots: cfg.Slots}
	return &Server{cfg: cfg, health: h, changes: c}, nil
}

// fill puts the defaults where nothing was said.
func (c *Config) fill() {
	if c.Health == nil {
		c.Health = []string{":8008"}
	}
	if c.Admin == nil && c.TLS != nil {
		c.Admin = []string{":8443"}
	}
	if c.Stale == 0 {
		c.Stale = 3 * time.Second
	}
	if c.MaxConns == 0 {
		c.MaxConns = 1024
	}
	if c.MaxPerRemote == 0 {
		c.MaxPerRemote = 256
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
}

// SetStale changes what Config.Stale began with: the lease is agreed, and can change.
func (s *Server) SetStale(d time.Duration) { s.health.boards.bound.Store(int64(d)) }

// Listen opens all ports, so that one that is taken is found before anything else is started. Run does it otherwise.
func (s *Server) Listen(ctx context.Context) error {
	open := func(what string, addresses []string, into *[]net.Listener) error {
		for _, a := range addresses {
			l, err := listen(ctx, what, a)
			if err != nil {
				return err
			}
			*into = append(*into, l)
		}
		return nil
	}
	err := open("health checks", s.cfg.Health, &s.plain)
	if err == nil {
		err = open("changes", s.cfg.Admin, &s.secure)
	}
	if err != nil {
		s.close()
	}
	return err
}

// Close gives back the ports of a server that is never run; Run does it by itself.
func (s *Server) Close() { s.close() }

func (s *Server) close() {
	for _, l := range append(s.plain, s.secure...) {
		_ = l.Close() // nothing was accepted
	}
	s.plain, s.secure = nil, nil
}

// Addrs returns the addresses listened on, after Listen.
func (s *Server) Addrs() (health, admin []net.Addr) {
	for _, l := range s.plain {
		health = append(health, l.Addr())
	}
	for _, l := range s.secure {
		admin = append(admin, l.Addr())
	}
	return health, admin
}

// Run serves until ctx ends or a listener fails, and returns when every connection is closed. It returns nil when ctx has
// ended.
func (s *Server) Run(ctx context.Context) error {
	if s.plain == nil && s.secure == nil {
		if err := s.Listen(ctx); err != nil {
			return err
		}
	}
	checks := make([]net.Listener, len(s.plain))
	for i, l := range s.plain {
		b, err := newBrief(l, s.health)
		if err != nil {
			s.close()
			return err
		}
		checks[i] = b
	}
	g, ctx := errgroup.WithContext(ctx)
	plain, secure := s.servers(ctx)
	serve(ctx, g, plain, checks, newGate(s.cfg.MaxConns, s.cfg.MaxPerRemote), s.refused, (*http.Server).Serve)
	serve(ctx, g, secure, s.secure, newGate(s.cfg.MaxConns, s.cfg.MaxPerRemote), s.refused, func(h *http.Server, l net.Listener) error {
		return h.ServeTLS(l, "", "")
	})
	err := g.Wait()
	s.changing.Lock() // http.Server cuts connections, and does not wait for what they had begun
	defer s.changing.Unlock()
	return err
}

func (s *Server) serveSecure(w http.ResponseWriter, r *http.Request) {
	s.changing.RLock()
	defer s.changing.RUnlock()
	s.changes.ServeHTTP(w, r)
}

// servers makes the two HTTP servers. Every read and write of a client has a bound: a client that sends its request byte
// by byte, or never reads the answer, holds its own connection for a few seconds and nothing else.
func (s *Server) servers(ctx context.Context) (plain, secure *http.Server) {
	errorLog := slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelDebug) // port scans and bad handshakes
	base := func(net.Listener) context.Context { return ctx }
	plain = &http.Server{
		Handler:           http.HandlerFunc(s.servePlain),
		ReadHeaderTimeout: 3 * time.Second,
		ReadTimeout:       3 * time.Second,
		WriteTimeout:      5 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          errorLog,
		BaseContext:       base,

		DisableGeneralOptionsHandler: true,
	}
	secure = &http.Server{ // no WriteTimeout: an operation may take an hour; each line it writes has its own bound
		Handler:           http.HandlerFunc(s.serveSecure),
		TLSConfig:         s.cfg.TLS.Clone(),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       15 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          errorLog,
		BaseContext:       base,
	}
	return plain, secure
}

func (s *Server) refused() { s.health.tally.refused.Add(1) }

// servePlain answers what may be read, and refuses changes.
func (s *Server) servePlain(w http.ResponseWriter, r *http.Request) {
	if isReading(r.Method) && !guardedPaths[r.URL.Path] {
		s.health.ServeHTTP(w, r)
		return
	}
	port := ""
	if len(s.secure) > 0 {
		_, port, _ = net.SplitHostPort(s.secure[0].Addr().String()) // a listener's address always has one
	}
	s.health.refuse(w, r, port)
}

// closeGrace is how long requests under way may take to end when the server stops; operations see their context end.
const closeGrace = time.Second

// serve runs h on every listener until ctx ends.
func serve(ctx context.Context, g *errgroup.Group, h *http.Server, ls []net.Listener, gt *gate, refused func(), run func(*http.Server, net.Listener) error) {
	for _, l := range ls {
		g.Go(func() error {
			err := run(h, gated{l, gt, refused})
			if errors.Is(err, http.ErrServerClosed) {
				return nil
			}
			return fmt.Errorf("serve on %s: %w", l.Addr(), err)
		})
	}
	if len(ls) == 0 {
		return
	}
	g.Go(func() error {
		<-ctx.Done()
		bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeGrace)
		defer cancel()
		if h.Shutdown(bound) != nil {
			_ = h.Close() // what did not end in time is cut
		}
		return nil
	})
}
