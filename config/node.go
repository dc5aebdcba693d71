package config

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"standfast/cluster"
)

// DefaultPath is where a member's file is looked for.
const DefaultPath = "/etc/standfast/standfast.yml"

// Node is one member's own file. Members may hold the same list on every host, so that the files differ in Name only.
type Node struct {
	Cluster  string `yaml:"cluster"`
	Name     string `yaml:"name"`
	StateDir string `yaml:"state_dir"` // everything the member keeps lies below it
	Join     bool   `yaml:"join"`      // it is no founder: it waits to be added to the cluster that the other members are
	Listen   string `yaml:"listen"`    // address its ports are opened on; "": the member's address

	Ports    Ports    `yaml:"ports"` // for all members, unless one has its own
	Postgres Postgres `yaml:"postgres"`
	Etcd     Etcd     `yaml:"etcd"`

	TLSDir     string `yaml:"tls_dir"`     // the cluster's CA and this member's certificate and key
	SecretFile string `yaml:"secret_file"` // authenticates heartbeats, the same on every member
	TokenFile  string `yaml:"token_file"`  // what a client must show to change anything

	VIP      []VIP  `yaml:"vip"`     // floating addresses, the same on every member
	Routing  string `yaml:"routing"` // who has the ports write and read: BuiltIn or HAProxy
	Address  string `yaml:"address"` // who holds the floating addresses: BuiltIn or Keepalived
	Hooks    Hooks  `yaml:"hooks"`
	Watchdog string `yaml:"watchdog"` // the kernel's watchdog device; "auto": /dev/watchdog if it can be used; "off": none

	Log       Log      `yaml:"log"`
	Members   []Member `yaml:"members"`   // who founds the cluster; later changes are agreed in the store
	Bootstrap Cluster  `yaml:"bootstrap"` // the agreed configuration to begin with; later ignored
}

// Who may do what the members do themselves otherwise.
const (
	BuiltIn    = "builtin"
	HAProxy    = "haproxy"
	Keepalived = "keepalived"
)

// VIP is one floating address.
type VIP struct {
	Address   string  `yaml:"address"`             // IPv4 or IPv6
	Follows   Follows `yaml:"follows,omitempty"`   // "": the primary
	Interface string  `yaml:"interface,omitempty"` // "": the one that has an address in the same subnet
	Prefix    int     `yaml:"prefix,omitempty"`    // length; 0: a single host's, 32 or 128
}

// Follows says which member holds a floating address.
type Follows string

// What a floating address can follow.
const (
	FollowsPrimary Follows = "primary"
	FollowsStandby Follows = "standby" // one that serves reads; the primary when there is none
)

// Hooks are commands of the site's that are run by /bin/sh on a change; "": none.
type Hooks struct {
	OnRoleChange    string   `yaml:"on_role_change"`
	OnAddressChange string   `yaml:"on_address_change"`
	Timeout         Duration `yaml:"timeout"` // for one run; it is killed then
}

// Member is one entry of the list of founders.
type Member struct {
	Name     string       `yaml:"name"`
	Address  string       `yaml:"address"`            // host name or IP address that the others reach it at
	Kind     cluster.Kind `yaml:"kind,omitempty"`     // "": data
	Priority *int         `yaml:"priority,omitempty"` // nil: 100; 0: never primary
	Location string       `yaml:"location,omitempty"`
	Ports    Ports        `yaml:"ports,omitempty"` // 0: as in Node.Ports
}

// Ports are the TCP ports of a member (Beat: UDP and TCP).
type Ports struct {
	Postgres   int `yaml:"postgres,omitempty"`
	Write      int `yaml:"write,omitempty"`
	Read       int `yaml:"read,omitempty"`
	Health     int `yaml:"health,omitempty"`
	Admin      int `yaml:"admin,omitempty"`
	Beat       int `yaml:"beat,omitempty"`
	EtcdClient int `yaml:"etcd_client,omitempty"`
	EtcdPeer   int `yaml:"etcd_peer,omitempty"`
}

// Postgres says where the server's parts lie.
type Postgres struct {
	BinDir  string `yaml:"bin_dir"`  // or a major version; "": the newest installed
	DataDir string `yaml:"data_dir"` // "": data below state_dir
	WALDir  string `yaml:"wal_dir"`  // "": in the data directory
	RunAs   string `yaml:"run_as"`   // the user to become when started by root, which PostgreSQL refuses to run as
	Unit    string `yaml:"unit"`     // the systemd service that the server runs as; "": a process of the agent's
}

// Etcd says where what is agreed is kept: with endpoints in an etcd of the site's, otherwise in one of our own on each member.
type Etcd struct {
	Endpoints []string `yaml:"endpoints"` // https://host:port
	CAFile    string   `yaml:"ca_file"`
	CertFile  string   `yaml:"cert_file"`
	KeyFile   string   `yaml:"key_file"`
}

// Embedded reports whether the members run their own etcd.
func (e Etcd) Embedded() bool { return len(e.Endpoints) == 0 }

// Log says what is written to standard error.
type Log struct {
	Level  string `yaml:"level"`  // debug, info, warn or error
	Format string `yaml:"format"` // text or json
}

// DefaultNode is a file that says nothing.
func DefaultNode() Node {
	return Node{
		StateDir: "/var/lib/standfast",
		Ports: Ports{
			Postgres: 5432, Write: 5000, Read: 5001, Health: 8008, Admin: 8443, Beat: 8301, EtcdClient: 2379, EtcdPeer: 2380,
		},
		Postgres:   Postgres{RunAs: "postgres"},
		TLSDir:     "/etc/standfast/tls",
		SecretFile: "/etc/standfast/secret",
		TokenFile:  "/etc/standfast/token",
		Hooks:      Hooks{Timeout: Duration(10 * time.Second)},
		Routing:    BuiltIn,
		Address:    BuiltIn,
		Watchdog:   "auto",
		Log:        Log{Level: "info", Format: "text"},
		Bootstrap:  DefaultCluster(),
	}
}

// LoadNode reads a member's file, then what the environment and the given settings say (each "key=value", as in
// "ports.health=8009"; STANDFAST_PORTS_HEALTH is the same in the environment), and validates the result.
func LoadNode(path string, environ, settings []string) (Node, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return Node{}, fmt.Errorf("read the configuration: %w", err)
	}
	return ParseNode(path, text, environ, settings)
}

// ParseNode is LoadNode of a text. The name stands before each error.
func ParseNode(name string, text []byte, environ, settings []string) (Node, error) {
	n := DefaultNode()
	if err := decode(name, text, &n); err != nil {
		return Node{}, err
	}
	from, err := override(&n, environ, settings)
	if err != nil {
		return Node{}, err
	}
	n.fit(text)
	if err := n.Validate(); err != nil {
		return Node{}, placed(name, text, from, err)
	}
	return n, nil
}

// fit fills in what follows from the rest.
func (n *Node) fit(text []byte) {
	for i := range n.Members {
		m := &n.Members[i]
		if m.Kind == "" {
			m.Kind = cluster.Data
		}
		if m.Priority == nil {
			p := 100
			m.Priority = &p
		}
		m.Ports = m.Ports.or(n.Ports)
	}
	for i := range n.VIP {
		if n.VIP[i].Follows == "" {
			n.VIP[i].Follows = FollowsPrimary
		}
	}
	if n.Postgres.DataDir == "" {
		n.Postgres.DataDir = filepath.Join(n.StateDir, "data")
	}
	n.Bootstrap.fit(text, "bootstrap.")
	data, witnesses := n.count()
	if !present(text, "bootstrap.copies") {
		n.Bootstrap.Copies = max((data-1)/2, 1)
	}
	// With two servers and a witness the loss of either server would otherwise stop all writing, and with one there is no copy.
	if !present(text, "bootstrap.allow_single_copy") {
		n.Bootstrap.AllowSingleCopy = data == 1 || data == 2 && witnesses > 0
	}
}

func (n Node) count() (data, witnesses int) {
	for _, m := range n.Members {
		if m.Kind == cluster.Witness {
			witnesses++
		} else {
			data++
		}
	}
	return data, witnesses
}

// or takes what p leaves at 0 from q.
func (p Ports) or(q Ports) Ports {
	pick := func(a, b int) int {
		if a != 0 {
			return a
		}
		return b
	}
	return Ports{
		pick(p.Postgres, q.Postgres), pick(p.Write, q.Write), pick(p.Read, q.Read), pick(p.Health, q.Health),
		pick(p.Admin, q.Admin), pick(p.Beat, q.Beat), pick(p.EtcdClient, q.EtcdClient), pick(p.EtcdPeer, q.EtcdPeer),
	}
}

// Plus adds n to every port.
func (p Ports) Plus(n int) Ports {
	return Ports{p.Postgres + n, p.Write + n, p.Read + n, p.Health + n, p.Admin + n, p.Beat + n, p.EtcdClient + n, p.EtcdPeer + n}
}

// Self is this member's entry of the list. A file that Validate accepted has one.
func (n Node) Self() Member {
	for _, m := range n.Members {
		if m.Name == n.Name {
			return m
		}
	}
	return Member{Name: n.Name, Ports: n.Ports}
}

// ListenHost is the address that this member opens its ports on.
func (n Node) ListenHost() string {
	if n.Listen != "" {
		return n.Listen
	}
	return n.Self().Address
}

// ListenAt is ListenHost with a port.
func (n Node) ListenAt(port int) string { return net.JoinHostPort(n.ListenHost(), strconv.Itoa(port)) }

// Member is this member as the others are told of it.
func (n Node) Member() cluster.Member { return n.Self().Member() }

// Founders are all members of the list, in its order.
func (n Node) Founders() []cluster.Member {
	out := make([]cluster.Member, len(n.Members))
	for i, m := range n.Members {
		out[i] = m.Member()
	}
	return out
}

// Member is the entry in the cluster's vocabulary. A witness has no PostgreSQL.
func (m Member) Member() cluster.Member {
	hp := func(port int) string { return net.JoinHostPort(m.Address, strconv.Itoa(port)) }
	out := cluster.Member{
		Name: m.Name, Kind: m.Kind, Location: m.Location,
		Write: hp(m.Ports.Write), Read: hp(m.Ports.Read), API: hp(m.Ports.Health), Admin: hp(m.Ports.Admin),
		Beat: hp(m.Ports.Beat), Etcd: hp(m.Ports.EtcdClient), EtcdPeer: hp(m.Ports.EtcdPeer),
	}
	if m.Kind == cluster.Data {
		out.Postgres = hp(m.Ports.Postgres)
		if m.Priority != nil {
			out.Priority = *m.Priority
		}
	}
	return out
}
