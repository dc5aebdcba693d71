package whatif

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"standfast/api"
	"standfast/cluster"
	"standfast/decide"
	"standfast/sim"
)

// Answer is what would happen.
type Answer struct {
	Faults     []Fault    `json:"faults"`
	Before     []Fault    `json:"before,omitempty"`
	Primary    string     `json:"primary"`                  // now
	Winners    []Winner   `json:"winners"`                  // who takes writes in the end, the most frequent first; empty: nobody
	Writes     bool       `json:"writes"`                   // somebody does, in every world
	OutageMS   [3]int64   `json:"outage_ms"`                // the shortest, the middle and the longest of the worlds that were played
	DetectMS   int64      `json:"detect_ms"`                // of the settings: how long until silence is noticed
	Lost       string     `json:"lost"`                     // what becomes of acknowledged commits, a sentence
	Commit     api.Commit `json:"commit"`                   // what one is worth then
	Next       []Next     `json:"next"`                     // what one more loss would mean
	Assumed    []string   `json:"assumed"`                  // what the answer takes for granted, sentences
	Violations []string   `json:"violations,omitempty"`     // of promises; each would be a fault of Standfast's
	Text       []string   `json:"text"`                     // all of it in plain sentences
	LastMS     int64      `json:"last_outage_ms,omitempty"` // how long the last failover of this cluster really took
}

// Winner is a member that takes writes in the end.
type Winner struct {
	Member string `json:"member"`
	Worlds int    `json:"worlds"` // of Worlds
}

// Next is one more loss.
type Next struct {
	Member   string `json:"member"` // whose host is lost
	Primary  string `json:"primary"`
	OutageMS int64  `json:"outage_ms"`
	Text     string `json:"text"`
}

// Worlds is how many worlds are played for one question.
const Worlds = 9

var brain = sim.Brain{Decide: decide.Decide, Route: decide.Route, Beat: decide.Beat, Unmet: decide.Unmet, Shunned: decide.Shunned}

// stage is the cluster as the simulator is told of it.
type stage struct {
	st       *api.Status
	settings cluster.Settings
	names    []string // by the simulator's number: data members first
	scene    sim.Scene
	assumed  []string
}

// Ask plays the question. history may be nil. A refusal says why the question makes no sense now.
func Ask(q Question, st *api.Status, settings cluster.Settings, history []api.Entry) (Answer, error) {
	s, err := newStage(st, settings)
	if err != nil {
		return Answer{}, err
	}
	s.scene.Before = append(s.scene.Before, s.blows(q.Before)...)
	s.scene.Blows = s.blows(q.Faults)
	a := Answer{Faults: q.Faults, Before: q.Before, Primary: st.Primary, DetectMS: settings.Detect.Milliseconds(), Assumed: s.assumed, LastMS: lastFailover(history)}
	var endings []sim.Ending
	for seed := uint64(1); seed <= Worlds; seed++ {
		s.scene.Seed = seed
		if e := sim.Imagine(s.scene); e.Founded {
			endings = append(endings, e)
		}
	}
	if len(endings) == 0 {
		return a, fmt.Errorf("no world could be made that stands as this cluster does: it must have a primary with a standby that follows it")
	}
	shown := a.count(s, endings)
	a.Lost = s.lost(q)
	a.Commit = s.worth(shown)
	a.next(s, q, shown)
	a.Text = s.words(q, &a, shown)
	return a, nil
}

func newStage(st *api.Status, settings cluster.Settings) (*stage, error) {
	if st.Phase != cluster.Reigning || st.Primary == "" {
		return nil, fmt.Errorf("nobody reigns now (term %d is %s): ask again when the cluster has a primary", st.Term, st.Phase)
	}
	if p := st.Member(st.Primary); p == nil || p.State == api.Unreachable || !p.Writable {
		return nil, fmt.Errorf("the primary %s takes no writes now: ask again when it does, or look at standfast status", st.Primary)
	}
	s := &stage{st: st, settings: settings, scene: sim.Scene{Settings: settings, Brain: brain}}
	for _, m := range st.Members {
		if m.Role != api.Witness {
			s.data(m)
		}
	}
	for _, m := range st.Members {
		if m.Role == api.Witness {
			s.scene.Witness = append(s.scene.Witness, sim.SceneMember{})
			s.names = append(s.names, m.Name)
		}
	}
	for i, name := range s.names {
		if st.Member(name).State == api.Unreachable {
			s.scene.Before = append(s.scene.Before, sim.Blow{Kind: sim.PowerOff, Host: i})
			s.assumed = append(s.assumed, name+" is not heard from, and is taken to be switched off")
		}
	}
	return s, nil
}

func (s *stage) data(m api.Member) {
	c := sim.SceneMember{Priority: m.Priority}
	if m.Name == s.st.Primary {
		s.scene.Primary = len(s.names)
		c.Priority = max(c.Priority, 1)
	} else if m.State != api.Unreachable && !m.Attached {
		c.Priority = 0
		s.assumed = append(s.assumed, fmt.Sprintf("%s does not follow the primary now (%s), and is taken not to be electable", m.Name, m.State))
	}
	s.scene.Data = append(s.scene.Data, c)
	s.names = append(s.names, m.Name)
}

func (s *stage) number(name string) int { return slices.Index(s.names, name) }

func (s *stage) blows(faults []Fault) []sim.Blow {
	var out []sim.Blow
	for _, f := range faults {
		b := sim.Blow{Kind: f.Kind, Host: s.number(f.Member)}
		for _, o := range f.From {
			b.From = append(b.From, s.number(o))
		}
		out = append(out, b)
	}
	return out
}

var simName = regexp.MustCompile(`\bpg(\d+)\b`)

// real puts the members' own names in the place of the simulator's.
func (s *stage) real(text string) string {
	return simName.ReplaceAllStringFunc(text, func(m string) string {
		if n, err := strconv.Atoi(m[2:]); err == nil && n >= 1 && n <= len(s.names) {
			return s.names[n-1]
		}
		return m
	})
}

// count sums the endings up, and returns the one that stands for them.
func (a *Answer) count(s *stage, endings []sim.Ending) sim.Ending {
	counts := map[string]int{}
	var outages []time.Duration
	for _, e := range endings {
		counts[e.Primary]++
		if e.Primary != "" {
			outages = append(outages, e.Outage)
		}
		if e.Violation != nil {
			a.Violations = append(a.Violations, s.real(e.Violation.Error()))
		}
	}
	for name, n := range counts {
		if name != "" {
			a.Winners = append(a.Winners, Winner{s.real(name), n})
		}
	}
	slices.SortFunc(a.Winners, func(x, y Winner) int {
		if x.Worlds != y.Worlds {
			return y.Worlds - x.Worlds
		}
		return strings.Compare(x.Member, y.Member)
	})
	a.Writes = counts[""] == 0
	if slices.Sort(outages); len(outages) > 0 {
		a.OutageMS = [3]int64{outages[0].Milliseconds(), outages[len(outages)/2].Milliseconds(), outages[len(outages)-1].Milliseconds()}
	}
	most := ""
	if len(a.Winners) > 0 && counts[""] < a.Winners[0].Worlds {
		most = a.Winners[0].Member
	}
	i := slices.IndexFunc(endings, func(e sim.Ending) bool { return s.real(e.Primary) == most })
	return endings[i]
}

// worth is what an acknowledged commit is worth in an ending.
func (s *stage) worth(e sim.Ending) api.Commit {
	r := cluster.Rule{K: e.State.Rule.K}
	for _, n := range e.State.Rule.Of {
		r.Of = append(r.Of, s.real(n))
	}
	attached := func(name string) bool {
		return slices.ContainsFunc(e.Attached, func(n string) bool { return s.real(n) == name })
	}
	return api.Describe(s.settings.Durability, r, attached, len(e.Up)-(len(s.names)/2+1))
}

// lost says what becomes of acknowledged commits: one is on the primary and on k of the rule.
func (s *stage) lost(q Question) string {
	rule := s.st.Commit.Rule
	var gone []string
	for _, f := range append(slices.Clone(q.Before), q.Faults...) {
		if f.Kind == sim.PowerOff && !slices.Contains(gone, f.Member) {
			gone = append(gone, f.Member)
		}
	}
	holders := 0
	for _, name := range gone {
		if rule.Has(name) {
			holders++
		}
	}
	primaryGone := slices.Contains(gone, s.st.Primary)
	switch {
	case s.settings.Durability == cluster.Async && primaryGone:
		return fmt.Sprintf("Commits wait for no copy (durability: async): those that %s acknowledged and no standby had received yet are lost, unless it comes back before another is elected; standfast salvage lists them when it does.", s.st.Primary)
	case s.settings.Durability == cluster.Async:
		return "Commits wait for no copy (durability: async): those that no standby has received yet are on the primary alone."
	case primaryGone && holders >= rule.K:
		return fmt.Sprintf("Nothing acknowledged is lost as long as the disk of one of %s comes back; were all of them gone for good, commits that are on no other host would be.", strings.Join(gone, ", "))
	}
	return "Nothing acknowledged is lost."
}

// next plays one more loss after each of the worlds that stands for all.
func (a *Answer) next(s *stage, q Question, shown sim.Ending) {
	for i, name := range s.names {
		if !slices.Contains(shown.Up, fmt.Sprintf("pg%d", i+1)) {
			continue
		}
		scene := s.scene
		scene.Before = append(slices.Clone(scene.Before), scene.Blows...)
		scene.Blows = []sim.Blow{{Kind: sim.PowerOff, Host: i}}
		e := sim.Ending{}
		for seed := uint64(1); seed <= 3 && !e.Founded; seed++ {
			scene.Seed = seed
			e = sim.Imagine(scene)
		}
		if !e.Founded {
			continue
		}
		n := Next{Member: name, Primary: s.real(e.Primary), OutageMS: e.Outage.Milliseconds()}
		switch {
		case e.Primary == "":
			n.Text = "nobody takes writes until a host is back"
		case e.Terms == 0 && e.Outage == 0:
			n.Text = n.Primary + " goes on taking writes"
		case e.Terms == 0:
			n.Text = fmt.Sprintf("%s goes on, after writes have waited for about %s", n.Primary, about(n.OutageMS))
		default:
			n.Text = fmt.Sprintf("%s takes over within about %s", n.Primary, about(n.OutageMS))
		}
		a.Next = append(a.Next, n)
	}
}

func lastFailover(history []api.Entry) int64 {
	for i := len(history) - 1; i >= 0; i-- {
		if history[i].Kind == "failover" && history[i].OutageMS > 0 {
			return history[i].OutageMS
		}
	}
	return 0
}

func about(ms int64) string {
	d := time.Duration(ms) * time.Millisecond
	if d < time.Second {
		return d.Round(10 * time.Millisecond).String()
	}
	return d.Round(100 * time.Millisecond).String()
}
