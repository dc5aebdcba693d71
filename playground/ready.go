package playground

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"standfast/api"
	"standfast/config"
	"standfast/ops/preflight"
	"standfast/postgres"

	"github.com/jackc/pgx/v5"
)

// perMember is the disk space that a member needs: its data, WAL, etcd's log, and as much again to be rewound.
const perMember = 400 << 20

// startTime bounds how long the members may take until all take part: first data, and a copy of it for each other one.
const startTime = 3 * time.Minute

// check looks for whatever would make the start fail, and reports all of it at once.
func (p *Playground) check(context.Context) error {
	var all []preflight.Endpoint
	add := func(network, address string, ports ...int) {
		for _, port := range ports {
			all = append(all, preflight.Endpoint{Network: network, Address: hostPort(address, port)})
		}
	}
	ports := p.cfg.ports()
	add("tcp", p.cfg.Floating, ports.Write, ports.Read)
	for i := range p.cfg.Nodes {
		_, address := p.cfg.member(i)
		add("tcp", address, ports.Postgres, ports.Write, ports.Read, ports.Health, ports.Admin, ports.EtcdClient, ports.EtcdPeer)
		add("udp", address, ports.Beat)
	}
	taken := preflight.Ports(all...)
	if taken != nil {
		taken = fmt.Errorf("%w\nor take other addresses with --floating 127.0.1.10, or other ports with --port-offset 10000", taken)
	}
	_, _, err := postgres.FindBinDir("")
	return errors.Join(err, preflight.Space(p.cfg.Dir, int64(p.cfg.Nodes)*perMember), taken)
}

// wait returns when every member takes part: a primary takes writes, and every standby follows and serves reads.
func (p *Playground) wait(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	ended := p.Ended(ctx)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	var told string
	for {
		st, _, err := p.client.Status(ctx)
		var missing string
		if err == nil {
			if missing = lacking(st); missing == "" {
				return nil
			}
			if missing != told {
				told = missing
				p.cfg.Say(missing)
			}
		}
		select {
		case h := <-ended:
			return fmt.Errorf("%s has ended by itself (%v); its last words, from %s:\n%s", h.Name, h.err, h.LogFile(), h.lastWords())
		case <-ctx.Done():
			return fmt.Errorf("start the playground: %w; still missing: %s (logs: %s)", context.Cause(ctx), orText(missing, "any answer"), filepath.Join(p.cfg.Dir, "*", "standfast.log"))
		case <-tick.C:
		}
	}
}

func orText(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// lacking says what a cluster still needs to be whole, "" if nothing.
func lacking(st *api.Status) string {
	primary := st.Member(st.Primary)
	if primary == nil || !primary.Writable {
		return "waiting for a primary"
	}
	var out []string
	for _, m := range st.Members {
		if m.Name == st.Primary || m.Role == api.Witness || m.Readable && m.InRule {
			continue
		}
		what := string(m.State)
		if m.Note != "" {
			what = m.Note
		}
		out = append(out, m.Name+": "+oneLine(what))
	}
	if len(out) == 0 {
		return ""
	}
	return primary.Name + " is primary; waiting for " + strings.Join(out, ", ")
}

// makeDatabase makes a database and its owner to try things out with, unless a kept state has them.
func (p *Playground) makeDatabase(ctx context.Context) error {
	if _, err := os.Stat(p.PasswordFile()); err == nil {
		return nil
	}
	password := rand.Text()
	if err := p.asSuperuser(ctx,
		"CREATE ROLE "+Name+" LOGIN PASSWORD '"+password+"'", // letters and digits only
		"CREATE DATABASE "+Name+" OWNER "+Name); err != nil {
		return fmt.Errorf("make the database %s: %w", Name, err)
	}
	return os.WriteFile(p.PasswordFile(), []byte("*:*:*:"+Name+":"+password+"\n"), 0o600)
}

// asSuperuser runs statements on the primary, over the Unix socket that only this user may use so.
func (p *Playground) asSuperuser(ctx context.Context, statements ...string) error {
	h := p.Host(p.State().Primary)
	if h == nil {
		return errors.New("nobody is primary")
	}
	conn, err := pgx.Connect(ctx, fmt.Sprintf("host=%s port=%d user=postgres dbname=postgres", filepath.Join(h.StateDir(), "run"), p.cfg.ports().Postgres))
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for _, s := range statements {
		if _, err := conn.Exec(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// PasswordFile is a file in the form of .pgpass with the password of the database's owner ("The Password File").
func (p *Playground) PasswordFile() string { return filepath.Join(p.cfg.Dir, "pgpass") }

// DSN leads to the playground's database: through the floating address, or with a member's address to its server.
func (p *Playground) DSN(address string, port int) string {
	u := url.URL{Scheme: "postgres", User: url.User(Name), Host: hostPort(address, port), Path: Name}
	u.RawQuery = url.Values{"passfile": {p.PasswordFile()}, "sslmode": {"prefer"}}.Encode()
	return u.String()
}

// WriteDSN leads to the primary, ReadDSN to a standby, both through the floating address.
func (p *Playground) WriteDSN() string { return p.DSN(p.cfg.Floating, p.cfg.ports().Write) }

// ReadDSN leads to a standby through the floating address.
func (p *Playground) ReadDSN() string { return p.DSN(p.cfg.Floating, p.cfg.ports().Read) }

// Address is where writing clients connect: the floating address and its port.
func (p *Playground) Address() string { return hostPort(p.cfg.Floating, p.cfg.ports().Write) }

// Whole reports whether a primary takes writes and every other member follows it.
func (p *Playground) Whole(ctx context.Context) bool {
	st, _, err := p.client.Status(ctx)
	return err == nil && lacking(st) == ""
}

// Ports are the ports of every member.
func (p *Playground) Ports() config.Ports { return p.cfg.ports() }

// Floating is the address that follows the primary.
func (p *Playground) Floating() string { return p.cfg.Floating }
