// Package probe is what plan and deploy ask a host, answered on the host itself: the program is sent there and started once for each
// question, as root. One JSON document comes in through standard input, one goes out; a question with ports to listen on is
// answered when they are open, and they stay open until standard input ends.
package probe

import (
	"time"

	"standfast/config"
)

// Request is a question; what is not set is not answered.
type Request struct {
	Look   *Look      `json:"look,omitempty"`
	Listen []Endpoint `json:"listen,omitempty"` // opened until standard input ends
	Dial   []Endpoint `json:"dial,omitempty"`   // tried at the same time
	Get    []string   `json:"get,omitempty"`    // http:// addresses
	Logins []Login    `json:"logins,omitempty"` // tried one after another
	Load   *Load      `json:"load,omitempty"`   // answered when it has ended
	Carry  *Carry     `json:"carry,omitempty"`  // answered when it waits to be told, and done until standard input ends
	Meet   *Meet      `json:"meet,omitempty"`   // answered when it has ended
	Server bool       `json:"server,omitempty"` // what PostgreSQL runs there
	Lock   string     `json:"lock,omitempty"`   // who wants the host for themselves until standard input ends
}

// Carry has the host put a floating address onto its interface for a trial: when the first datagram has come to At, for as long as
// standard input is open, and never longer than CarryTime. It answers datagrams to the address at At's port.
type Carry struct {
	Address   string `json:"address"`
	Interface string `json:"interface,omitempty"` // "": the one in its subnet
	Prefix    int    `json:"prefix,omitempty"`    // length; 0: a single host's
	At        string `json:"at"`                  // host:port, UDP
}

// Meet is the other end of Carry, on another host: it tells the carrier to begin, and looks when the address can be reached.
type Meet struct {
	Carry
}

// Met is how that went.
type Met struct {
	Heard   time.Duration `json:"heard"`   // until the address was announced, from when the carrier was told; 0: it was not
	Reached time.Duration `json:"reached"` // until the address answered; 0: it did not
	Error   string        `json:"error,omitempty"`
}

// Endpoint is an address to open or to reach.
type Endpoint struct {
	Network string `json:"network"` // "tcp" or "udp"
	Address string `json:"address"` // host:port
}

// Login is a session with PostgreSQL, and one statement in it.
type Login struct {
	Address  string `json:"address"` // host:port
	User     string `json:"user"`
	Password string `json:"password"`
	Database string `json:"database"`
	SQL      string `json:"sql"` // gives one value
}

// Look asks for Facts.
type Look struct {
	Names     []string   `json:"names"`     // to be resolved
	Addresses []string   `json:"addresses"` // floating ones: on which interface, and used by whom
	Ports     []Endpoint `json:"ports"`     // that are to be free
	Packages  []string   `json:"packages"`  // of which it is to be known whether they are installed
}

// Answer is what was found.
type Answer struct {
	Facts  *Facts            `json:"facts,omitempty"`
	Listen map[string]string `json:"listen,omitempty"` // what went wrong, by "network address"
	Dial   map[string]string `json:"dial,omitempty"`   // what went wrong; "" is there too, for what was reached
	Get    []Response        `json:"get,omitempty"`
	Logins []Session         `json:"logins,omitempty"`
	Load   *Work             `json:"load,omitempty"`
	Carry  string            `json:"carry,omitempty"` // what went wrong; "": it waits
	Meet   *Met              `json:"meet,omitempty"`
	Server []Existing        `json:"server,omitempty"`
	Lock   string            `json:"lock,omitempty"` // who has it; "": who asked
}

// Response is an answer over HTTP.
type Response struct {
	Status int    `json:"status"` // 0: none
	Body   string `json:"body,omitempty"`
	Error  string `json:"error,omitempty"`
}

// Session is how a Login ended.
type Session struct {
	Value string `json:"value"`          // of the statement
	Code  string `json:"code,omitempty"` // PostgreSQL's, SQLSTATE, where it refused
	Error string `json:"error,omitempty"`
}

// Facts are what a host is like.
type Facts struct {
	Time     time.Time           `json:"time"`
	OS       OS                  `json:"os"`
	CPUs     int                 `json:"cpus"`
	Memory   int64               `json:"memory"`  // bytes
	Free     map[string]int64    `json:"free"`    // bytes left where Standfast's state and the packages go, by directory
	Names    map[string][]string `json:"names"`   // what each name resolves to
	VIPs     map[string]VIP      `json:"vips"`    // by address
	Ports    map[string]string   `json:"ports"`   // what is in the way, by "network address"; a port of Standfast's own is not
	Servers  []Server            `json:"servers"` // PostgreSQL's clusters in Debian's layout
	Found    Standfast           `json:"found"`
	Packages map[string]string   `json:"packages"` // versions of those that were asked for and of PostgreSQL's servers, where installed
	Arch     string              `json:"arch"`     // as Go calls it
	Systemd  bool                `json:"systemd"`  // systemd is process 1
}

// OS is the distribution (os-release(5)).
type OS struct {
	ID      string `json:"id"`
	Version string `json:"version"`
	Name    string `json:"name"` // for people
}

// VIP is a floating address as a host sees it.
type VIP struct {
	Interface string `json:"interface"`       // that it would be on
	Error     string `json:"error,omitempty"` // why it can't be there
	Taken     string `json:"taken,omitempty"` // who answers for it
}

// Server is a cluster that the distribution's tools know (pg_lsclusters).
type Server struct {
	Version string `json:"version"`
	Name    string `json:"name"`
	Port    int    `json:"port"`
	Online  bool   `json:"online"`
	Dir     string `json:"dir"`
	Start   string `json:"start"` // auto, manual or disabled (start.conf)
	Empty   bool   `json:"empty"` // nothing was ever made in it
}

// Standfast is what is there of an earlier deployment.
type Standfast struct {
	Cluster string `json:"cluster"` // whose file is in /etc/standfast; "": none
	Name    string `json:"name"`    // the member's there
	CA      string `json:"ca"`      // SHA-256 of its certificate authority's certificate, in hexadecimal
	Data    bool   `json:"data"`    // there is a PostgreSQL in its data directory
	System  string `json:"system"`  // what that is: its major version and system identifier (pg_controldata); "": not known
	Running bool   `json:"running"` // the agent's service is active

	// Where the others find it, by its file.
	Address string       `json:"address,omitempty"`
	Ports   config.Ports `json:"ports"`
}
