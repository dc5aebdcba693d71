// Package facts holds what a member finds out about its host and its PostgreSQL when it is asked for an examination (GET /facts on the
// TLS port). Values only: package gather fills them, package doctor draws conclusions. They carry no secret: no password, key or token,
// no statement of a client, no value of a parameter that could hold one.
package facts

import "time"

// Member is one member's account of itself. What could not be found out is missing, and Unknown says why.
type Member struct {
	Name    string    `json:"name"`
	Version string    `json:"version"` // of standfast
	Time    time.Time `json:"time"`    // this host's clock when the rest was known, for comparing clocks

	Host      Host       `json:"host"`
	Disks     []Disk     `json:"disks,omitempty"`
	Sync      *Sync      `json:"sync,omitempty"`
	Units     []Unit     `json:"units,omitempty"`     // systemd's, those of interest that are there
	Reach     []Reach    `json:"reach,omitempty"`     // the other members' ports, tried from here
	Taken     []Port     `json:"taken,omitempty"`     // this member's own ports and who has them
	Cert      *Cert      `json:"cert,omitempty"`      //
	Addresses []Address  `json:"addresses,omitempty"` // the floating ones
	Etcd      *Etcd      `json:"etcd,omitempty"`      // nil: the site's own is used
	File      File       `json:"file"`                // the member's own configuration
	Logs      []Log      `json:"logs,omitempty"`
	Postgres  *Postgres  `json:"postgres,omitempty"` // nil: a witness, or it did not answer
	Unknown   []Question `json:"unknown,omitempty"`
}

// Question is something that could not be found out.
type Question struct {
	What string `json:"what"` // "disks"
	Why  string `json:"why"`
}

// Host is the machine and its kernel. Zero values: not known.
type Host struct {
	OS         string  `json:"os,omitempty"` // for people
	Kernel     string  `json:"kernel,omitempty"`
	CPUs       int     `json:"cpus,omitempty"`
	Load       float64 `json:"load,omitempty"` // processes that run or wait, the last minute's mean
	Memory     int64   `json:"memory_bytes,omitempty"`
	Available  int64   `json:"available_bytes,omitempty"` // what can be had without swapping
	Swap       int64   `json:"swap_bytes,omitempty"`
	SwapUsed   int64   `json:"swap_used_bytes,omitempty"`
	Swappiness int     `json:"swappiness"`
	Overcommit int     `json:"overcommit"`             // vm.overcommit_memory
	HugeAlways bool    `json:"huge_always,omitempty"`  // transparent huge pages are on for everybody
	OOMKills   int     `json:"oom_kills,omitempty"`    // of PostgreSQL's control group, since its service started
	Files      int     `json:"files,omitempty"`        // that the postmaster may have open
	RemoveIPC  bool    `json:"remove_ipc,omitempty"`   // logind takes a user's shared memory away with their last session
	SystemUser bool    `json:"system_user"`            // PostgreSQL's user is one, so that RemoveIPC does not concern it
	Systemd    bool    `json:"systemd"`                // it runs this host
	Clock      string  `json:"clock_synced,omitempty"` // "yes" or "no" by timedatectl; "": not known
	Container  bool    `json:"container,omitempty"`    // the kernel is another host's
	Service    bool    `json:"service"`                // the agent runs as a systemd service
}

// Disk is a file system that something of ours lies on.
type Disk struct {
	Holds      []string `json:"holds"` // "data", "WAL", "state"
	Path       string   `json:"path"`  // of the first
	Size       int64    `json:"size_bytes"`
	Free       int64    `json:"free_bytes"` // for PostgreSQL's user
	Inodes     int64    `json:"inodes,omitempty"`
	InodesFree int64    `json:"inodes_free,omitempty"`
	ReadOnly   bool     `json:"read_only,omitempty"`
}

// Sync is how long it took to write a page beside the WAL and have it on the disk.
type Sync struct {
	Median time.Duration `json:"median_ns"`
	Worst  time.Duration `json:"worst_ns"`
	Error  string        `json:"error,omitempty"`
}

// Unit is a service as systemd knows it (systemctl show).
type Unit struct {
	Name    string `json:"name"`
	Active  string `json:"active"`  // active, inactive, failed, activating...
	Sub     string `json:"sub"`     // running, dead, auto-restart...
	Enabled string `json:"enabled"` // enabled, disabled, masked, static...; "": there is no file
	Result  string `json:"result,omitempty"`
	Restart int    `json:"restarts,omitempty"`
}

// Reach is one port of another member, tried from here.
type Reach struct {
	Member  string        `json:"member"`
	Port    string        `json:"port"`    // its name: postgres, write, ...
	Address string        `json:"address"` // host:port
	Error   string        `json:"error,omitempty"`
	Refused bool          `json:"refused,omitempty"` // the host answers, and nothing listens there
	Took    time.Duration `json:"took_ns"`
}

// Port is a port of this member's that somebody else has.
type Port struct {
	Name string `json:"name"`
	By   string `json:"by"` // a sentence
}

// Cert is the member's certificate and the cluster's authority.
type Cert struct {
	End   time.Time `json:"end"`
	Start time.Time `json:"start"`
	CAEnd time.Time `json:"ca_end"`
	Error string    `json:"error,omitempty"` // why it can't be used
}

// Address is a floating address as this host sees it.
type Address struct {
	Address string   `json:"address"`
	Here    bool     `json:"here"`              // it is on an interface of this host
	MAC     string   `json:"mac,omitempty"`     // of that interface
	Answers string   `json:"answers,omitempty"` // the MAC of who answers for it, asked from here; "": nobody did
	Own     []string `json:"own,omitempty"`     // all of this host's MACs
}

// Etcd is the member's own etcd.
type Etcd struct {
	Size    int64    `json:"size_bytes"`
	Quota   int64    `json:"quota_bytes,omitempty"`
	Alarms  []string `json:"alarms,omitempty"`
	Learner bool     `json:"learner,omitempty"`
	Leader  bool     `json:"leader,omitempty"`
	Error   string   `json:"error,omitempty"` // it did not answer
	Members []string `json:"members,omitempty"`
}

// File is what of the member's own file has to be alike on all hosts, and what must not be open to everybody.
type File struct {
	Members  []string `json:"members,omitempty"` // "pg1 10.0.0.11", as founders
	VIPs     []string `json:"vips,omitempty"`
	Watchdog string   `json:"watchdog,omitempty"` // the device in use; "": none
	Open     []string `json:"open,omitempty"`     // secrets that others than their owner may read
}

// Log is what was found at the end of a log.
type Log struct {
	Name  string    `json:"name"` // "postgresql", "etcd"
	Kind  string    `json:"kind"` // what kind of line, see gather
	Count int       `json:"count"`
	Last  time.Time `json:"last,omitzero"`
}
