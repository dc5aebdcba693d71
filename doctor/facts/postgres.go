package facts

import "time"

// Postgres is what the member's server says of itself ("System Views", "The Cumulative Statistics System").
type Postgres struct {
	Version  int           `json:"version"` // server_version_num
	Recovery bool          `json:"recovery"`
	Started  time.Time     `json:"started"`
	SystemID string        `json:"system_id,omitempty"`
	Took     time.Duration `json:"took_ns"` // to answer all of this

	Settings  []Setting  `json:"settings,omitempty"` // that are not at their default
	Files     []string   `json:"file_errors,omitempty"`
	Roles     []Role     `json:"roles,omitempty"`    // that may log in
	OptOuts   []OptOut   `json:"opt_outs,omitempty"` // of synchronous commit
	Slots     []Slot     `json:"slots,omitempty"`    //
	Senders   []Sender   `json:"senders,omitempty"`  //
	Receiver  *Receiver  `json:"receiver,omitempty"` // on a standby; nil: none runs
	Databases []Database `json:"databases,omitempty"`
	Clients   Clients    `json:"clients"`
	Oldest    []Session  `json:"oldest,omitempty"`   // transactions, the longest first
	Blocked   []Session  `json:"blocked,omitempty"`  // waiting for a lock
	Prepared  []Session  `json:"prepared,omitempty"` // transactions that were prepared and not ended
	Waiting   Waiting    `json:"waiting"`            // for a standby
	HBA       []HBA      `json:"hba,omitempty"`
	Archive   Archive    `json:"archive"`
	WAL       WAL        `json:"wal"`
	Locale    []Version  `json:"locale,omitempty"` // of the libraries that sort text

	ReplayPaused bool `json:"replay_paused,omitempty"`
}

// Setting is a parameter that somebody has set.
type Setting struct {
	Name    string `json:"name"`
	Value   string `json:"value"`
	Source  string `json:"source"`            // "command line", "configuration file"...
	Auto    bool   `json:"auto,omitempty"`    // it comes from postgresql.auto.conf
	Pending bool   `json:"pending,omitempty"` // a new value waits for a restart
}

// Role is one that may log in and is not Standfast's.
type Role struct {
	Name      string    `json:"name"`
	Until     time.Time `json:"until,omitzero"` // its password is good until then
	Super     bool      `json:"super,omitempty"`
	Limit     int       `json:"limit"`               // connections, -1: no limit
	MD5       bool      `json:"md5,omitempty"`       // its password is stored in the old way
	Databases []string  `json:"databases,omitempty"` // that it owns
}

// OptOut is a role or database whose commits do not wait for a standby.
type OptOut struct {
	Role     string `json:"role,omitempty"`     // "": all
	Database string `json:"database,omitempty"` // "": all
	Value    string `json:"value"`              // of synchronous_commit
}

// Slot is a replication slot.
type Slot struct {
	Name   string `json:"name"`
	Type   string `json:"type"` // physical, logical
	Active bool   `json:"active"`
	Status string `json:"status,omitempty"` // wal_status
	Held   int64  `json:"held_bytes"`       // WAL that is kept for it
}

// Sender is a connection that WAL is sent through.
type Sender struct {
	Name   string `json:"name"` // application_name
	State  string `json:"state"`
	Sent   int64  `json:"unsent_bytes"`     // not sent yet
	Flush  int64  `json:"unflushed_bytes"`  // sent and not on its disk yet
	Replay int64  `json:"unreplayed_bytes"` // on its disk and not visible yet
}

// Receiver is a standby's WAL receiver.
type Receiver struct {
	Status string        `json:"status"`
	Silent time.Duration `json:"silent_ns"` // since the last message came
}

// Database is one that clients may connect to.
type Database struct {
	Name      string `json:"name"`
	Age       int64  `json:"xid_age"`    // transactions since the oldest row that is not frozen
	MultiAge  int64  `json:"multi_age"`  // the same of multixacts
	Collation string `json:"collation"`  // the library's version that it was made with; "": does not matter
	Now       string `json:"now"`        // the library's version that is there
	Locale    string `json:"locale"`     // its default, with provider
	Checksum  int64  `json:"checksum"`   // failures; -1: not checked
	Conflicts int64  `json:"conflicts"`  // statements that replay has cancelled
	Deadlocks int64  `json:"deadlocks"`  //
	Limit     int    `json:"limit"`      // connections, -1: no limit
	Size      int64  `json:"size_bytes"` //
}

// Clients is who is connected.
type Clients struct {
	Used     int `json:"used"` // of Max, sessions of Standfast's own included
	Max      int `json:"max"`
	Reserved int `json:"reserved"` // of Max, for superusers
	Active   int `json:"active"`
	Idle     int `json:"idle_in_transaction"`
}

// Session is one that deserves a look. What it does is not told: statements may hold what is nobody's business.
type Session struct {
	PID      int           `json:"pid,omitempty"`
	User     string        `json:"user"`
	Database string        `json:"database"`
	Program  string        `json:"program,omitempty"` // application_name
	Client   string        `json:"client,omitempty"`
	State    string        `json:"state,omitempty"`
	Since    time.Duration `json:"since_ns"`
	By       int           `json:"by,omitempty"`  // the process that it waits for
	GID      string        `json:"gid,omitempty"` // of a prepared transaction
}

// Waiting is how many commits wait for a standby, and the longest wait.
type Waiting struct {
	Commits int           `json:"commits"`
	Longest time.Duration `json:"longest_ns"`
}

// HBA is a line of pg_hba.conf (pg_hba_file_rules).
type HBA struct {
	Line      int      `json:"line"`
	Type      string   `json:"type"`
	Databases []string `json:"databases,omitempty"`
	Users     []string `json:"users,omitempty"`
	Address   string   `json:"address,omitempty"`
	Mask      string   `json:"mask,omitempty"`
	Method    string   `json:"method"`
	Error     string   `json:"error,omitempty"`
	Ours      bool     `json:"ours,omitempty"` // written by Standfast, not by the site
}

// Archive is how WAL is archived.
type Archive struct {
	Mode       string    `json:"mode"`    // off, on, always
	Command    string    `json:"command"` // "" there is none, "set", or "nothing": it succeeds and stores nothing
	Archived   int64     `json:"archived"`
	Failed     int64     `json:"failed"`
	LastOK     time.Time `json:"last_ok,omitzero"`
	LastFailed time.Time `json:"last_failed,omitzero"`
	Waiting    int       `json:"waiting"` // segments that are yet to be archived
}

// WAL is how much there is and how fast it grows.
type WAL struct {
	Size    int64   `json:"size_bytes"`       // of pg_wal
	Rate    float64 `json:"bytes_per_second"` // mean since the statistics began
	Keep    int64   `json:"keep_bytes"`       // max_slot_wal_keep_size; -1: no bound
	MaxSize int64   `json:"max_bytes"`        // max_wal_size
	Timed   int64   `json:"checkpoints_timed"`
	Forced  int64   `json:"checkpoints_requested"`
}

// Version is one library's.
type Version struct {
	Library string `json:"library"` // libc, icu
	Version string `json:"version"`
}
