package playground

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"standfast/certs"
	"standfast/cluster"
	"standfast/config"
	"standfast/decide"
	"standfast/ops"
	"standfast/ops/founding"
	"standfast/store"
	"standfast/store/etcd"
)

// Config says what to run. The zero value is three members with all defaults.
type Config struct {
	Nodes     int    // 0: 3
	Witnesses int    // so many of them, the last ones, hold no data
	Dir       string // "": DefaultDir
	Detection string // "": fast
	Keep      bool   // the state outlives the run, and is used again by the next one in the same directory
	Binary    string // that runs the members; "": a copy of this one
	Floating  string // the floating address, the members' are the ones after it; "": 127.0.0.10
	Ports     config.Ports
	Settings  []string // more of the members' files, as "key=value"

	Say func(text string) // told each step; nil: nobody
}

// Name is the cluster's name, and of the database and its user that are made for trying things out.
const Name = "playground"

// Playground is a cluster that runs.
type Playground struct {
	Hosts []*Host

	cfg      Config
	lock     *os.File
	floating *floating
	records  *store.Cluster
	client   *ops.Cluster

	stopWatch context.CancelFunc
	watched   chan struct{} // closed when the watch has ended
	primary   chan struct{} // for Changed
	view      view
}

// Start checks the machine, makes the files, starts the members and returns when all of them take part. When it fails, or
// ctx ends meanwhile, nothing is left running.
func Start(ctx context.Context, cfg Config) (_ *Playground, err error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	p := &Playground{cfg: cfg, primary: make(chan struct{}, 1), watched: make(chan struct{})}
	close(p.watched) // none yet
	if p.lock, err = claim(cfg.Dir); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			p.cfg.Keep = p.cfg.Keep || ctx.Err() == nil && len(p.Hosts) > 0 // the logs are needed now; the next run clears up
			err = errors.Join(err, p.Stop())
		}
	}()
	for _, step := range []func(context.Context) error{p.clean, p.check, p.prepare, p.openAddress, p.startHosts, p.follow, p.wait, p.makeDatabase} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// Check fills in the defaults and refuses what makes no sense. Start does it too.
func (c *Config) Check() error {
	if c.Nodes == 0 {
		c.Nodes = 3
	}
	if c.Nodes < 1 || c.Nodes > 9 {
		return fmt.Errorf("%d nodes: a playground has 1 to 9", c.Nodes)
	}
	if c.Witnesses < 0 || c.Witnesses >= c.Nodes {
		return fmt.Errorf("%d of %d nodes as witnesses: at least one must hold data", c.Witnesses, c.Nodes)
	}
	if c.Dir == "" {
		c.Dir = DefaultDir()
	}
	if c.Detection == "" {
		c.Detection = "fast"
	}
	if c.Floating == "" {
		c.Floating = "127.0.0.10"
	}
	if c.Say == nil {
		c.Say = func(string) {}
	}
	ip := net.ParseIP(c.Floating).To4()
	if ip == nil || ip[0] != 127 || int(ip[3])+c.Nodes > 254 {
		return fmt.Errorf("%s: the floating address of a playground lies in 127.0.0.0/8", c.Floating)
	}
	for _, port := range c.ports().All() {
		if port < 1 || port > 65535 {
			return fmt.Errorf("port %d: ports go from 1 to 65535; choose another --port-offset, such as 10000", port)
		}
	}
	if _, err := config.Detection(c.Detection).Time(); err != nil {
		return fmt.Errorf("detection: %w", err)
	}
	var err error
	c.Dir, err = filepath.Abs(c.Dir)
	return err
}

// member is the name and address of the i-th member, from 0.
func (c *Config) member(i int) (name, address string) {
	ip := net.ParseIP(c.Floating).To4()
	ip[3] += byte(i + 1)
	return fmt.Sprintf("pg%d", i+1), ip.String()
}

// ports are the members' ports, with the defaults where nothing else was said.
func (c *Config) ports() config.Ports {
	d, p := config.DefaultNode().Ports, c.Ports
	for _, f := range []struct{ to, def *int }{
		{&p.Postgres, &d.Postgres}, {&p.Write, &d.Write}, {&p.Read, &d.Read}, {&p.Health, &d.Health},
		{&p.Admin, &d.Admin}, {&p.Beat, &d.Beat}, {&p.EtcdClient, &d.EtcdClient}, {&p.EtcdPeer, &d.EtcdPeer},
	} {
		if *f.to == 0 {
			*f.to = *f.def
		}
	}
	return p
}

// clean ends what an earlier run left behind and removes its state, unless that was to be kept.
func (p *Playground) clean(context.Context) error {
	if left := processesIn(p.cfg.Dir); len(left) > 0 {
		p.cfg.Say(fmt.Sprintf("ending %d processes that an earlier playground left in %s", len(left), p.cfg.Dir))
		if err := killAll(p.cfg.Dir, 10*time.Second); err != nil {
			return err
		}
	}
	if p.kept() {
		return nil
	}
	return empty(p.cfg.Dir)
}

// kept reports whether the directory holds the whole state of an earlier run of the same size.
func (p *Playground) kept() bool {
	b, err := os.ReadFile(filepath.Join(p.cfg.Dir, keepName))
	return err == nil && p.cfg.Keep && string(b) == p.shape()
}

// shape is what must be the same for a kept state to be of use.
func (p *Playground) shape() string {
	return fmt.Sprintf("%d members, %d witnesses, at %s, ports %v, detection %s, settings %v\n", p.cfg.Nodes, p.cfg.Witnesses, p.cfg.Floating, p.cfg.ports(), p.cfg.Detection, p.cfg.Settings)
}

// prepare makes everybody's files, or takes those of the run before.
func (p *Playground) prepare(context.Context) error {
	binary := p.cfg.Binary
	if binary == "" {
		binary = filepath.Join(p.cfg.Dir, "bin", "standfast")
		if err := copySelf(binary); err != nil {
			return err
		}
	}
	spec := founding.Spec{
		Cluster:  Name,
		Home:     func(m string) string { return filepath.Join(p.cfg.Dir, m) },
		StateDir: func(m string) string { return filepath.Join(p.cfg.Dir, m, "state") },
		Settings: append([]string{"bootstrap.detection=" + p.cfg.Detection}, p.cfg.Settings...),
		Also:     []string{p.cfg.Floating},
	}
	for i := range p.cfg.Nodes {
		name, address := p.cfg.member(i)
		m := config.Member{Name: name, Address: address, Ports: p.cfg.Ports}
		if i >= p.cfg.Nodes-p.cfg.Witnesses {
			m.Kind = cluster.Witness
		}
		spec.Members = append(spec.Members, m)
		p.Hosts = append(p.Hosts, &Host{Name: name, Address: address, Witness: m.Kind == cluster.Witness, Dir: filepath.Join(p.cfg.Dir, name), binary: binary})
	}
	if p.kept() {
		p.cfg.Say("using the state that the last run kept in " + p.cfg.Dir)
		return nil
	}
	if err := spec.Write(filepath.Join(p.cfg.Dir, "ca"), spec.Home, time.Now()); err != nil {
		return err
	}
	if !p.cfg.Keep {
		return nil
	}
	return os.WriteFile(filepath.Join(p.cfg.Dir, keepName), []byte(p.shape()), 0o644)
}

// copySelf copies this program: the members may run as another user than the one who can read the original, and a rebuilt
// original must not change a cluster that runs.
func copySelf(to string) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("copy the program to %s: %w", to, err)
		}
	}()
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	in, err := os.Open("/proc/self/exe")
	if err != nil {
		return err
	}
	defer in.Close()
	_ = os.Remove(to) // a running one can't be written to
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

func (p *Playground) openAddress(context.Context) error {
	ports := p.cfg.ports()
	log := slog.New(slog.DiscardHandler) // what it would say is seen by the client as well
	var err error
	p.floating, err = newFloating(p.cfg.Floating, []int{ports.Write, ports.Read}, log)
	return err
}

func (p *Playground) startHosts(context.Context) error {
	p.cfg.Say(fmt.Sprintf("starting %d members", len(p.Hosts)))
	for _, h := range p.Hosts {
		if err := h.Start(); err != nil {
			return err
		}
	}
	return nil
}

// follow opens the agreed records and lets the floating address follow them, by event: a watch runs on all members' etcd at
// once, so that a frozen one delays nothing.
func (p *Playground) follow(ctx context.Context) error {
	first, err := config.LoadNode(p.Hosts[0].File(), nil, nil)
	if err != nil {
		return err
	}
	if p.client, err = ops.Connect(first); err != nil {
		return err
	}
	t, err := certs.ClientTLS(certs.In(first.TLSDir))
	if err != nil {
		return err
	}
	where, err := recordsOf(first, t)
	if err != nil {
		return err
	}
	s, err := etcd.Open(where)
	if err != nil {
		return err
	}
	p.records = store.New(s, Name)
	watch, stop := context.WithCancel(context.WithoutCancel(ctx))
	p.stopWatch, p.watched = stop, make(chan struct{})
	go func() {
		defer close(p.watched)
		defer s.Close() // it only ever read
		for snap := range p.records.Watch(watch) {
			p.take(snap.State, snap.Request)
		}
	}()
	return nil
}

// recordsOf says where the cluster's records are: in the members' own etcds, or in one of the user's.
func recordsOf(n config.Node, t *tls.Config) (etcd.Config, error) {
	if n.Etcd.Embedded() {
		var endpoints []string
		for _, m := range n.Founders() {
			endpoints = append(endpoints, m.Etcd)
		}
		return etcd.Config{Endpoints: endpoints, TLS: t}, nil
	}
	c := etcd.Config{Endpoints: n.Etcd.Endpoints}
	var err error
	if n.Etcd.CertFile != "" {
		c.TLS, err = certs.ClientTLS(certs.Files{CA: n.Etcd.CAFile, Cert: n.Etcd.CertFile, Key: n.Etcd.KeyFile})
	}
	return c, err
}

// take moves the address to whoever the record names.
func (p *Playground) take(s *cluster.State, r *cluster.Request) {
	if s == nil {
		return
	}
	holder := ""
	for _, h := range p.Hosts {
		if h.Name == decide.Holder(s, r) {
			holder = h.Address
		}
	}
	p.floating.move(holder)
	p.view.set(*s)
	select {
	case p.primary <- struct{}{}:
	default: // one is waiting to be seen already
	}
}

// Stop ends every member, closes the address and, unless it is to be kept, removes the state. It may be called again.
func (p *Playground) Stop() error {
	var errs []error
	if p.stopWatch != nil {
		p.stopWatch()
	}
	<-p.watched
	if p.client != nil {
		p.client.Close()
	}
	errs = append(errs, p.stopHosts())
	if p.floating != nil {
		p.floating.close()
		p.floating = nil
	}
	if p.lock != nil {
		if err := errors.Join(errs...); err == nil && !p.cfg.Keep {
			errs = append(errs, empty(p.cfg.Dir), os.RemoveAll(p.cfg.Dir))
		}
		errs = append(errs, p.lock.Close())
		p.lock = nil
	}
	return errors.Join(errs...)
}

// stopHosts stops all at the same time: one after the other they would begin elections among those that are left.
func (p *Playground) stopHosts() error {
	results := make(chan error, len(p.Hosts))
	for _, h := range p.Hosts {
		go func() { results <- h.stop(8 * time.Second) }()
	}
	var errs []error
	for range p.Hosts {
		errs = append(errs, <-results)
	}
	return errors.Join(errs...)
}

// Host finds a member by its name.
func (p *Playground) Host(name string) *Host {
	for _, h := range p.Hosts {
		if h.Name == name {
			return h
		}
	}
	return nil
}

// Client talks to the cluster as the command line does.
func (p *Playground) Client() *ops.Cluster { return p.client }

// State is the agreed record as last seen.
func (p *Playground) State() cluster.State { return p.view.get() }

// Changed has a value whenever State has changed since it was read the last time.
func (p *Playground) Changed() <-chan struct{} { return p.primary }

// Ended returns a channel that tells when a member's process has ended by itself.
func (p *Playground) Ended(ctx context.Context) <-chan *Host {
	out := make(chan *Host, len(p.Hosts))
	for _, h := range p.Hosts {
		go func() {
			select {
			case <-h.Done():
				out <- h
			case <-ctx.Done():
			}
		}()
	}
	return out
}

// hostPort joins an address with a port.
func hostPort(address string, port int) string { return net.JoinHostPort(address, strconv.Itoa(port)) }

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
