// Package gather finds out what package facts describes: how a member's host and its PostgreSQL are. It only reads, apart from a page
// that is written beside the WAL to see how long that takes, and every question has its own bound: one that hangs, as a file system
// may, is told as not known, and is not asked again before it has ended.
package gather

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"standfast/cluster"
	"standfast/config"
	"standfast/doctor/facts"
)

// Bound is how long an examination takes at most. Whoever asks waits for the answer of the slowest member.
const Bound = 2500 * time.Millisecond

// Config says what is examined.
type Config struct {
	Node     config.Node
	Version  string
	Members  func() []cluster.Member
	Watchdog func() string

	Inspect func(context.Context, func(*pgx.Conn) error) error // runs queries; nil: there is no PostgreSQL to ask
	Probe   func(context.Context) error                        // writes a page beside the WAL and syncs it; nil: not tried
	Etcd    func(context.Context) (*facts.Etcd, error)         // nil: the member has none of its own
}

// Gatherer examines one member, at most once at a time.
type Gatherer struct {
	cfg   Config
	parts []part

	one   chan struct{} // holds a token while an examination is under way
	mu    sync.Mutex
	since map[string]time.Time // of parts that have not ended
}

// part is one question. It returns what to note of the answer, so that nothing is written by one that was given up.
type part struct {
	what  string
	ask   question
	brief question // instead, when asked briefly; nil: then it is left out
}

type question func(context.Context) (note func(*facts.Member), err error)

// New prepares examinations; nothing is asked yet.
func New(cfg Config) *Gatherer {
	g := &Gatherer{cfg: cfg, one: make(chan struct{}, 1), since: map[string]time.Time{}}
	g.parts = []part{
		{"the host", g.host, g.host}, {"systemd's services", g.units, nil}, {"the clock", g.clock, nil}, {"the disks", g.disks, g.disks}, {"the other members' ports", g.reach, nil},
		{"certificates", g.cert, nil}, {"floating addresses", g.addresses, nil}, {"the member's file", g.file, nil}, {"the logs", g.logs, nil},
	}
	if cfg.Etcd != nil {
		g.parts = append(g.parts, part{"etcd", g.etcd, nil})
	}
	if cfg.Probe != nil {
		g.parts = append(g.parts, part{"how fast the disk syncs", g.sync, nil})
	}
	if cfg.Inspect != nil {
		g.parts = append(g.parts, part{"PostgreSQL", g.postgres(queries), g.postgres(few)})
	}
	return g
}

// answer is how a part ended.
type answer struct {
	part
	note func(*facts.Member)
	err  error
}

// Gather asks everything at once and returns after Bound at the latest with what is known by then. An error means that another
// examination was under way for all that time.
//
// Brief leaves out what takes a moment or disturbs anybody: it reads the host's memory and disks, and PostgreSQL's sessions and slots.
func (g *Gatherer) Gather(ctx context.Context, brief bool) (facts.Member, error) {
	ctx, cancel := context.WithTimeout(ctx, Bound)
	defer cancel()
	select {
	case g.one <- struct{}{}:
		defer func() { <-g.one }()
	case <-ctx.Done():
		return facts.Member{}, fmt.Errorf("examine %s: another examination is under way: %w", g.cfg.Node.Name, context.Cause(ctx))
	}
	m := facts.Member{Name: g.cfg.Node.Name, Version: g.cfg.Version}
	answers, left := g.begin(ctx, brief, &m)
	for len(left) > 0 {
		select {
		case a := <-answers:
			delete(left, a.what)
			if a.err != nil {
				m.Unknown = append(m.Unknown, facts.Question{What: a.what, Why: a.err.Error()})
			}
			if a.note != nil {
				a.note(&m)
			}
			continue
		case <-ctx.Done():
		}
		for what := range left {
			m.Unknown = append(m.Unknown, facts.Question{What: what, Why: fmt.Sprintf("no answer within %v", Bound)})
		}
		break
	}
	slices.SortFunc(m.Unknown, func(a, b facts.Question) int { return strings.Compare(a.What, b.What) })
	m.Time = time.Now()
	return m, nil
}

// begin starts all parts but those that hang since an earlier examination.
func (g *Gatherer) begin(ctx context.Context, brief bool, m *facts.Member) (<-chan answer, map[string]bool) {
	answers, left := make(chan answer, len(g.parts)), map[string]bool{}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, p := range g.parts {
		if brief && p.brief == nil {
			continue
		}
		ask := p.ask
		if brief {
			ask = p.brief
		}
		if since, hangs := g.since[p.what]; hangs {
			m.Unknown = append(m.Unknown, facts.Question{What: p.what, Why: fmt.Sprintf("the question hangs since %s", since.UTC().Format(time.RFC3339))})
			continue
		}
		g.since[p.what], left[p.what] = time.Now(), true
		go func() { // ends when what it asks does, which nobody waits for
			note, err := ask(ctx)
			g.mu.Lock()
			delete(g.since, p.what)
			g.mu.Unlock()
			answers <- answer{p, note, err}
		}()
	}
	return answers, left
}
