// Package doctor looks for what is wrong with a cluster, and says why and what to type. A check is a pure function over what was found
// out (a Case): so each has a test that plants its fault, and one in which it is silent. Where members do not answer, the checks
// work with what the others say, and the report lists what can't be known.
package doctor

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"standfast/api"
	"standfast/doctor/facts"
)

// Severity says how much a finding matters.
type Severity string

const (
	Critical Severity = "critical" // clients suffer now, or data is at risk: act now
	Warning  Severity = "warning"  // it works, and will not for ever, or not after the next fault: act soon
	Notice   Severity = "notice"   // worth knowing; nothing needs to be done
)

func (s Severity) rank() int { return slices.Index([]Severity{Critical, Warning, Notice}, s) }

// Finding is one thing that is unusual.
type Finding struct {
	Check    string   `json:"check"` // its Check's ID
	Severity Severity `json:"severity"`
	Members  []string `json:"members,omitempty"`  // where; none: the cluster
	Text     string   `json:"text"`               // what is wrong, a sentence without its end
	Evidence []string `json:"evidence,omitempty"` // what it was seen by
	Fix      []string `json:"fix,omitempty"`      // what to do, a step each; commands stand alone
}

// Check is one thing that is looked at.
type Check struct {
	ID    string // stable, for --only
	Group string
	Finds string // what it finds and by what measure, for the documentation
	Run   func(*Case) []Finding
}

// Groups are the checks' groups, in the order in which they are shown.
var Groups = []string{"cluster", "replication", "clients", "settings", "data", "storage", "network", "host", "security"}

// Known is a member as the configuration names it.
type Known struct {
	Name    string
	Address string // host name or IP address
	Data    bool   // it is no witness
}

// Offset is how far a member's clock is ahead of the examiner's.
type Offset struct {
	By     time.Duration
	Within time.Duration // it is known this well
}

// Case is what was found out. Facts and Statuses are by member; whoever does not answer is in Silent, with the reason.
type Case struct {
	Now      time.Time
	Self     string // the member of the host where the doctor runs, "": none
	Members  []Known
	Statuses map[string]*api.Status
	Facts    map[string]*facts.Member
	Silent   map[string]string
	Mute     map[string]string // who answers and tells no facts, with the reason
	Refused  string            // why no facts may be read at all; "": they may
	Offsets  map[string]Offset
	History  []api.Entry // oldest first
	StateDir string      // of the members, as this one's file has it
	Port     int         // PostgreSQL's, likewise
	Backup   string      // where base backups are kept, if the site has said; "": nowhere that Standfast knows
}

// Report is what the doctor says.
type Report struct {
	Cluster  string        `json:"cluster"`
	Time     time.Time     `json:"time"`
	Checks   int           `json:"checks"` // so many were made
	Members  []string      `json:"members"`
	Findings []Finding     `json:"findings"` // the worst first
	Unknown  []Gap         `json:"unknown"`
	Took     time.Duration `json:"took_ns"`
}

// Gap is what could not be known.
type Gap struct {
	Member string `json:"member,omitempty"`
	What   string `json:"what"`
	Why    string `json:"why"`
}

// Worst is the greatest severity of the findings; "" if there is none.
func (r Report) Worst() Severity {
	if len(r.Findings) == 0 {
		return ""
	}
	return r.Findings[0].Severity
}

// Count gives how many findings have the severity.
func (r Report) Count(s Severity) int {
	n := 0
	for _, f := range r.Findings {
		if f.Severity == s {
			n++
		}
	}
	return n
}

// Examine makes all checks, or those of the given IDs and groups.
func Examine(c *Case, only ...string) Report {
	r := Report{Time: c.Now, Findings: []Finding{}, Unknown: c.gaps()}
	if st := c.status(); st != nil {
		r.Cluster = st.Cluster
	}
	for _, m := range c.Members {
		r.Members = append(r.Members, m.Name)
	}
	for _, k := range All {
		if len(only) > 0 && !slices.Contains(only, k.ID) && !slices.Contains(only, k.Group) {
			continue
		}
		r.Checks++
		found := k.Run(c)
		for i := range found {
			found[i].Check = k.ID
		}
		r.Findings = append(r.Findings, merge(found)...)
	}
	slices.SortStableFunc(r.Findings, func(a, b Finding) int { return cmp.Compare(a.Severity.rank(), b.Severity.rank()) })
	return r
}

// Selects reports whether a word of --only means a check or a group.
func Selects(word string) bool {
	return slices.Contains(Groups, word) || slices.ContainsFunc(All, func(k Check) bool { return k.ID == word })
}

// merge tells the same thing of several members once.
func merge(all []Finding) []Finding {
	var out []Finding
	for _, f := range all {
		i := slices.IndexFunc(out, func(o Finding) bool {
			return o.Severity == f.Severity && o.Text == f.Text && slices.Equal(o.Fix, f.Fix) && len(o.Members) > 0
		})
		if i < 0 {
			out = append(out, f)
			continue
		}
		o := &out[i]
		if !slices.Equal(o.Evidence, f.Evidence) {
			if len(o.Members) == 1 {
				o.Evidence = of(o.Members[0], o.Evidence)
			}
			o.Evidence = append(o.Evidence, of(f.Members[0], f.Evidence)...)
		}
		o.Members = append(o.Members, f.Members...)
	}
	return out
}

func of(member string, evidence []string) []string {
	var out []string
	for _, e := range evidence {
		out = append(out, member+": "+e)
	}
	return out
}

// gaps lists what is not known.
func (c *Case) gaps() []Gap {
	out := []Gap{}
	if c.Refused != "" {
		out = append(out, Gap{What: "everything but the status: hosts, disks, PostgreSQL's own view", Why: c.Refused})
	}
	for _, m := range c.Members {
		if why := c.Silent[m.Name]; why != "" && c.Facts[m.Name] == nil {
			out = append(out, Gap{m.Name, "its host, its disks, its PostgreSQL", why})
		} else if why != "" {
			out = append(out, Gap{m.Name, "its PostgreSQL's own view", why})
		}
		if why := c.Mute[m.Name]; why != "" && c.Facts[m.Name] == nil {
			out = append(out, Gap{m.Name, "its host, its disks, its PostgreSQL", why})
		}
		if f := c.Facts[m.Name]; f != nil {
			for _, q := range f.Unknown {
				out = append(out, Gap{m.Name, q.What, q.Why})
			}
		}
	}
	return out
}

// status is the newest account of the cluster: of the highest term, the primary's own if it is among them.
func (c *Case) status() *api.Status {
	var best *api.Status
	for _, m := range c.Members {
		st := c.Statuses[m.Name]
		if st == nil {
			continue
		}
		if best == nil || st.Term > best.Term || st.Term == best.Term && st.Primary == st.Self && best.Primary != best.Self {
			best = st
		}
	}
	return best
}

// primary is the name of the newest term's, "" if there is none.
func (c *Case) primary() string {
	if st := c.status(); st != nil {
		return st.Primary
	}
	return ""
}

// primaryFacts are those of the primary's PostgreSQL, nil if it did not tell.
func (c *Case) primaryFacts() *facts.Postgres {
	if f := c.Facts[c.primary()]; f != nil {
		return f.Postgres
	}
	return nil
}

// each asks about every member whose facts are known.
func (c *Case) each(ask func(name string, f *facts.Member) []Finding) []Finding {
	var out []Finding
	for _, m := range c.Members {
		if f := c.Facts[m.Name]; f != nil {
			out = append(out, ask(m.Name, f)...)
		}
	}
	return out
}

// servers asks about every member whose PostgreSQL told of itself.
func (c *Case) servers(ask func(name string, p *facts.Postgres) []Finding) []Finding {
	return c.each(func(name string, f *facts.Member) []Finding {
		if f.Postgres == nil {
			return nil
		}
		return ask(name, f.Postgres)
	})
}

// address is where the member's host is, for commands.
func (c *Case) address(name string) string {
	for _, m := range c.Members {
		if m.Name == name {
			return m.Address
		}
	}
	return name
}

// sql is a command that asks a member's PostgreSQL on its host.
func (c *Case) sql(statement string) string {
	port := ""
	if c.Port != 0 && c.Port != 5432 {
		port = fmt.Sprintf(" -p %d", c.Port)
	}
	return fmt.Sprintf(`sudo -u postgres psql -h %s/run%s -d postgres -c "%s"`, cmp.Or(c.StateDir, "/var/lib/standfast"), port, statement)
}

// one makes a list of a single finding about a member.
func one(s Severity, member, text string, evidence []string, fix ...string) []Finding {
	f := Finding{Severity: s, Text: text, Evidence: evidence, Fix: fix}
	if member != "" {
		f.Members = []string{member}
	}
	return []Finding{f}
}

// because is the evidence of a finding.
func because(format string, args ...any) []string { return []string{fmt.Sprintf(format, args...)} }

// when is a shorthand: the first severity whose condition holds, "" if none does.
func when(critical, warning bool) Severity {
	switch {
	case critical:
		return Critical
	case warning:
		return Warning
	}
	return ""
}

func list(names []string) string { return strings.Join(names, ", ") }

// size writes bytes for people.
func size(n int64) string {
	units := []string{"B", "kB", "MB", "GB", "TB", "PB"}
	f, i := float64(n), 0
	for f >= 1000 && i < len(units)-1 {
		f, i = f/1024, i+1
	}
	if i == 0 || f >= 100 {
		return fmt.Sprintf("%.0f %s", f, units[i])
	}
	return fmt.Sprintf("%.1f %s", f, units[i])
}

// span writes a time for people, in its two largest units.
func span(d time.Duration) string {
	switch {
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}

func percent(part, whole int64) int {
	if whole == 0 {
		return 0
	}
	return int(100 * part / whole)
}
