// Package render writes configurations of other programs for a cluster: of HAProxy, Keepalived and PgBouncer. Values in, text out; who
// asks for it decides where it goes. Why a line is there is said in the text itself, for whoever finds it on a host.
package render

import (
	"bytes"
	_ "embed"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"text/template"
	"time"

	"standfast/cluster"
	"standfast/config"
)

// Site is what the texts are made from.
type Site struct {
	Cluster string
	Members []cluster.Member
	Ports   config.Ports // of a member that has none of its own
	VIP     []config.VIP
	Router  config.Router
}

// Of is the site that a member's file describes.
func Of(n config.Node) Site {
	return Site{Cluster: n.Cluster, Members: n.Founders(), Ports: n.Ports, VIP: n.VIP, Router: n.Bootstrap.Router}
}

// Mark stands in the first line of every text: what is written over has it, or is somebody else's.
const Mark = "written by standfast"

var (
	//go:embed haproxy.tmpl
	haproxyText string
	//go:embed keepalived.tmpl
	keepalivedText string
	//go:embed pgbouncer.tmpl
	pgbouncerText string

	functions          = template.FuncMap{"ms": milliseconds}
	haproxyTemplate    = template.Must(template.New("haproxy").Funcs(functions).Parse(haproxyText))
	keepalivedTemplate = template.Must(template.New("keepalived").Funcs(functions).Parse(keepalivedText))
	pgbouncerTemplate  = template.Must(template.New("pgbouncer").Funcs(functions).Parse(pgbouncerText))
)

func milliseconds(d time.Duration) string { return fmt.Sprintf("%dms", d.Milliseconds()) }

func fill(t *template.Template, values any) ([]byte, error) {
	var b bytes.Buffer
	if err := t.Execute(&b, values); err != nil {
		return nil, fmt.Errorf("write the configuration of %s: %w", t.Name(), err)
	}
	return b.Bytes(), nil
}

// data are the members with a PostgreSQL, by name.
func (s Site) data() []cluster.Member {
	out := slices.DeleteFunc(slices.Clone(s.Members), func(m cluster.Member) bool { return m.Kind == cluster.Witness })
	slices.SortFunc(out, func(a, b cluster.Member) int { return strings.Compare(a.Name, b.Name) })
	return out
}

func (s Site) member(name string) (cluster.Member, error) {
	for _, m := range s.Members {
		if m.Name == name {
			return m, nil
		}
	}
	var names []string
	for _, m := range s.Members {
		names = append(names, m.Name)
	}
	return cluster.Member{}, fmt.Errorf("%q is no member of %s; there are %s", name, s.Cluster, strings.Join(names, ", "))
}

// split takes host:port apart, as a member's entry has it.
func split(hostPort string) (host, port string) {
	i := strings.LastIndexByte(hostPort, ':')
	if i < 0 {
		return hostPort, ""
	}
	return strings.Trim(hostPort[:i], "[]"), hostPort[i+1:]
}

func six(address string) bool {
	ip, err := netip.ParseAddr(address)
	return err == nil && ip.Is6()
}
