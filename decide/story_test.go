package decide_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"standfast/cluster"
	"standfast/decide"
)

var update = flag.Bool("update", false, "rewrite the stories' answers in testdata")

// TestStories reads each story in testdata: lines change one member's view, "decide" and "route" ask, and the answer
// stands below, indented. They are meant to be read: together they are the manual of a failover.
func TestStories(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) < 10 {
		t.Fatalf("stories are missing: %d found, %v", len(files), err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txt"), func(t *testing.T) { tell(t, f) })
	}
}

func tell(t *testing.T, file string) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	v := cluster.View{
		Now: time.Hour, Since: time.Minute, LeaseFrom: time.Hour, StoreOK: true, Reports: map[string]cluster.Report{}, Peers: map[string]cluster.Peer{},
		Settings: cluster.Settings{
			Durability: cluster.Quorum, Copies: 1, Detect: 700 * time.Millisecond, Lease: 3 * time.Second,
			AgentGrace: 3 * time.Second, GuardDelay: time.Second, AntiFlap: time.Minute,
		},
	}
	var out strings.Builder
	asked := 0
	for i, line := range strings.Split(strings.TrimRight(string(text), "\n"), "\n") {
		if strings.HasPrefix(line, "    ") {
			continue // an answer, written anew below
		}
		out.WriteString(line + "\n")
		words := strings.Fields(line)
		if len(words) == 0 || strings.HasPrefix(line, "#") {
			continue
		}
		answer, err := step(&v, words)
		if err != nil {
			t.Fatalf("%s:%d: %v", file, i+1, err)
		}
		asked += len(answer)
		for _, a := range answer {
			out.WriteString("    " + a + "\n")
		}
	}
	if asked == 0 {
		t.Fatal("the story asks nothing")
	}
	if *update {
		if err := os.WriteFile(file, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got := out.String(); got != string(text) {
		t.Errorf("the story goes another way now (go test ./decide -update rewrites it):\n%s", got)
	}
}

// step carries out one line of a story.
func step(v *cluster.View, w []string) ([]string, error) {
	args := map[string]string{}
	p := &parser{args: args}
	for _, a := range w[1:] {
		k, val, _ := strings.Cut(a, "=")
		args[k] = val
		p.keys = append(p.keys, k)
	}
	switch w[0] {
	case "decide":
		return describe(decide.Decide(*v)), nil
	case "route":
		return []string{describeRoute(decide.Route(*v))}, nil
	case "tells":
		b := decide.Beat(*v)
		return []string{fmt.Sprintf("suspects %v, hears %v, needs out %v, readable %v", b.Suspects, b.Hears, b.NeedsOut, b.Readable)}, nil
	case "members":
		members(v, w[1:])
	case "leaving", "removed":
		i := slices.IndexFunc(v.Members, func(m cluster.Member) bool { return m.Name == w[1] })
		if i < 0 {
			return nil, fmt.Errorf("%s is not a member", w[1])
		}
		if v.Members = slices.Clone(v.Members); w[0] == "leaving" {
			v.Members[i].Leaving = true
		} else {
			v.Members = slices.Delete(v.Members, i, i+1)
			delete(v.Peers, w[1])
		}
	case "settings":
		p.settings(&v.Settings)
	case "state":
		p.state(v)
	case "self":
		v.Self = w[1]
		p.postgres(v)
	case "server":
		p.postgres(v)
	case "peer":
		p.peer(v, w[1])
	case "report":
		v.Reports[w[1]] = cluster.Report{Term: v.State.Term, Member: w[1], Position: p.position("at"), Priority: 100}
	case "request":
		v.Request = &cluster.Request{ID: "r", Kind: cluster.RequestKind(w[1]), Term: v.State.Term, To: args["to"], By: "alice", From: v.Self, Begun: p.has("begun")}
		v.RequestSince = v.Now
		if v.Asked = "r"; args["from"] != "" {
			v.Request.From, v.Asked = args["from"], ""
		}
	case "standbys":
		v.Postgres.Standbys = nil
		for _, s := range w[1:] {
			name, at, _ := strings.Cut(s, "@")
			lsn, err := cluster.ParseLSN(at)
			if err != nil {
				return nil, err
			}
			v.Postgres.Standbys = append(v.Postgres.Standbys, cluster.Standby{Name: name, Streaming: true, Flushed: lsn, Replayed: lsn})
		}
	case "time":
		v.Now += p.duration("passes")
	default:
		return nil, fmt.Errorf("no such line: %s", w[0])
	}
	return nil, p.err
}

func members(v *cluster.View, names []string) {
	for _, n := range names {
		m := cluster.Member{Name: n, Kind: cluster.Data, Priority: 100}
		if strings.HasPrefix(n, "wit") {
			m.Kind = cluster.Witness
		}
		v.Members = append(v.Members, m)
		v.Peers[n] = cluster.Peer{Heard: v.Now - 50*time.Millisecond, Beat: cluster.Beat{From: n, Up: true, Data: cluster.DataReady, Recovery: true}}
	}
}

// parser reads key=value words; the first error stays.
type parser struct {
	keys []string // in the order of the line: a later one may build on an earlier one
	args map[string]string
	err  error
}

func (p *parser) has(k string) bool { _, ok := p.args[k]; return ok }

func (p *parser) note(err error) {
	if err != nil && p.err == nil {
		p.err = err
	}
}

func (p *parser) duration(k string) time.Duration {
	d, err := time.ParseDuration(p.args[k])
	p.note(err)
	return d
}

func (p *parser) number(k string) int {
	n, err := strconv.Atoi(p.args[k])
	p.note(err)
	return n
}

func (p *parser) lsn(k string) cluster.LSN {
	l, err := cluster.ParseLSN(p.args[k])
	p.note(err)
	return l
}

func (p *parser) position(k string) cluster.Position {
	tl, at, _ := strings.Cut(p.args[k], ":")
	n, err := strconv.Atoi(tl)
	p.note(err)
	l, err := cluster.ParseLSN(at)
	p.note(err)
	return cluster.Position{Timeline: cluster.Timeline(n), LSN: l}
}

func (p *parser) rule(k string) cluster.Rule {
	n, of, _ := strings.Cut(p.args[k], ":")
	c, err := strconv.Atoi(n)
	p.note(err)
	return cluster.NewRule(c, strings.FieldsFunc(of, func(r rune) bool { return r == ',' })...)
}

func (p *parser) settings(s *cluster.Settings) {
	for _, k := range p.keys {
		switch k {
		case "durability":
			s.Durability = cluster.Durability(p.args[k])
		case "copies":
			s.Copies = p.number(k)
		case "allow_single_copy":
			s.AllowSingleCopy = true
		case "paused":
			s.Paused = true
		}
	}
}

func (p *parser) state(v *cluster.View) {
	if v.State == nil {
		v.State = &cluster.State{Revision: 1, SystemID: "7"}
	}
	s := *v.State
	s.Revision++
	for _, k := range p.keys {
		val := p.args[k]
		switch k {
		case "term":
			s.Term = cluster.Term(p.number(k))
			v.Promised = s.Term
			v.Reports = map[string]cluster.Report{}
		case "phase":
			s.Phase = cluster.Phase(val)
			if s.Phase == cluster.Electing {
				s.Primary, v.ElectingSince = "", v.Now
			}
		case "primary":
			s.Primary, s.Last = val, val
		case "last":
			s.Last = val
		case "timeline":
			s.Timeline = cluster.Timeline(p.number(k))
		case "fork":
			b := p.position(k)
			s.Fork = b.LSN
			s.History = cluster.History{{Timeline: b.Timeline, End: b.LSN}}
		case "rule":
			s.Rule = p.rule(k)
		case "prefer":
			s.Prefer = val
		case "avoid":
			s.Avoid = val
		case "force":
			s.Force = true
		case "unfounded":
			s.SystemID = ""
		case "solo", "sound":
			s.Solo = k == "solo"
		}
	}
	v.State = &s
}

func (p *parser) postgres(v *cluster.View) {
	g := &v.Postgres
	g.SystemID = "7"
	if g.Data == "" {
		g.Data = cluster.DataReady
	}
	for _, k := range p.keys {
		val := p.args[k]
		switch k {
		case "standby":
			g.Running, g.Up, g.Recovery, g.Ready = true, true, true, true
		case "primary":
			g.Running, g.Up, g.Recovery = true, true, false
		case "in_place":
			g.Running, g.Up, g.Recovery, g.InPlace, v.StoreOK = true, true, false, true, true
		case "out_of_store":
			v.StoreOK = false
		case "dead":
			g.Running, g.Up = false, false
		case "data":
			g.Data = cluster.DataState(val)
		case "at":
			g.Position = p.position(k)
			g.Replayed = g.Position.LSN
		case "replayed":
			g.Replayed = p.lsn(k)
		case "attached":
			v.Relay = cluster.Relay{Term: cluster.Term(p.number(k)), Heard: v.Now}
		case "closed":
			v.Relay = cluster.Relay{Heard: v.Relay.Heard}
		case "held":
			v.Relay = cluster.Relay{Held: true, Heard: v.Relay.Heard}
		case "relay_silent":
			v.Relay.Heard = v.Now - p.duration(k)
		case "stream_silent":
			v.Relay.Silent = v.Now - p.duration(k)
		case "names":
			g.Names = p.rule(k)
			g.NamesLSN = g.Position.LSN
		case "row":
			g.TermRow = p.lsn(k)
		case "admitted":
			v.Admitted = cluster.Term(p.number(k))
		case "promised":
			v.Promised = cluster.Term(p.number(k))
		case "stalled":
			g.Stalled = "its PostgreSQL has not answered for 1s"
		case "failed":
			g.Failed, g.FailedAction, g.FailedTerm = "it broke", val, v.State.Term
		case "alone_for":
			v.LeaseFrom = v.Now - p.duration(k)
		case "unmet_for":
			v.UnmetSince = v.Now - p.duration(k)
		case "shunned_for":
			v.ShunnedSince = v.Now - p.duration(k)
		}
	}
}

func (p *parser) peer(v *cluster.View, name string) {
	x := v.Peers[name]
	for _, k := range p.keys {
		val := p.args[k]
		switch k {
		case "asked":
			x.Beat.Asked = "r"
		case "silent":
			x.Heard = v.Now - p.duration(k)
		case "deaf_for": // the primary's
			v.DeafSince = v.Now - p.duration(k)
		case "suspects":
			x.Beat.Suspects = strings.Split(val, ",")
		case "term":
			x.Beat.Term = cluster.Term(p.number(k))
		case "attached":
			x.Beat.Attached = cluster.Term(p.number(k))
			x.Beat.Term = x.Beat.Attached
		case "admitted":
			x.Beat.Admitted = cluster.Term(p.number(k))
		case "needs_out":
			x.Beat.NeedsOut = true
		case "here":
			x.Beat.NeedsOut, x.Beat.Data = false, cluster.DataReady
		case "data":
			x.Beat.Data = cluster.DataState(val)
		case "at":
			x.Beat.Position = p.position(k)
			x.Beat.Replayed = x.Beat.Position.LSN
		case "readable":
			x.Beat.Readable = true
		}
	}
	v.Peers[name] = x
}

func describe(acts []cluster.Action) []string {
	if len(acts) == 0 {
		return []string{"(nothing)"}
	}
	var out []string
	for _, a := range acts {
		s := a.String()
		if w, ok := a.(cluster.Write); ok {
			n := w.Next
			s += fmt.Sprintf(" → term %d %s, primary %q, timeline %d, %s", n.Term, n.Phase, n.Primary, n.Timeline, n.Rule)
			for _, x := range []struct{ k, v string }{{"prefer", n.Prefer}, {"avoid", n.Avoid}, {"may lose", n.Lost}} {
				if x.v != "" {
					s += ", " + x.k + " " + x.v
				}
			}
			if n.Solo {
				s += ", solo"
			}
		}
		out = append(out, s)
	}
	return out
}

func describeRoute(r cluster.Route) string {
	var reads []string
	for _, t := range r.Reads {
		reads = append(reads, t.Name)
	}
	slices.Sort(reads)
	s := fmt.Sprintf("term %d: write to %q, hold %v, read from %v", r.Term, r.Write, r.Hold, reads)
	if r.Why != "" {
		s += ": " + r.Why
	}
	return s
}
