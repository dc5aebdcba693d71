package notify

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"standfast/api"
)

// Settings say who is told of what. The zero value tells nobody.
type Settings struct {
	Webhook string        // URL that each event is posted to as JSON; "": none
	Chat    string        // URL of an incoming webhook of Mattermost, Slack or the like; "": none
	Command string        // for /bin/sh -c, run for each event; "": none
	Syslog  bool          // the journal, or the syslog of a host without
	AtLeast api.Severity  // lesser events are not told; "": warnings
	Timeout time.Duration // of one attempt; 0: 10 s
}

// Config says for whom a Notifier works.
type Config struct {
	Version string // of standfast, for the User-Agent
	Log     *slog.Logger

	first time.Duration // rest after a first failure; 0: firstRest. Tests shorten it.
}

// Notifier tells events. Its methods may be called from any goroutine.
type Notifier struct {
	lanes []*lane

	mu    sync.Mutex
	known bool // Set was called
	set   Settings
	early []api.Event // told before it was
}

// New prepares one. Run runs it; until Set is called events wait.
func New(cfg Config) *Notifier {
	n := &Notifier{}
	web := &poster{agent: "standfast/" + cfg.Version}
	for _, l := range []*lane{
		{to: "webhook", most: 1, tell: web.event},
		{to: "chat", most: mostLines, gather: gathering, tell: web.chat},
		{to: "command", most: 1, tell: (&runner{cfg.Log}).run},
		{to: "syslog", most: 1, tell: journal},
	} {
		l.log, l.first, l.wake = cfg.Log.With("to", l.to), cfg.first, make(chan struct{}, 1)
		n.lanes = append(n.lanes, l)
	}
	return n
}

// Set has events told as s says from now on. What waits goes to the new address.
func (n *Notifier) Set(s Settings) {
	if s.AtLeast == "" {
		s.AtLeast = api.Warning
	}
	if s.Timeout == 0 {
		s.Timeout = defaultTimeout
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.known && s == n.set {
		return
	}
	syslog := ""
	if s.Syslog {
		syslog = "the host's own"
	}
	for i, target := range []string{s.Webhook, s.Chat, s.Command, syslog} {
		n.lanes[i].set(target, s.Timeout)
	}
	n.set, n.known = s, true
	for _, e := range n.early {
		n.tell(e)
	}
	n.early = nil
}

// Tell has the event told to whom it concerns. It never blocks.
func (n *Notifier) Tell(e api.Event) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.known {
		n.early = append(n.early, e)
		n.early = n.early[max(0, len(n.early)-waiting):]
		return
	}
	n.tell(e)
}

func (n *Notifier) tell(e api.Event) {
	if !Wanted(e, n.set.AtLeast) {
		return
	}
	for _, l := range n.lanes {
		l.add(e)
	}
}

// Run tells events until ctx ends. What waits then is not told.
func (n *Notifier) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, l := range n.lanes {
		wg.Go(func() { l.run(ctx) })
	}
	wg.Wait()
	return nil
}

// Status says how each that is told stands.
func (n *Notifier) Status() []api.Told {
	var out []api.Told
	for _, l := range n.lanes {
		if s, is := l.status(); is {
			out = append(out, s)
		}
	}
	return out
}

// ranks orders the severities.
var ranks = map[api.Severity]int{api.Info: 0, api.Warning: 1, api.Critical: 2}

// Wanted reports whether an event is told to whoever wants those of at least that severity. Whoever is told that something began is told
// that it ended, though the end is no reason to worry.
func Wanted(e api.Event, least api.Severity) bool {
	severity := e.Severity
	if (e.Kind == "cleared" || e.Kind == "heard") && severity == api.Info {
		severity = api.Warning
	}
	return ranks[severity] >= ranks[least]
}
