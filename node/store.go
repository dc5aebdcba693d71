package node

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"standfast/certs"
	"standfast/recovery"
	"standfast/store"
	"standfast/store/embed"
	storeetcd "standfast/store/etcd"
)

// openStore opens the site's etcd, or prepares one of our own beside it.
func (n *Node) openStore() error {
	c := storeetcd.Config{Endpoints: n.cfg.Etcd.Endpoints}
	var err error
	if n.cfg.Etcd.Embedded() {
		if err := n.prepareEtcd(); err != nil {
			return err
		}
		c.Endpoints, c.TLS = n.etcdEndpoints(), n.tls.client
	} else if n.cfg.Etcd.CAFile != "" || n.cfg.Etcd.CertFile != "" {
		c.TLS, err = certs.ClientTLS(certs.Files{CA: n.cfg.Etcd.CAFile, Cert: n.cfg.Etcd.CertFile, Key: n.cfg.Etcd.KeyFile})
		if err != nil {
			return fmt.Errorf("etcd's certificates: %w", err)
		}
	}
	s, err := storeetcd.Open(c)
	if err != nil {
		return err
	}
	n.storeClose = s.Close
	n.store = store.New(s, n.cfg.Cluster)
	return nil
}

// etcdEndpoints are the members' etcds, this one's first: a local answer needs no network. Members that were added since this
// host's file was written are known from the last run.
func (n *Node) etcdEndpoints() []string {
	out := []string{"https://" + n.cfg.Member().Etcd}
	for _, m := range n.cfg.Members {
		if m.Name != n.cfg.Name {
			out = append(out, "https://"+m.Member().Etcd)
		}
	}
	known, err := recovery.LoadKnown(n.cfg.StateDir)
	if err != nil && !errors.Is(err, recovery.ErrNothing) {
		n.log.Warn("look for members that were added since", "error", err)
	}
	for _, m := range known.Members {
		if at := "https://" + m.Etcd; m.Etcd != "" && !slices.Contains(out, at) {
			out = append(out, at)
		}
	}
	return out
}

func (n *Node) prepareEtcd() error {
	me, ports := n.cfg.Member(), n.cfg.Self().Ports
	if err := freePort(n.cfg.ListenAt(ports.EtcdPeer), "etcd", "ports.etcd_peer"); err != nil {
		return err
	}
	if err := freePort(n.cfg.ListenAt(ports.EtcdClient), "etcd", "ports.etcd_client"); err != nil {
		return err
	}
	listen, err := bindable(n.cfg.ListenHost())
	if err != nil {
		return err
	}
	initial := map[string]string{}
	for _, m := range n.cfg.Members {
		initial[m.Name] = "https://" + m.Member().EtcdPeer
	}
	c := embed.Config{
		Name: n.cfg.Name, DataDir: filepath.Join(n.cfg.StateDir, "etcd"),
		PeerURL: "https://" + me.EtcdPeer, ClientURL: "https://" + me.Etcd, Listen: listen,
		InitialCluster: initial, State: embed.StateNew, Token: n.etcdToken(),
		CA: n.tls.files.CA, Cert: n.tls.files.Cert, Key: n.tls.files.Key,
		Log: filepath.Join(n.cfg.StateDir, "log", "etcd.log"),
	}
	n.etcd = &etcd{node: n, config: embed.File(n.cfg.StateDir), conf: c}
	return n.etcd.open(n.etcdEndpoints())
}

// bindable is the host as an IP address: etcd, unlike all other parts, binds no name.
func bindable(host string) (string, error) {
	at, err := net.ResolveIPAddr("ip", host)
	if err != nil {
		return "", fmt.Errorf("find the address that etcd listens on: %w (write an IP address of this host as listen in the member's file)", err)
	}
	return at.String(), nil
}

// freePort finds a taken port before a child process would fail on it again and again. The etcd of an agent that was
// killed a moment ago ends with it, but not in the same instant.
func freePort(addr, what, key string) error {
	for deadline := time.Now().Add(3 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		l, err := net.Listen("tcp", addr)
		if err == nil {
			return l.Close()
		}
		if !errors.Is(err, syscall.EADDRINUSE) || time.Now().After(deadline) {
			return portTaken(err, what, key)
		}
	}
}
