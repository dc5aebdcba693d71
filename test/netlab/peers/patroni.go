package peers

import (
	"context"
	"errors"
	"fmt"

	"standfast/test/netlab"
)

// patroni is Patroni's stack.
type patroni struct{ machines }

const patronictl = "runuser -u postgres -- patronictl -c /etc/patroni/config.yml "

func startPatroni(ctx context.Context, cfg Config) (Stack, error) {
	lab, err := netlab.Start(ctx, cfg.lab(func(h *netlab.Host, root string) error { return install(h, root, "both", "patroni") }))
	if err != nil {
		return nil, err
	}
	p := &patroni{machines{lab: lab}}
	if err := p.setUp(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("set up Patroni's stack: %w", err), p.Close())
	}
	return p, nil
}

const patroniHost = `rm -rf /var/lib/etcd/default; mkdir -p /var/lib/postgresql/17
chown -R postgres: /var/lib/postgresql/ /etc/patroni; chown -R etcd: /var/lib/etcd/
systemctl enable --now --no-block etcd
`

// awaitHealth waits until Patroni answers for a role.
const awaitHealth = `for i in $(seq 240); do curl -fs -o /dev/null http://%s:8008/%s && exit; sleep 0.5; done; exit 1`

func (p *patroni) setUp(ctx context.Context) error {
	var err error
	first, others := p.lab.Hosts[0], p.lab.Hosts[1:]
	if p.with, err = versions(ctx, first, "postgresql-17", "patroni", "etcd-server", "haproxy", "keepalived"); err != nil {
		return err
	}
	if err := p.shell(ctx, fmt.Sprintf(onDisk, "postgresql etcd")+patroniHost, p.lab.Hosts...); err != nil {
		return err
	}
	const start = "systemctl enable --now patroni\n"
	if err := p.shell(ctx, start+fmt.Sprintf(awaitHealth, first.Addr, "primary"), first); err != nil {
		return err
	}
	for _, h := range others {
		if err := p.shell(ctx, start+fmt.Sprintf(awaitHealth, h.Addr, "replica"), h); err != nil {
			return err
		}
	}
	if err := p.shell(ctx, `runuser -u postgres -- psql -qc "CREATE ROLE app LOGIN" -c "CREATE DATABASE app OWNER app"`, first); err != nil {
		return err
	}
	if err := p.shell(ctx, "systemctl enable --now haproxy keepalived", p.lab.Hosts...); err != nil {
		return err
	}
	_, err = p.Whole(ctx)
	return err
}

// Name implements Stack.
func (*patroni) Name() string { return "Patroni" }

// Whole implements Stack. Patroni repairs by itself.
func (p *patroni) Whole(ctx context.Context) (*netlab.Host, error) {
	return p.whole(ctx, func(context.Context, server, []server) error { return nil })
}

// Switchover implements Stack.
func (p *patroni) Switchover(ctx context.Context, from, to *netlab.Host) error {
	_, err := from.Shell(ctx, patronictl+fmt.Sprintf("switchover --leader %s --candidate %s --force", from.Name, to.Name))
	return err
}
