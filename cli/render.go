package cli

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"

	"standfast/cluster"
	"standfast/config"
	"standfast/render"
	"standfast/vip"

	"github.com/google/renameio/v2"
)

type renderCmd struct {
	For       string `arg:"" help:"The program: haproxy, keepalived or pgbouncer." enum:"haproxy,keepalived,pgbouncer" placeholder:"PROGRAM"`
	File      string `help:"Of a cluster.yml, instead of the cluster that runs." short:"f" placeholder:"FILE" type:"path"`
	Member    string `help:"The member whose host it is for; without it the one of this host." short:"m" placeholder:"NAME"`
	Interface string `help:"For keepalived: where the floating addresses are on that host; without it the one found here." placeholder:"NAME"`
	Out       string `help:"Write it into this file instead of to standard output." placeholder:"FILE" type:"path"`
}

func (renderCmd) Help() string {
	return `Prints a configuration of HAProxy, Keepalived or PgBouncer for the members that the cluster has now, or for those of a cluster.yml. It has to be written again when members come and go. Nothing else is changed by it: to have HAProxy and Keepalived installed and configured on the members, write routing: haproxy and address: keepalived in cluster.yml, and deploy.

HAProxy listens on the ports of the members' own routers, so it goes to hosts that are no members, or to members with routing: haproxy. Keepalived's is different on every host, and goes to members with address: keepalived. PgBouncer's says in its first lines what has to be done once in the databases.

Examples:

    standfast render haproxy --out /etc/haproxy/haproxy.cfg
    standfast render keepalived -f cluster.yml --member pg2 --interface eth0
    standfast render pgbouncer`
}

func (c *renderCmd) Run(a *app) error {
	site, self, err := c.site(a)
	if err != nil {
		return err
	}
	text, err := c.text(site, self)
	if err != nil {
		return &usageError{err}
	}
	if c.Out == "" {
		_, err = a.stdout.Write(text)
		return err
	}
	if err := renameio.WriteFile(c.Out, text, 0o644); err != nil {
		return fmt.Errorf("write %s: %w", c.Out, err)
	}
	fmt.Fprintf(a.stderr, "wrote %s\n", c.Out)
	return nil
}

// site is what cluster.yml or the cluster itself has, and the member that the text is for; "": none.
func (c *renderCmd) site(a *app) (render.Site, string, error) {
	if c.File != "" {
		d, err := readDeployment(c.File)
		if err != nil {
			return render.Site{}, "", err
		}
		return render.Of(d.Node(c.Member)), c.Member, nil
	}
	n, err := a.node()
	if err != nil {
		return render.Site{}, "", err
	}
	site, err := a.live(n)
	self := n.Name
	if c.Member != "" {
		self = c.Member
	}
	return site, self, err
}

// liveTime is how long the members may take to answer.
const liveTime = 10 * time.Second

// live takes the members and the agreed settings from the cluster that runs. Its floating addresses are in the member's file.
func (a *app) live(n config.Node) (render.Site, error) {
	site := render.Of(n)
	cl, err := a.connect()
	if err != nil {
		return site, err
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(a.ctx, liveTime)
	defer cancel()
	st, _, err := cl.Status(ctx)
	if err != nil {
		return site, err
	}
	site.Members = make([]cluster.Member, len(st.Members))
	for i, m := range st.Members {
		site.Members[i] = m.Member
	}
	agreed, err := cl.Agreed(ctx)
	if err != nil {
		return site, err
	}
	settings, err := config.ParseCluster("the agreed configuration", []byte(agreed.YAML))
	if err != nil {
		return site, err
	}
	site.Router = settings.Router
	return site, nil
}

func (c *renderCmd) text(s render.Site, self string) ([]byte, error) {
	switch c.For {
	case "haproxy":
		return render.HAProxy(s, self)
	case "pgbouncer":
		return render.PgBouncer(s)
	}
	if self == "" {
		return nil, usage("Keepalived's configuration is different on every host: name the member with --member")
	}
	return render.Keepalived(s, self, c.interfaces(s, self))
}

// interfaces are those of the floating addresses, as far as they are known: this host is asked only about itself.
func (c *renderCmd) interfaces(s render.Site, self string) map[string]string {
	out := map[string]string{}
	here := false
	for _, m := range s.Members {
		if host, _, err := net.SplitHostPort(m.API); err == nil && m.Name == self {
			here, _ = isHere(host) // what can't be resolved is not here
		}
	}
	for _, v := range s.VIP {
		out[v.Address] = c.Interface
		ip, err := netip.ParseAddr(v.Address)
		if c.Interface != "" || !here || err != nil {
			continue
		}
		if place, err := (vip.Address{IP: ip, Interface: v.Interface}).Find(); err == nil {
			out[v.Address] = place.Interface
		}
	}
	return out
}
