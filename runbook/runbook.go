// Package runbook writes a site's own reference card: its hosts, addresses, ports and files, what to type when something happens, and what
// is due to be tried. Values in, Markdown out.
package runbook

import (
	"bytes"
	_ "embed"
	"fmt"
	"net"
	"slices"
	"strings"
	"text/template"
	"time"

	"standfast/api"
	"standfast/cluster"
	"standfast/config"
)

// Site is what the card is written from.
type Site struct {
	Node    config.Node    // a member's file
	File    string         // where that lies
	Agreed  config.Cluster // what all members agree on, or began with
	Status  *api.Status    // nil: no member answered
	History []api.Entry    // oldest first
	Archive Archive
	Asked   bool // whether the primary told of its archive

	Now     time.Time
	Version string // of standfast
}

// Archive is what the primary's PostgreSQL says of its archive of WAL.
type Archive struct {
	Mode   string // off, on, always
	LastOK time.Time
	Failed time.Time // the last failure
}

// due is how old the last test of something may be.
const due = 180 * 24 * time.Hour

//go:embed runbook.md.tmpl
var text string

var card = template.Must(template.New("runbook").Funcs(template.FuncMap{"cell": cell, "join": strings.Join}).Parse(text))

// Markdown is the card.
func Markdown(s Site) ([]byte, error) {
	var b bytes.Buffer
	if err := card.Execute(&b, view{s}); err != nil {
		return nil, fmt.Errorf("write the runbook: %w", err)
	}
	return b.Bytes(), nil
}

// cell is a text as a table's cell can hold it.
func cell(text string) string {
	return strings.NewReplacer("|", `\|`, "\n", " ", "\r", " ").Replace(text)
}

// view is what the template asks for.
type view struct{ Site }

// Ports are the member's own: on hosts of their own all have the same.
func (v view) Ports() config.Ports { return v.Node.Self().Ports }

// Printed is when this is.
func (v view) Printed() string { return v.Now.Format("2006-01-02 15:04 MST") }

// host is a line of the table of hosts.
type host struct{ Name, Address, Kind, Location, Priority, Role string }

// Members are those of the cluster as it is, or of the file when nobody answers.
func (v view) Members() []cluster.Member {
	if v.Status == nil {
		return v.Node.Founders()
	}
	var out []cluster.Member
	for _, m := range v.Status.Members {
		out = append(out, m.Member)
	}
	return out
}

// Hosts are the members, a line for each.
func (v view) Hosts() []host {
	var out []host
	for _, m := range v.Members() {
		h := host{Name: m.Name, Address: address(m), Kind: "PostgreSQL", Location: m.Location, Priority: fmt.Sprint(m.Priority), Role: "not known"}
		if m.Kind == cluster.Witness {
			h.Kind, h.Priority = "witness, no data", "-"
		} else if m.Priority == 0 {
			h.Priority = "0 (never primary)"
		}
		if v.Status != nil {
			if s := v.Status.Member(m.Name); s != nil {
				h.Role = string(s.Role)
			}
		}
		out = append(out, h)
	}
	return out
}

func address(m cluster.Member) string {
	host, _, _ := net.SplitHostPort(m.API) // made by config
	return host
}

// Other is a member to name in an example: the first one with data that is not the primary.
func (v view) Other() string {
	for _, m := range v.Members() {
		if m.Kind == cluster.Data && (v.Status == nil || v.Status.Primary != m.Name) {
			return m.Name
		}
	}
	return v.Node.Name
}

// entrance is where applications connect.
type entrance struct{ For, At string }

// Entrances are those for writing and for reading.
func (v view) Entrances() []entrance {
	ports := v.Ports()
	var out []entrance
	at := func(host string, port int) string { return net.JoinHostPort(host, fmt.Sprint(port)) }
	for _, a := range v.Node.VIP {
		if a.Follows == config.FollowsStandby {
			out = append(out, entrance{"reading", at(a.Address, ports.Read)})
			continue
		}
		out = append(out, entrance{"writing", at(a.Address, ports.Write)}, entrance{"reading, from standbys where there are any", at(a.Address, ports.Read)})
	}
	if len(out) > 0 {
		return out
	}
	var write, read []string
	for _, m := range v.Members() {
		write, read = append(write, m.Write), append(read, m.Read)
	}
	return []entrance{{"writing, any of", strings.Join(write, ", ")}, {"reading, any of", strings.Join(read, ", ")}}
}

// Commit says what an acknowledged commit is worth.
func (v view) Commit() string {
	if v.Status == nil {
		return "not known"
	}
	return v.Status.Commit.Text
}

// Detection is how long the primary's silence lasts before it is replaced.
func (v view) Detection() string {
	d, err := v.Agreed.Detection.Time()
	if err != nil {
		return string(v.Agreed.Detection)
	}
	return d.String()
}

// test is something that is to be tried from time to time.
type test struct{ What, Last, How string }

// Tests are what is due.
func (v view) Tests() []test {
	return []test{
		{"hand the role over, on purpose", v.last("switchover"), "`sudo standfast switchover`, and back"},
		{"a failover", v.last("failover"), "cut the primary's power, or `sudo standfast failover`; see `sudo standfast history` afterwards"},
		{"the archive of WAL", v.archived(), "`sudo standfast doctor --only data`"},
		{"restore a backup on another machine", "not known to Standfast", "`standfast restore`, or your backup program; note the date here: ____________"},
		{"a reboot of each host, the primary's last", "not known to Standfast", "`sudo standfast node maintenance on` there, reboot, then `off`; note the date here: ____________"},
		{"the people below are reached", "not known to Standfast", "call them; note the date here: ____________"},
	}
}

// last is when a change of primary of that kind was last, and whether it is due again.
func (v view) last(kind string) string {
	for _, e := range slices.Backward(v.History) {
		if e.Kind != kind {
			continue
		}
		at := time.UnixMilli(e.At)
		text := at.In(v.Now.Location()).Format("2006-01-02 15:04")
		if e.OutageMS > 0 {
			text += fmt.Sprintf(", %.1f s without writes", float64(e.OutageMS)/1000)
		}
		if v.Now.Sub(at) > due {
			return "**due**: last " + text
		}
		return text
	}
	if v.Status == nil {
		return "not known"
	}
	return "**due**: never, as far as the history goes"
}

func (v view) archived() string {
	switch a := v.Archive; {
	case !v.Asked:
		return "not known"
	case a.Mode == "off" || a.Mode == "":
		return "**off**: only backups by another way protect from a mistake"
	case a.LastOK.IsZero():
		return "**on, and nothing was archived yet**"
	case a.Failed.After(a.LastOK):
		return "**fails** since " + a.Failed.In(v.Now.Location()).Format("2006-01-02 15:04")
	default:
		return "last " + a.LastOK.In(v.Now.Location()).Format("2006-01-02 15:04")
	}
}

// file is a place on a host.
type file struct{ What, Path string }

// Files are where things lie on each host.
func (v view) Files() []file {
	n := v.Node
	out := []file{
		{"this member's configuration", v.File},
		{"what all agree on", "`sudo standfast config show`"},
		{"PostgreSQL's data", n.Postgres.DataDir},
		{"PostgreSQL's log", n.StateDir + "/log/postgresql.log"},
		{"etcd's log", n.StateDir + "/log/etcd.log"},
		{"Standfast's log", "`journalctl -u standfast`; all hosts': `sudo standfast logs`"},
		{"certificates", n.TLSDir},
		{"the cluster's token", n.TokenFile},
	}
	if n.Postgres.WALDir != "" {
		out = slices.Insert(out, 3, file{"PostgreSQL's WAL", n.Postgres.WALDir})
	}
	for i := range out {
		if strings.HasPrefix(out[i].Path, "/") {
			out[i].Path = "`" + out[i].Path + "`"
		}
	}
	return out
}

// Told are those who are told of events.
func (v view) Told() []string {
	c := v.Agreed.Notify
	var out []string
	if c.Chat != "" {
		out = append(out, "a chat at "+c.Chat.Masked())
	}
	if c.Webhook != "" {
		out = append(out, "a web server at "+c.Webhook.Masked())
	}
	if c.Command != "" {
		out = append(out, "a command of the site's")
	}
	if c.Syslog {
		out = append(out, "each host's journal or syslog")
	}
	return out
}
