package peers

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"text/template"
	"time"

	"github.com/jackc/pgx/v5"

	"standfast/playground/load"
	"standfast/test/netlab"
	"standfast/test/netlab/site"
)

//go:embed files
var files embed.FS

// about is what the files are filled with.
type about struct {
	Name      string
	Number    int
	Addr      netip.Addr
	Priority  int
	Interface string
	Floating  netip.Addr
	Net       netip.Prefix
	Hosts     []about // all three; in these only Name and Addr
}

func aboutHost(h *netlab.Host) about {
	a := about{Name: h.Name, Number: h.Number, Addr: h.Addr, Priority: 102 - h.Number, Interface: netlab.Interface, Floating: site.Floating, Net: netlab.Net4}
	for i := 1; i <= 3; i++ {
		a.Hosts = append(a.Hosts, about{Name: fmt.Sprintf("pg%d", i), Addr: netlab.Address(i)})
	}
	return a
}

// install writes the files of some sets into a host's root.
func install(h *netlab.Host, root string, sets ...string) error {
	for _, set := range sets {
		base := "files/" + set
		err := fs.WalkDir(files, base, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			t, err := template.ParseFS(files, path)
			if err != nil {
				return err
			}
			var text bytes.Buffer
			if err := t.Execute(&text, aboutHost(h)); err != nil {
				return err
			}
			to := filepath.Join(root, strings.TrimPrefix(path, base))
			if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
				return err
			}
			return os.WriteFile(to, text.Bytes(), 0o644)
		})
		if err != nil {
			return fmt.Errorf("install %s: %w", set, err)
		}
	}
	return nil
}

// disable does what "systemctl disable" does, to all services that came with the packages.
func disable(root string) error {
	for _, s := range services {
		links, _ := filepath.Glob(filepath.Join(root, "etc/systemd/system/*.wants", s+".service")) // the pattern is sound
		for _, l := range links {
			if err := os.Remove(l); err != nil {
				return err
			}
		}
	}
	return nil
}

// machines is what the two peers have in common.
type machines struct {
	lab  *netlab.Lab
	with string
}

func (m *machines) Lab() *netlab.Lab { return m.lab }

func (m *machines) With() string { return m.with }

func (m *machines) Close() error { return m.lab.Close() }

// shell runs a script on hosts at the same time.
func (m *machines) shell(ctx context.Context, script string, hosts ...*netlab.Host) error {
	errs := make(chan error)
	for _, h := range hosts {
		go func() {
			_, err := h.Shell(ctx, script)
			errs <- err
		}()
	}
	var all error
	for range hosts {
		all = errors.Join(all, <-errs)
	}
	return all
}

// versions asks a host's packages.
func versions(ctx context.Context, h *netlab.Host, packages ...string) (string, error) {
	out, err := h.Run(ctx, append([]string{"dpkg-query", "-W", "-f", "${Package} ${Version}, "}, packages...)...)
	return strings.TrimSuffix(out, ", "), err
}

// onDisk moves directories with state to the host's own disk.
const onDisk = `for d in %s; do
	mkdir -p /var/lib/$d; mv /var/lib/$d ` + netlab.StateDir + `/$d; ln -s ` + netlab.StateDir + `/$d /var/lib/$d
done
`

// server is what PostgreSQL on a host says of itself.
type server struct {
	host     *netlab.Host
	timeline uint32 // 0: a standby
	streams  int    // standbys that it streams to
}

const ask = `SELECT CASE WHEN pg_is_in_recovery() THEN 0 ELSE ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::bigint END,
	(SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming')`

// servers asks every host that is up, by its own address.
func (m *machines) servers(ctx context.Context) []server {
	var out []server
	for _, h := range m.lab.Hosts {
		if !h.Up() {
			continue
		}
		s := server{host: h}
		if m.query(ctx, DSN(h.Addr.String(), site.PostgresPort)+" user=postgres dbname=postgres", ask, &s.timeline, &s.streams) == nil { // no answer: not a server now
			out = append(out, s)
		}
	}
	return out
}

// query takes one row in a session of its own.
func (m *machines) query(ctx context.Context, dsn, sql string, into ...any) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		return err
	}
	cfg.DialFunc = m.lab.Dial
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return err
	}
	defer load.CloseNow(conn)
	return conn.QueryRow(ctx, sql).Scan(into...)
}

// newest is the primary on the newest timeline.
func newest(all []server) (server, error) {
	var best server
	for _, s := range all {
		if s.timeline > best.timeline {
			best = s
		}
	}
	if best.host == nil {
		return best, errors.New("no server takes writes")
	}
	return best, nil
}

// Primary implements Stack.
func (m *machines) Primary(ctx context.Context) (*netlab.Host, error) {
	s, err := newest(m.servers(ctx))
	return s.host, err
}

// boot gives power to the hosts that are off.
func (m *machines) boot(ctx context.Context) error {
	var errs []error
	for _, h := range m.lab.Hosts {
		errs = append(errs, h.Boot(ctx))
	}
	return errors.Join(errs...)
}

// whole waits until three servers work with each other, letting repair do something about it whenever they don't, then brings the
// floating address to the primary's host.
func (m *machines) whole(ctx context.Context, repair func(context.Context, server, []server) error) (*netlab.Host, error) {
	ctx, cancel := context.WithTimeout(ctx, wholeTime)
	defer cancel()
	if err := m.boot(ctx); err != nil {
		return nil, err
	}
	for {
		all := m.servers(ctx)
		primary, err := newest(all)
		if err == nil && len(all) == len(m.lab.Hosts) && primary.streams == len(all)-1 {
			return primary.host, m.bring(ctx, primary.host)
		}
		if err == nil {
			err = repair(ctx, primary, all)
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("wait until the cluster is whole: %w; %v; servers %+v", context.Cause(ctx), err, all)
		}
		time.Sleep(500 * time.Millisecond)
	}
}

// bring moves the floating address to a host, and returns when writes through it reach that host's server.
func (m *machines) bring(ctx context.Context, to *netlab.Host) error {
	var others []*netlab.Host
	for _, h := range m.lab.Hosts {
		if h != to {
			others = append(others, h)
		}
	}
	if err := errors.Join(m.shell(ctx, "systemctl is-active -q keepalived || systemctl start keepalived", to), m.shell(ctx, "systemctl stop keepalived", others...)); err != nil {
		return err
	}
	if err := m.served(ctx, to); err != nil {
		return err
	}
	if err := m.shell(ctx, "systemctl start keepalived", others...); err != nil {
		return err
	}
	return m.served(ctx, to)
}

// served waits until five sessions through the floating address in a row have been with the host's server.
func (m *machines) served(ctx context.Context, by *netlab.Host) error {
	for n := 0; n < 5; {
		var address netip.Addr
		var standby bool
		err := m.query(ctx, FloatingDSN(), "SELECT inet_server_addr(), pg_is_in_recovery()", &address, &standby)
		if n++; err != nil || standby || address != by.Addr {
			n = 0
		}
		if ctx.Err() != nil {
			return fmt.Errorf("wait until writes through the floating address reach %s: %w; the last reached %v: %v", by.Name, context.Cause(ctx), address, err)
		}
		time.Sleep(200 * time.Millisecond)
	}
	return nil
}
