// Package postgres runs one PostgreSQL server, versions 14 to 18, for the agent: one verb per file.
//
// A Server stands for one data directory. It never decides anything. It starts the server as a standby behind the
// member's relay, never as a primary (only Init and Promote make one); what safety rests on is given on PostgreSQL's
// command line, where no file can override it. A server starts closed to clients and with synchronous_standby_names
// that nobody can meet.
//
// A running PostgreSQL belongs to nobody's process group or session: it outlives the agent, and Adopt takes it over
// again.
package postgres

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"

	"standfast/pgconf"
)

// Config describes a server. All paths are absolute.
type Config struct {
	Name        string              // the member's: replication slot, application_name, certificate's common name, cluster_name
	BinDir      string              // of initdb, postgres, pg_basebackup and the others (see FindBinDir)
	DataDir     string              //
	WALDir      string              // a separate directory for WAL; "": inside DataDir
	SocketDir   string              // of the server's own Unix socket, which this package talks through
	Listen      string              // listen_addresses
	Port        int                 //
	LogFile     string              // the server's standard error is appended here; see BoundLog
	Superuser   string              // "": postgres
	RelayDir    string              // with RelayPort names the Unix socket that the WAL receiver connects to
	RelayPort   int                 //
	CA          string              // certificates of the cluster's authority; "": no TLS, and no replication either
	Cert, Key   string              // the member's: server, and client for replication, rewind and clone
	HBA         []string            // the site's lines of pg_hba.conf
	Ident       []string            // the site's lines of pg_ident.conf
	Members     []string            // all data members' names
	PasswordDir string              // directory for generated passwords and for markers; "": beside DataDir
	RunAs       *syscall.Credential // the user that PostgreSQL runs as; nil: this process's

	// Unit is the systemd service that PostgreSQL runs as; "": it is started as a child. The service's program calls Launch
	// with UnitFile, which is written for each start.
	Unit, UnitFile string

	// Parameters are the cluster's, from its agreed configuration. Those that safety rests on are ours (see Owned).
	Parameters map[string]string

	// Slots are the logical replication slots that the cluster declares (see KeepLogicalSlots).
	Slots []Slot

	// ReplicationClients receive WAL and are no members (see KeepClientSlots).
	ReplicationClients []ReplicationClient

	// Tablespaces maps the source's tablespace paths to this host's, for a clone; those not named keep their paths.
	Tablespaces map[string]string

	recovers bool // it recovers to where a new cluster begins (see Recover); nobody but this package reaches it

	inPlace bool // of a primary that something else started, and that was taken over as it runs (see TakeOver)
	unseen  bool // started with hot_standby off: it lets nobody in before it is promoted (see promoteLowered)
}

// Server is one PostgreSQL of one data directory. Its methods may be called at the same time.
type Server struct {
	mu    sync.Mutex
	cfg   Config
	watch *watch        // of the postmaster; nil: none known
	taken *watch        // the one that runs as something else started it; nil: none does
	never chan struct{} // what Exited gives while none is known

	observer session // kept for Observe
	safety   session // kept for what safety waits for: names, promotion, the door; nothing slow is asked in it
	control  session // kept for everything else
	cancels  session // kept, once there was one, for what CancelRequests mean
	probe    probe
	door     sync.Mutex  // held while pg_hba is opened, closed or rewritten as it is
	files    sync.Mutex  // held while our configuration file is replaced under a running server; taken before door
	lower    atomic.Bool // see Lower
	naming   sync.Mutex  // held while the commit rule and what goes with it are changed
	proofs   sync.Mutex  // held while the file of proofs is read and replaced, and for rounds
	rounds   map[string]int
	known    known
	verb     chan struct{} // holds one token: verbs that start, stop or replace data exclude each other
}

// ErrRunning says that a verb needs the server stopped.
var ErrRunning = errors.New("the server is running")

// New returns a server that nothing has been done with yet.
func New(cfg Config) *Server {
	s := &Server{never: make(chan struct{}), verb: make(chan struct{}, 1)}
	s.observer.init(s, "standfast_observer")
	s.safety.init(s, "standfast_safety")
	s.control.init(s, "standfast")
	s.cancels.init(s, "standfast_cancels")
	s.SetConfig(cfg)
	return s
}

// SetConfig changes what the next verbs work with. Files and command line follow at the next start, or earlier by
// ApplyParameters and Reload.
func (s *Server) SetConfig(cfg Config) {
	if cfg.Superuser == "" {
		cfg.Superuser = "postgres"
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cfg = cfg
}

func (s *Server) config() Config {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.cfg
	c.inPlace = s.taken != nil && s.taken == s.watch && s.taken.alive()
	return c
}

// keepParameters changes nothing but the parameters of what the next verbs work with.
func (s *Server) keepParameters(params map[string]string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cfg.Parameters = params
}

// Close lets go of the server without stopping it: connections are closed and its death is no longer watched.
func (s *Server) Close(ctx context.Context) error {
	err := errors.Join(s.observer.close(ctx), s.safety.close(ctx), s.control.close(ctx), s.cancels.close(ctx))
	s.mu.Lock()
	w := s.watch
	s.watch = nil
	s.mu.Unlock()
	if w != nil {
		w.stop()
	}
	return err
}

// exclusive keeps two verbs that change what runs or what lies on disk from overlapping.
func (s *Server) exclusive(ctx context.Context) (release func(), err error) {
	select {
	case s.verb <- struct{}{}:
		return func() { <-s.verb }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (c Config) walDir() string {
	return filepath.Join(c.DataDir, "pg_wal")
}

// confFile, hbaFile and identFile are ours and written anew at every start; the command line names them.
func (c Config) confFile() string {
	if c.inPlace {
		return c.inPlaceFile()
	}
	return filepath.Join(c.DataDir, "standfast.conf")
}
func (c Config) hbaFile() string   { return filepath.Join(c.DataDir, "standfast_hba.conf") }
func (c Config) identFile() string { return filepath.Join(c.DataDir, "standfast_ident.conf") }
func (c Config) autoFile() string  { return filepath.Join(c.DataDir, "postgresql.auto.conf") }
func (c Config) standbyFile() string {
	return filepath.Join(c.DataDir, "standby.signal")
}

func (c Config) slot() string { return pgconf.SlotName(c.Name) }

// StandbyData reports whether the data directory is marked as a standby's. A primary's is not: PostgreSQL removes the
// mark when it is promoted.
func (s *Server) StandbyData() (bool, error) {
	_, err := os.Stat(s.config().standbyFile())
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}
