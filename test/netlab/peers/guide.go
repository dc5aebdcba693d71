package peers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"standfast/test/netlab"
)

// guide is the hand-built stack.
type guide struct {
	machines
	waiting time.Time // since when standbys that are there have been waited for; zero: they are not
}

// repmgr runs repmgr as the guide does.
const repmgr = "runuser -u postgres -- /usr/lib/postgresql/17/bin/repmgr -f /etc/repmgr.conf "

const guideHost = `pg_createcluster 17 main -- -k >/dev/null
cat /usr/local/share/guide/postgresql.conf >>/etc/postgresql/17/main/postgresql.conf
cat /usr/local/share/guide/pg_hba.conf >>/etc/postgresql/17/main/pg_hba.conf
chown -R postgres: /var/lib/postgresql/
systemctl daemon-reload
`

const guidePrimary = `pg_ctlcluster 17 main start
runuser -u postgres -- sh -euc "createuser --superuser repmgr; createdb --owner=repmgr repmgr; psql -qc 'ALTER USER repmgr SET search_path TO repmgr, public'
	createuser app; createdb --owner=app app"
` + repmgr + `primary register
`

// guideStandby is also what the guide has for an old primary that came back.
const guideStandby = `systemctl stop repmgrd || :
pg_ctlcluster 17 main stop -m immediate || :
%s -h %s -U repmgr -d repmgr standby clone --force --fast-checkpoint
pg_ctlcluster 17 main start
%s standby register --force
`

const guideServices = "systemctl enable --now repmgrd pgchk haproxy keepalived"

func startGuide(ctx context.Context, cfg Config) (Stack, error) {
	keys, err := os.MkdirTemp("", "standfast-peers-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(keys)
	key := filepath.Join(keys, "id_ed25519") // repmgr's switchover goes from host to host with ssh
	if out, err := exec.CommandContext(ctx, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("make a key for ssh: %w: %s", err, out)
	}
	lab, err := netlab.Start(ctx, cfg.lab(func(h *netlab.Host, root string) error {
		return errors.Join(install(h, root, "both", "guide"), letIn(root, key))
	}))
	if err != nil {
		return nil, err
	}
	g := &guide{machines: machines{lab: lab}}
	if err := g.setUp(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("set up the hand-built stack: %w", err), g.Close())
	}
	return g, nil
}

// letIn lets the user postgres of every host into every other.
func letIn(root, key string) error {
	dir := filepath.Join(root, "var/lib/postgresql/.ssh")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for from, to := range map[string]string{key: "id_ed25519", key + ".pub": "authorized_keys"} {
		b, err := os.ReadFile(from)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, to), b, 0o600); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(dir, "config"), []byte("Host *\n StrictHostKeyChecking no\n"), 0o600)
}

func (g *guide) setUp(ctx context.Context) error {
	var err error
	first := g.lab.Hosts[0]
	if g.with, err = versions(ctx, first, "postgresql-17", "postgresql-17-repmgr", "haproxy", "keepalived"); err != nil {
		return err
	}
	if err := g.shell(ctx, fmt.Sprintf(onDisk, "postgresql")+guideHost, g.lab.Hosts...); err != nil {
		return err
	}
	if err := g.shell(ctx, guidePrimary, first); err != nil {
		return err
	}
	for _, h := range g.lab.Hosts[1:] {
		if err := g.follow(ctx, h, first); err != nil {
			return err
		}
	}
	if err := g.shell(ctx, guideServices, g.lab.Hosts...); err != nil {
		return err
	}
	_, err = g.Whole(ctx)
	return err
}

// follow makes a host a standby, whatever it was.
func (g *guide) follow(ctx context.Context, h, primary *netlab.Host) error {
	return g.shell(ctx, fmt.Sprintf(guideStandby, repmgr, primary.Addr, repmgr), h)
}

// Name implements Stack.
func (*guide) Name() string { return "guide" }

// patience is how long standbys may take to follow a new primary by themselves.
const patience = 15 * time.Second

// Whole implements Stack.
func (g *guide) Whole(ctx context.Context) (*netlab.Host, error) {
	g.waiting = time.Time{}
	primary, err := g.whole(ctx, g.repair)
	if err != nil {
		return nil, err
	}
	return primary, g.shell(ctx, "systemctl restart repmgrd", g.lab.Hosts...) // one that has seen a failover may have given up
}

// repair clones anew whatever is not a standby of the primary: at once if it is another primary or not there, else if it had its time.
func (g *guide) repair(ctx context.Context, primary server, all []server) error {
	if g.waiting.IsZero() {
		g.waiting = time.Now()
	}
	late := time.Since(g.waiting) > patience
	standby := map[*netlab.Host]bool{}
	for _, s := range all {
		standby[s.host] = s.timeline == 0
	}
	for _, h := range g.lab.Hosts {
		if h == primary.host || standby[h] && !late {
			continue
		}
		if err := g.follow(ctx, h, primary.host); err != nil {
			return err
		}
		if err := g.shell(ctx, guideServices, h); err != nil {
			return err
		}
		g.waiting = time.Time{} // it has its time anew
	}
	return nil
}

// Switchover implements Stack.
func (g *guide) Switchover(ctx context.Context, _, to *netlab.Host) error {
	_, err := to.Shell(ctx, repmgr+"standby switchover --siblings-follow -F")
	return err
}
