package config

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"standfast/cluster"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// Deployment is cluster.yml: what "standfast plan" looks at and "standfast deploy" makes true on bare hosts. What a member's own file
// has too is written as it is there, and is copied there word for word.
type Deployment struct {
	Cluster   string  `yaml:"cluster"`
	Members   []Host  `yaml:"members"`
	Ports     Ports   `yaml:"ports"`
	VIP       []VIP   `yaml:"vip"`
	Routing   string  `yaml:"routing"` // BuiltIn, or HAProxy: the distribution's is installed and configured on every member
	Address   string  `yaml:"address"` // BuiltIn, or Keepalived: likewise on every member with data
	Hooks     Hooks   `yaml:"hooks"`
	Watchdog  string  `yaml:"watchdog"`
	Log       Log     `yaml:"log"`
	Bootstrap Cluster `yaml:"bootstrap"`

	SSH          SSH           `yaml:"ssh"`
	PostgreSQL   int           `yaml:"postgresql"` // major version; 0: the distribution's own
	DataDir      string        `yaml:"data_dir"`   // of every host's PostgreSQL; "": below Standfast's own directory
	Repository   Repository    `yaml:"repository"`
	Packages     []string      `yaml:"packages"` // more that every host with PostgreSQL gets
	Applications []Application `yaml:"applications"`
	Secrets      string        `yaml:"secrets"` // directory on the administrator's machine; relative to cluster.yml

	text []byte
}

// Host is a member with the way to it.
type Host struct {
	Name     string       `yaml:"name"`
	Address  string       `yaml:"address"` // that the members reach each other at
	Kind     cluster.Kind `yaml:"kind,omitempty"`
	Priority *int         `yaml:"priority,omitempty"`
	Location string       `yaml:"location,omitempty"`
	Ports    Ports        `yaml:"ports,omitempty"`
	SSH      string       `yaml:"ssh,omitempty"` // [user@]host[:port] where it is not ssh.user at Address
}

// Member is the host's entry in the members' files.
func (h Host) Member() Member {
	return Member{Name: h.Name, Address: h.Address, Kind: h.Kind, Priority: h.Priority, Location: h.Location, Ports: h.Ports}
}

// SSH says how the hosts are reached.
type SSH struct {
	User       string `yaml:"user"`        // root, or one that may sudo without a password; "": who runs the command
	Port       int    `yaml:"port"`        //
	Key        string `yaml:"key"`         // private key's file; "": the agent's, then those in ~/.ssh
	KnownHosts string `yaml:"known_hosts"` // the file that knows the hosts' keys; "": ~/.ssh/known_hosts
}

// Repository is where PostgreSQL's packages come from.
type Repository struct {
	Source string `yaml:"source"` // FromDistribution or FromPGDG
	URI    string `yaml:"uri"`    // a mirror of PGDG's; "": PGDG's own
	Key    string `yaml:"key"`    // file with the key that signs the mirror, armored, relative to cluster.yml; "": PGDG's own
}

// Where PostgreSQL's packages may come from.
const (
	FromDistribution = "distribution"
	FromPGDG         = "pgdg" // the PostgreSQL project's own, which has all supported versions
)

// Application is one that uses the cluster: it gets a role that can log in and a database that the role owns.
type Application struct {
	Role         string   `yaml:"role"`
	Database     string   `yaml:"database"`      // "": named like the role
	From         []string `yaml:"from"`          // networks it connects from, such as 10.0.5.0/24; none: anywhere
	PasswordFile string   `yaml:"password_file"` // relative to cluster.yml; "": one is made among the secrets
}

// DefaultDeployment is a cluster.yml that says nothing.
func DefaultDeployment() Deployment {
	n := DefaultNode()
	return Deployment{Ports: n.Ports, Routing: n.Routing, Address: n.Address, Hooks: n.Hooks, Watchdog: n.Watchdog, Log: n.Log, Bootstrap: n.Bootstrap, SSH: SSH{Port: 22}, Repository: Repository{Source: FromDistribution}}
}

// ParseDeployment reads cluster.yml and validates it, the members' files that follow from it included. The name stands before each
// error; if it is a path, paths in the file are relative to its directory.
func ParseDeployment(name string, text []byte) (Deployment, error) {
	d := DefaultDeployment()
	if err := decode(name, text, &d); err != nil {
		return Deployment{}, err
	}
	d.text = text
	d.fit(filepath.Dir(name))
	if err := d.Validate(); err != nil {
		return Deployment{}, placed(name, text, nil, err)
	}
	return d, nil
}

func (d *Deployment) fit(dir string) {
	for i := range d.Applications {
		a := &d.Applications[i]
		if a.Database == "" {
			a.Database = a.Role
		}
		a.PasswordFile = within(dir, a.PasswordFile)
	}
	if d.Secrets == "" {
		d.Secrets = "standfast-" + d.Cluster
	}
	d.Repository.Key = within(dir, d.Repository.Key)
	d.Secrets, d.SSH.Key, d.SSH.KnownHosts = within(dir, d.Secrets), within(dir, d.SSH.Key), within(dir, d.SSH.KnownHosts)
}

func within(dir, path string) string {
	if path == "" || filepath.IsAbs(path) || strings.HasPrefix(path, "~/") {
		return path
	}
	return filepath.Join(dir, path)
}

// Node is the file of the named member, as it takes effect there.
func (d Deployment) Node(name string) Node {
	n := DefaultNode()
	n.Cluster, n.Name = d.Cluster, name
	n.Ports, n.VIP, n.Routing, n.Address, n.Hooks, n.Watchdog, n.Log, n.Bootstrap = d.Ports, slices.Clone(d.VIP), d.Routing, d.Address, d.Hooks, d.Watchdog, d.Log, d.Bootstrap
	for _, h := range d.Members {
		n.Members = append(n.Members, h.Member())
	}
	if d.PostgreSQL != 0 {
		n.Postgres.BinDir = strconv.Itoa(d.PostgreSQL)
	}
	n.Postgres.DataDir = d.DataDir
	n.fit(d.text)
	n.Bootstrap.PostgreSQL.HBA = slices.Concat(n.Bootstrap.PostgreSQL.HBA, d.admissions())
	return n
}

// admissions are the lines of pg_hba.conf that let the applications in. PostgreSQL sees the address of the router that a connection
// came through, so every member's is among them. An open cluster has no lines: whoever has a password may come.
func (d Deployment) admissions() []string {
	bounded := len(d.Bootstrap.PostgreSQL.HBA) > 0 || slices.ContainsFunc(d.Applications, func(a Application) bool { return len(a.From) > 0 })
	if !bounded {
		return nil
	}
	var out []string
	for _, a := range d.Applications {
		from := []string{"all"}
		if len(a.From) > 0 {
			from = slices.Concat(a.From, d.routers())
		}
		for _, f := range from {
			out = append(out, fmt.Sprintf("host %s %s %s scram-sha-256", hbaName(a.Database), hbaName(a.Role), f))
		}
	}
	return out
}

func (d Deployment) routers() []string {
	var out []string
	for _, h := range d.Members {
		out = append(out, single(h.Address))
	}
	for _, v := range d.VIP {
		out = append(out, single(v.Address))
	}
	return out
}

// single is one host as pg_hba.conf names it.
func single(address string) string {
	if ip, err := netip.ParseAddr(address); err == nil {
		return netip.PrefixFrom(ip, ip.BitLen()).String()
	}
	return address
}

// hbaName keeps pg_hba.conf's own words from being taken for themselves ("all" is everybody).
func hbaName(name string) string { return `"` + name + `"` }

// copied are the sections that a member's file takes over as they were written.
var copied = []string{"ports", "vip", "routing", "address", "hooks", "watchdog", "log", "bootstrap"}

// PackagesOf are those that a member gets beside PostgreSQL's: what cluster.yml names, and the programs that take the members' part.
func (d Deployment) PackagesOf(kind cluster.Kind) []string {
	var out []string
	if kind != cluster.Witness {
		out = append(out, d.Packages...)
	}
	if d.Routing == HAProxy {
		out = append(out, HAProxy)
	}
	if d.Address == Keepalived && kind != cluster.Witness {
		out = append(out, Keepalived)
	}
	return out
}

// Without is the deployment as it would be without the named member.
func (d Deployment) Without(name string) Deployment {
	d.Members = slices.DeleteFunc(slices.Clone(d.Members), func(h Host) bool { return h.Name == name })
	return d
}

// Host finds a member; nil: there is none of that name.
func (d Deployment) Host(name string) *Host {
	for i := range d.Members {
		if d.Members[i].Name == name {
			return &d.Members[i]
		}
	}
	return nil
}

// LinesOf are the lines of pg_hba.conf that are there for the named member alone: the applications come through its router.
func (d Deployment) LinesOf(name string) []string {
	others := d.Without(name).admissions()
	return slices.DeleteFunc(d.admissions(), func(l string) bool { return slices.Contains(others, l) })
}

// RenderNode writes the file of the named member, a founder.
func (d Deployment) RenderNode(name string) ([]byte, error) { return d.render(name, false) }

// RenderJoined writes the file of a member that was added to a cluster that ran.
func (d Deployment) RenderJoined(name string) ([]byte, error) { return d.render(name, true) }

func (d Deployment) render(name string, join bool) ([]byte, error) {
	doc := yaml.MapSlice{{Key: "cluster", Value: d.Cluster}, {Key: "name", Value: name}}
	if join {
		doc = append(doc, yaml.MapItem{Key: "join", Value: true})
	}
	var members []Member
	for _, h := range d.Members {
		members = append(members, h.Member())
	}
	doc = append(doc, yaml.MapItem{Key: "members", Value: members})
	if places := d.places(); len(places) > 0 {
		doc = append(doc, yaml.MapItem{Key: "postgres", Value: places})
	}
	body, err := yaml.MarshalWithOptions(doc, yaml.IndentSequence(true))
	if err != nil {
		return nil, fmt.Errorf("render the file of %s: %w", name, err)
	}
	text := []byte(fmt.Sprintf("# %s of cluster %s, written by standfast deploy from cluster.yml: change it there.\n", name, d.Cluster))
	text = append(append(text, body...), d.sections()...)
	if lines := d.admissions(); lines != nil {
		return withHBA(text, slices.Concat(d.Bootstrap.PostgreSQL.HBA, lines))
	}
	return text, nil
}

// places say where the parts of a member's PostgreSQL lie.
func (d Deployment) places() (out yaml.MapSlice) {
	if d.PostgreSQL != 0 {
		out = append(out, yaml.MapItem{Key: "bin_dir", Value: Text(strconv.Itoa(d.PostgreSQL))})
	}
	if d.DataDir != "" {
		out = append(out, yaml.MapItem{Key: "data_dir", Value: d.DataDir})
	}
	return out
}

// sections are cluster.yml's copied parts, as they were written.
func (d Deployment) sections() []byte {
	var out []byte
	file, err := parser.ParseBytes(d.text, 0)
	if err != nil || len(file.Docs) == 0 {
		return nil // ParseDeployment has read it: there is none
	}
	m, ok := file.Docs[0].Body.(ast.MapNode)
	if !ok {
		return nil
	}
	for it := m.MapRange(); it.Next(); {
		if slices.Contains(copied, it.Key().String()) {
			out = append(append(out, dedent(it.KeyValue().String())...), '\n')
		}
	}
	return out
}

// dedent moves a section to the first column, wherever it stood.
func dedent(section string) string {
	indent := section[:len(section)-len(strings.TrimLeft(section, " "))]
	lines := strings.Split(section, "\n")
	for i, l := range lines {
		lines[i] = strings.TrimPrefix(l, indent)
	}
	return strings.Join(lines, "\n")
}

// withHBA puts lines under bootstrap.postgresql.hba, in place of those that are there.
func withHBA(text []byte, lines []string) ([]byte, error) {
	file, err := parser.ParseBytes(text, parser.ParseComments)
	if err != nil {
		return nil, fmt.Errorf("render a member's file: %w", err)
	}
	quoted := make([]string, len(lines))
	for i, l := range lines {
		quoted[i] = strconv.Quote(l)
	}
	root := mapping(file.Docs[0].Body)
	if err := setIn(root, []string{"bootstrap", "postgresql", "hba"}, "["+strings.Join(quoted, ", ")+"]"); err != nil {
		return nil, fmt.Errorf("render a member's file: %w", err)
	}
	return []byte(strings.TrimRight(root.String(), "\n") + "\n"), nil
}

// Way is how a host is logged in to: the user ("": whoever runs the command) and host:port.
func (d Deployment) Way(h Host) (user, address string) {
	user, at, ok := strings.Cut(h.SSH, "@")
	if !ok {
		user, at = d.SSH.User, h.SSH
	}
	if at == "" {
		at = h.Address
	}
	if _, _, err := net.SplitHostPort(at); err != nil {
		at = net.JoinHostPort(strings.Trim(at, "[]"), strconv.Itoa(d.SSH.Port))
	}
	return user, at
}

var (
	roleName = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,62}$`)
	reserved = regexp.MustCompile(`^(postgres|public|all|replication|pg_.*|standfast.*|template.*)$`)
)

// Validate reports everything that is wrong with the file, one line each.
func (d Deployment) Validate() error {
	var p problems
	first := ""
	if len(d.Members) > 0 {
		first = d.Members[0].Name
	}
	if err := d.Node(first).Validate(); err != nil {
		for _, e := range unjoin(err) {
			if e.(*problem).key != "name" { // Node.Validate gives nothing else; a member's name is looked at under members
				p = append(p, e)
			}
		}
	}
	p.check(d.SSH.Port >= 1 && d.SSH.Port <= 65535, "ssh.port", "%d is not a port; use 1 to 65535", d.SSH.Port)
	p.check(d.PostgreSQL == 0 || d.PostgreSQL >= 14 && d.PostgreSQL <= 18, "postgresql", "version %d is not supported; write 14 to 18, or leave it out for the distribution's own", d.PostgreSQL)
	d.validatePackages(&p)
	d.validateApplications(&p)
	return p.err()
}

// packageName is what dpkg and rpm accept, and apt does not take for a removal (name-).
var packageName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9+._-]*[A-Za-z0-9+])?$`)

func (d Deployment) validatePackages(p *problems) {
	r := d.Repository
	p.oneOf("repository.source", r.Source, FromDistribution, FromPGDG)
	p.check(r.Source == FromPGDG || r.URI == "" && r.Key == "", "repository", "uri and key are those of a mirror of PGDG's; write source: pgdg, or leave them out")
	u, err := url.Parse(r.URI)
	p.check(r.URI == "" || err == nil && u.Scheme != "" && !strings.ContainsAny(r.URI, " \t\n"), "repository.uri", "%q is not an address; write it as http://mirror.example/pgdg", r.URI)
	for _, name := range d.Packages {
		p.check(packageName.MatchString(name), "packages", "%q can't be a package; write names such as postgresql-17-pgvector, pgbackrest", name)
	}
}

func (d Deployment) validateApplications(p *problems) {
	roles, databases := map[string]bool{}, map[string]bool{}
	for i, a := range d.Applications {
		key := fmt.Sprintf("applications[%d]", i+1)
		for _, n := range []struct{ key, name string }{{key + ".role", a.Role}, {key + ".database", a.Database}} {
			p.check(roleName.MatchString(n.name), n.key, "%q can't be a name; use up to 63 of a-z, 0-9 and _, such as \"mattermost\"", n.name)
			p.check(!reserved.MatchString(n.name), n.key, "%q is taken by PostgreSQL or Standfast; choose another", n.name)
		}
		p.check(!roles[a.Role], key+".role", "%q is there twice; give each application a role of its own", a.Role)
		p.check(!databases[a.Database], key+".database", "%q is there twice; give each application a database of its own", a.Database)
		roles[a.Role], databases[a.Database] = true, true
		for _, f := range a.From {
			prefix, err := netip.ParsePrefix(f)
			p.check(err == nil && prefix.Masked() == prefix, key+".from", "%q is not a network; write it as 10.0.5.0/24, a single host as 10.0.5.7/32", f)
		}
	}
}
