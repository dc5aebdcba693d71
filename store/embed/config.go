// Package embed runs etcd inside this binary, as a process of its own (Main is the body of that process, Child its
// supervisor), and changes and maintains the etcd cluster that these processes form (Admin).
//
// A process of its own, because a panic, a full disk or a deadlock in etcd must not take the agent with it; the same binary,
// because there is then one version of everything.
package embed

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/renameio/v2"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/storage/wal"
)

// The values of Config.State.
const (
	StateNew      = "new"      // all members of InitialCluster are started for the first time
	StateExisting = "existing" // this member was added to a cluster that runs
)

const (
	// Tick is how often etcd's leader is heard, Election how long it may be silent before its followers elect another one
	// (which takes up to twice as long, as raft draws the time). Election is five ticks, so that two lost ones do no harm.
	Tick     = 250 * time.Millisecond
	Election = 1250 * time.Millisecond

	// walSegment is the size of a segment of etcd's log, bytes, allocated in advance. etcd's own 64 MB, twice, are more than
	// everything that we ever store.
	walSegment = 8 << 20

	// keptRevisions is how many past revisions survive compaction. A watch that is further behind begins anew.
	keptRevisions = 1000

	// quota bounds the database file, bytes. Reaching it makes etcd read-only until it was compacted, defragmented and the
	// alarm disarmed (Admin.Maintain). A normal cluster uses less than one MB.
	quota = 256 << 20
)

// Config is what an etcd member needs to know, kept as JSON. Name, URLs, InitialCluster, State and Token only count at the
// member's first start; afterwards etcd goes by its data directory.
type Config struct {
	Name           string            `json:"name"`
	DataDir        string            `json:"data_dir"`
	PeerURL        string            `json:"peer_url"`         // https://address:port, where the other members reach it
	ClientURL      string            `json:"client_url"`       // https://address:port, where clients reach it
	Listen         string            `json:"listen,omitempty"` // IP address to bind, with the URLs' ports; "": the URLs' own hosts
	InitialCluster map[string]string `json:"initial_cluster"`  // peer URL of every member by name, this one's included
	State          string            `json:"state"`            // StateNew or StateExisting
	Token          string            `json:"token"`            // the same on all members, and of no other cluster
	Added          string            `json:"added,omitempty"`  // etcd's number of this member, where it was added later; see Admin.Place
	CA             string            `json:"ca"`               // path: authorities of members and clients
	Cert           string            `json:"cert"`             // path
	Key            string            `json:"key"`              // path
	Log            string            `json:"log"`              // path, absolute; rotated at 4 MB, one old file is kept
}

// Load reads a configuration file.
func Load(path string) (Config, error) {
	var c Config
	b, err := os.ReadFile(path)
	if err != nil {
		return c, fmt.Errorf("load etcd configuration: %w", err)
	}
	if err := json.Unmarshal(b, &c); err != nil {
		return c, fmt.Errorf("load etcd configuration %s: %w", path, err)
	}
	return c, c.validate()
}

// Save writes the configuration file, atomically and with mode 0600.
func (c Config) Save(path string) error {
	if err := c.validate(); err != nil {
		return err
	}
	b, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return fmt.Errorf("save etcd configuration: %w", err)
	}
	if err := renameio.WriteFile(path, append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("save etcd configuration: %w", err)
	}
	return nil
}

func (c Config) validate() error {
	var missing []string
	for name, value := range map[string]string{
		"name": c.Name, "data_dir": c.DataDir, "peer_url": c.PeerURL, "client_url": c.ClientURL,
		"token": c.Token, "ca": c.CA, "cert": c.Cert, "key": c.Key, "log": c.Log,
	} {
		if value == "" {
			missing = append(missing, name)
		}
	}
	slices.Sort(missing)
	switch {
	case len(missing) > 0:
		return fmt.Errorf("etcd configuration: %s not set", strings.Join(missing, ", "))
	case c.State != StateNew && c.State != StateExisting:
		return fmt.Errorf("etcd configuration: state is %q, want %q or %q", c.State, StateNew, StateExisting)
	case c.InitialCluster[c.Name] != c.PeerURL:
		return fmt.Errorf("etcd configuration: initial_cluster does not name %s at %s", c.Name, c.PeerURL)
	case !filepath.IsAbs(c.Log):
		return errors.New("etcd configuration: log is not an absolute path")
	}
	return nil
}

// etcd translates into etcd's own configuration. It sets a package variable of etcd's, so one process runs one etcd.
func (c Config) etcd() (*embed.Config, error) {
	peer, err := url.Parse(c.PeerURL)
	if err != nil {
		return nil, fmt.Errorf("etcd configuration: %w", err)
	}
	client, err := url.Parse(c.ClientURL)
	if err != nil {
		return nil, fmt.Errorf("etcd configuration: %w", err)
	}
	wal.SegmentSizeBytes = walSegment
	e := embed.NewConfig()
	e.Name, e.Dir = c.Name, c.DataDir
	e.ListenPeerUrls, e.AdvertisePeerUrls = []url.URL{c.bound(*peer)}, []url.URL{*peer}
	e.ListenClientUrls, e.AdvertiseClientUrls = []url.URL{c.bound(*client)}, []url.URL{*client}
	e.InitialCluster, e.ClusterState, e.InitialClusterToken = joined(c.InitialCluster), c.State, c.Token
	e.TickMs, e.ElectionMs = uint(Tick.Milliseconds()), uint(Election.Milliseconds())
	e.SnapshotCount, e.SnapshotCatchUpEntries = 1000, 500 // the latter are held in memory
	e.MaxWalFiles, e.MaxSnapFiles = 2, 2
	e.AutoCompactionMode, e.AutoCompactionRetention = embed.CompactorModeRevision, fmt.Sprint(keptRevisions)
	e.QuotaBackendBytes = quota
	e.BackendBatchInterval = 500 * time.Millisecond // of the database file; commits are in the log already
	e.EnableGRPCGateway = false
	e.LogLevel, e.LogFormat = "warn", "console"
	e.LogOutputs, e.EnableLogRotation = []string{c.Log}, true
	e.LogRotationConfigJSON = `{"maxsize": 4, "maxbackups": 1}`
	e.PeerTLSInfo, e.ClientTLSInfo = c.tls(), c.tls()
	return e, nil
}

// bound is where the member listens for what comes to u.
func (c Config) bound(u url.URL) url.URL {
	if c.Listen != "" {
		u.Host = net.JoinHostPort(c.Listen, u.Port())
	}
	return u
}

// tls is mutual TLS within the cluster's own authority. etcd reads the files anew at every handshake. That a client's
// address is named in its certificate is not asked for: its source address may be a floating one.
func (c Config) tls() transport.TLSInfo {
	return transport.TLSInfo{
		TrustedCAFile:       c.CA,
		CertFile:            c.Cert,
		KeyFile:             c.Key,
		ClientCertAuth:      true,
		SkipClientSANVerify: true,
	}
}

func joined(m map[string]string) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(m)) {
		parts = append(parts, name+"="+m[name])
	}
	return strings.Join(parts, ",")
}
