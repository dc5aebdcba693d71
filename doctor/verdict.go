package doctor

import (
	"fmt"
	"slices"
	"strings"

	"standfast/api"
	"standfast/doctor/facts"
)

// State is a monitoring plugin's result; its number is the exit code ("Monitoring Plugins Development Guidelines").
type State int

// The states that monitoring systems know.
const (
	StateOK State = iota
	StateWarning
	StateCritical
	StateUnknown
)

func (s State) String() string { return []string{"OK", "WARNING", "CRITICAL", "UNKNOWN"}[s] }

// rank orders states by how much they matter: a fault is told before what can't be known.
func (s State) rank() int { return []int{0, 2, 3, 1}[s] }

// Thresholds are the bounds of a verdict.
type Thresholds struct {
	LagWarning, LagCritical                 int64 // bytes that a standby has yet to replay
	ConnectionsWarning, ConnectionsCritical int   // percent in use
	DiskWarning, DiskCritical               int   // percent free
	StatusOnly                              bool  // connections and disks are not judged
}

// Verdict is one look at a cluster in a monitoring plugin's terms.
type Verdict struct {
	State State
	Text  string
	Perf  []string // performance data, 'label'=value[unit];warning;critical;min;max
}

// Line is the plugin's output.
func (v Verdict) Line() string {
	text := strings.NewReplacer("|", "/", "\n", " ").Replace(v.Text) // a bar begins the performance data
	line := fmt.Sprintf("STANDFAST %s - %s", v.State, text)
	if len(v.Perf) > 0 {
		line += " | " + strings.Join(v.Perf, " ")
	}
	return line
}

// watched are the checks that a verdict rests on, all of them answered by the status alone. The ones marked true are warnings there
// whatever they are for the doctor: a member is away, and the others serve; what is worse is told by another check.
var watched = map[string]bool{
	"agent-down": true, "server-down": true, "standby-detached": true, "server-stalled": false, "heartbeats": true, "no-majority": false, "not-founded": false, "no-primary": false,
	"paused": false, "next-loss": false, "copies": false, "routing": false, "clients-held": false, "address-missing": false, "member-warns": false, "receiver-away": false, "slot-lost": false,
}

// judge collects what is wrong.
type judge struct {
	c     *Case
	t     Thresholds
	state State
	texts [4][]string // by state
	perf  []string
}

func (j *judge) add(s State, format string, args ...any) {
	j.texts[s] = append(j.texts[s], fmt.Sprintf(format, args...))
	if s.rank() > j.state.rank() {
		j.state = s
	}
}

// Judge gives a verdict on a case that may hold cheap facts only.
func Judge(c *Case, t Thresholds) Verdict {
	j := &judge{c: c, t: t}
	j.findings()
	j.members()
	j.lags()
	if !t.StatusOnly {
		j.servers()
	}
	return Verdict{j.state, j.text(), j.perf}
}

func (j *judge) findings() {
	for _, k := range All {
		milder, ok := watched[k.ID]
		if !ok {
			continue
		}
		for _, f := range merge(k.Run(j.c)) {
			s := map[Severity]State{Critical: StateCritical, Warning: StateWarning}[f.Severity]
			if milder && s == StateCritical {
				s = StateWarning
			}
			if s == StateOK {
				continue // a notice
			}
			who := ""
			if len(f.Members) > 0 {
				who = list(f.Members) + ": "
			}
			j.add(s, "%s%s", who, f.Text)
		}
	}
}

func (j *judge) members() {
	st := j.c.status()
	if st == nil {
		return
	}
	heard := 0
	for _, m := range st.Members {
		if m.State != api.Unreachable {
			heard++
		}
	}
	j.perf = append(j.perf, fmt.Sprintf("members=%d;;;0;%d", heard, len(st.Members)), fmt.Sprintf("spare=%d", st.Commit.Spare))
}

func (j *judge) lags() {
	j.c.standbys(func(m *api.Member, _ *api.Status) []Finding {
		if m.Lag == nil {
			return nil
		}
		if sev := when(*m.Lag >= j.t.LagCritical, *m.Lag >= j.t.LagWarning); sev != "" {
			j.add(stateOf(sev), "%s is %s behind", m.Name, size(*m.Lag))
		}
		j.perf = append(j.perf, fmt.Sprintf("lag_%s=%dB;%d;%d;0", m.Name, *m.Lag, j.t.LagWarning, j.t.LagCritical))
		return nil
	})
}

func stateOf(s Severity) State {
	if s == Critical {
		return StateCritical
	}
	return StateWarning
}

// servers judges what members tell of their hosts. One that answers and does not tell is no reason to call it well.
func (j *judge) servers() {
	if j.c.Refused != "" {
		j.add(StateUnknown, "connections and disks can't be seen: %s (or ask for --status-only)", j.c.Refused)
		return
	}
	for _, m := range j.c.Members {
		f := j.c.Facts[m.Name]
		if j.c.Statuses[m.Name] == nil {
			continue // agent-down
		}
		if f == nil || len(f.Disks) == 0 || m.Data && f.Postgres == nil {
			j.add(StateUnknown, "%s does not tell of its disks and connections", m.Name)
			continue
		}
		j.disk(m.Name, f)
		if f.Postgres != nil {
			j.connections(m.Name, f.Postgres)
		}
	}
}

func (j *judge) disk(name string, f *facts.Member) {
	left := 100
	for _, d := range f.Disks {
		left = min(left, percent(d.Free, d.Size))
	}
	if sev := when(left < j.t.DiskCritical, left < j.t.DiskWarning); sev != "" {
		j.add(stateOf(sev), "%s has %d %% of a disk left", name, left)
	}
	j.perf = append(j.perf, fmt.Sprintf("disk_free_%s=%d%%;%d:;%d:;0;100", name, left, j.t.DiskWarning, j.t.DiskCritical))
}

func (j *judge) connections(name string, p *facts.Postgres) {
	most := p.Clients.Max - p.Clients.Reserved
	used := percent(int64(p.Clients.Used), int64(most))
	if sev := when(used >= j.t.ConnectionsCritical, used >= j.t.ConnectionsWarning); sev != "" {
		j.add(stateOf(sev), "%s has %d %% of its connections in use", name, used)
	}
	j.perf = append(j.perf, fmt.Sprintf("connections_%s=%d%%;%d;%d;0;100", name, used, j.t.ConnectionsWarning, j.t.ConnectionsCritical))
}

// said is how much a line holds; all of it is what the doctor is for.
const said = 4

func (j *judge) text() string {
	if j.state == StateOK {
		st := j.c.status()
		return fmt.Sprintf("%s: %s is primary in term %d; %s", st.Cluster, st.Primary, st.Term, st.Commit.Text)
	}
	all := slices.Concat(j.texts[StateCritical], j.texts[StateWarning], j.texts[StateUnknown])
	if len(all) > said {
		all = append(slices.Clone(all[:said]), fmt.Sprintf("and %d more: standfast doctor", len(all)-said))
	}
	return strings.Join(all, "; ")
}
