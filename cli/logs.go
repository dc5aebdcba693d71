package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"standfast/api"
	"standfast/api/client"
)

type logsCmd struct {
	Member []string `arg:"" optional:"" help:"Only of these members." placeholder:"MEMBER"`
	Follow bool     `help:"Show each new line as it comes, until Ctrl-C." short:"f"`
	Since  string   `help:"From when on: a duration before now, such as 10m, or a time, such as \"2026-01-02 15:04\"; 0 for all that is kept." default:"10m" placeholder:"10m"`
	Source []string `help:"Only of these: standfast, router, postgresql." placeholder:"SOURCE,…"`
	All    bool     `help:"Of all members, as without a name."`
	Output string   `help:"How to show it: text, or json, a line for each." short:"o" enum:"text,json" default:"text"`
}

func (logsCmd) Help() string {
	return `The logs of all members by time: what Standfast did, what its router did, and PostgreSQL's own. Of Standfast's own there is what was logged since the agent started, the newest 2 MB (before that: journalctl -u standfast); of PostgreSQL's the newest 2 MB of the file and of the one before it. Passwords and the like are left out.

It needs the cluster's token, or an operator's who may change something: run it as root or as the user that standfast runs as.

Examples:

    standfast logs
    standfast logs -f pg1
    standfast logs --since 2h --source postgresql
    standfast logs --since 1h -o json | jq -r 'select(.level == "error") | .text'`
}

func (c *logsCmd) Run(a *app) error {
	q := client.LogQuery{Members: c.Member}
	var err error
	if q.Since, err = parseSince(c.Since, time.Now()); err != nil {
		return err
	}
	if c.All && len(c.Member) > 0 {
		return usage("--all means every member: leave it out, or the names")
	}
	for _, s := range c.Source {
		if !slices.Contains(api.LogSources, api.LogSource(s)) {
			return usage("--source %s: there is no such source; there are standfast, router and postgresql", s)
		}
		q.Sources = append(q.Sources, api.LogSource(s))
	}
	cl, err := a.connect()
	if err != nil {
		return err
	}
	defer cl.Close()
	if err := c.known(a, cl.Client); err != nil {
		return err
	}
	w := &logWriter{w: a.stdout, s: a.out, json: c.Output == "json"}
	if c.Follow {
		err := cl.FollowLogs(a.ctx, q, w.show, func(at string, err error) { tellTrouble(a, at, err) })
		if errors.Is(err, context.Canceled) {
			return nil // Ctrl-C is how it ends
		}
		return err
	}
	found, failed, err := cl.Logs(a.ctx, q)
	if err != nil {
		return err
	}
	for _, err := range failed {
		tellTrouble(a, "", err)
	}
	if len(found) == 0 && c.Output == "text" {
		fmt.Fprintln(a.stderr, "no such lines since", q.Since.Format("2006-01-02 15:04:05")+"; --since 0 shows all that are kept")
	}
	for _, l := range found {
		w.show(l)
	}
	return nil
}

// known refuses a name that no member has.
func (c *logsCmd) known(a *app, cl *client.Client) error {
	if len(c.Member) == 0 {
		return nil
	}
	st, _, err := cl.Status(a.ctx)
	if err != nil {
		return err
	}
	for _, name := range c.Member {
		if st.Member(name) == nil {
			var names []string
			for _, m := range st.Members {
				names = append(names, m.Name)
			}
			return usage("%s is no member; there are %s", name, strings.Join(names, ", "))
		}
	}
	return nil
}

// logWriter shows lines. On a terminal the day stands once above those of it, and long lines are wrapped.
type logWriter struct {
	w    io.Writer
	s    style
	json bool
	day  string
}

func (w *logWriter) show(l api.LogLine) {
	if w.json {
		_ = json.NewEncoder(w.w).Encode(l) // to a closed pipe: the process is told by a signal
		return
	}
	at := l.At.Local()
	layout := "2006-01-02 15:04:05.000"
	if w.s.terminal {
		layout = "15:04:05.000"
		if day := at.Format("Monday 2006-01-02"); day != w.day {
			w.day = day
			fmt.Fprintln(w.w, w.s.dim(day))
		}
	}
	head := fmt.Sprintf("%s %-5s %-10s ", at.Format(layout), l.Member, l.Source)
	var out []string
	for line := range strings.SplitSeq(printable(l.Text), "\n") {
		if w.s.terminal {
			line = wrap(line, max(w.s.width-len(head), 30), "")
		}
		out = append(out, strings.Split(line, "\n")...)
	}
	text := strings.Join(out, "\n"+strings.Repeat(" ", len(head)))
	switch l.Level {
	case "error":
		text = w.s.bad(text)
	case "warn":
		text = w.s.warn(text)
	case "debug":
		text = w.s.dim(text)
	}
	fmt.Fprintln(w.w, w.s.dim(head[:len(layout)])+head[len(layout):]+text)
}

// printable takes out what could steer a terminal: clients write into PostgreSQL's log.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return ' '
		case r < ' ' && r != '\n', r >= 0x7f && r < 0xa0:
			return '�'
		}
		return r
	}, text)
}
