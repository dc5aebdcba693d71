package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"standfast/api"
	"standfast/ops"

	"github.com/goccy/go-yaml"
)

type statusCmd struct {
	Output string `help:"How to show it: text, json or yaml." short:"o" enum:"text,json,yaml" default:"text"`
	Watch  bool   `help:"Show it again and again until Ctrl-C." short:"w"`
	Every  string `help:"How often, with --watch." default:"1s" placeholder:"1s"`
}

func (statusCmd) Help() string {
	return `Anything unusual stands at the top, in one plain sentence. COMMIT says whether a member counts in the commit rule: "counts" means that acknowledged commits may rely on it.

Examples:

    standfast status
    standfast status --watch
    standfast status -o json | jq -r .primary`
}

func (c *statusCmd) Run(a *app) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	defer cl.Close()
	if c.Watch {
		return c.watch(a, cl)
	}
	text, err := c.render(a.ctx, a.out, cl)
	if err != nil {
		return err
	}
	_, err = a.stdout.Write(text)
	return err
}

func (c *statusCmd) render(ctx context.Context, s style, cl *ops.Cluster) ([]byte, error) {
	st, failed, err := cl.Status(ctx)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	switch c.Output {
	case "json":
		enc := json.NewEncoder(&b)
		enc.SetIndent("", "  ")
		err = enc.Encode(st)
	case "yaml":
		err = writeYAML(&b, st)
	default:
		writeStatus(&b, s, st, failed, time.Now())
	}
	return b.Bytes(), err
}

// writeYAML goes through JSON, so that both have the same keys.
func writeYAML(w io.Writer, v any) error {
	j, err := json.Marshal(v)
	if err != nil {
		return err
	}
	y, err := yaml.JSONToYAML(j)
	if err == nil {
		_, err = w.Write(y)
	}
	return err
}

// watch shows the status until interrupted: on a terminal in place, in a pipe one after the other.
func (c *statusCmd) watch(a *app, cl *ops.Cluster) error {
	every, err := time.ParseDuration(c.Every)
	if err != nil || every < 100*time.Millisecond {
		return usage("--every %s: write a time of at least 100ms, such as 2s", c.Every)
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		text, err := c.render(a.ctx, a.out, cl)
		if a.ctx.Err() != nil {
			return nil
		}
		if err != nil {
			text = []byte(err.Error() + "\n") // it may come back: that is what one watches for
		}
		if a.out.terminal {
			// Home, then each line cleared to its end and the rest of the screen below: no flicker as with clearing first.
			text = append([]byte("\x1b[H"), append(bytes.ReplaceAll(text, []byte("\n"), []byte("\x1b[K\n")), "\x1b[J"...)...)
		} else {
			text = append(text, '\n')
		}
		if _, err := a.stdout.Write(text); err != nil {
			return err
		}
		select {
		case <-a.ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// writeStatus shows the whole cluster for people.
func writeStatus(w io.Writer, s style, st *api.Status, failed []error, now time.Time) {
	unusual := append([]string{}, st.Warnings...)
	for _, err := range failed {
		unusual = append(unusual, err.Error())
	}
	unusual = append(unusual, detached(st)...)
	for _, u := range unusual {
		paint := s.warn
		if strings.HasPrefix(u, "no writes") {
			paint = s.bad
		}
		fmt.Fprintf(w, "%s\n", paint(wrap("! "+u, s.width-1, "  ")))
	}
	if len(unusual) > 0 {
		fmt.Fprintln(w)
	}
	head := fmt.Sprintf("%s · term %d", st.Cluster, st.Term)
	if st.Primary != "" {
		head += fmt.Sprintf(" · %s is primary", s.bold(st.Primary))
		if !st.Since.IsZero() {
			head += fmt.Sprintf(" since %s (%s)", st.Since.Local().Format("2006-01-02 15:04:05"), ago(now.Sub(st.Since)))
		}
	} else {
		head += " · " + s.bad("no primary: one is being chosen")
	}
	fmt.Fprintln(w, wrap(head, s.width-1, "  "))
	if st.Commit.Text != "" {
		fmt.Fprintln(w, wrap(st.Commit.Text, s.width-1, ""))
	}
	for _, a := range st.Address {
		fmt.Fprintln(w, wrap(addressLine(s, a), s.width-1, "  "))
	}
	for _, c := range st.ReplicationClients {
		fmt.Fprintln(w, wrap(clientLine(s, c), s.width-1, "  "))
	}
	fmt.Fprintln(w)
	writeMembers(w, s, st)
}

func clientLine(s style, c api.ReplicationClient) string {
	state := s.good("receives")
	if !c.Receiving {
		state = s.warn("is not connected")
	}
	return fmt.Sprintf("replication client %s %s · %s of WAL kept for it", c.Name, state, human(c.Held))
}

func addressLine(s style, a api.Address) string {
	holder := "held by " + s.bold(a.Holder)
	if a.Holder == "" {
		holder = s.bad("held by nobody")
	}
	return fmt.Sprintf("%s follows the %s · %s", a.Address, a.Follows, holder)
}

// ago gives the two largest units of a time span.
func ago(d time.Duration) string {
	switch {
	case d < 0:
		return "just now"
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 24*time.Hour:
		return fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%d d %d h", int(d.Hours())/24, int(d.Hours())%24)
}

// detached tells of members whose PostgreSQL does not run, or runs and does not follow. A moment of that is normal after every change of primary, so the
// members themselves don't warn of it; who looks should know all the same.
func detached(st *api.Status) []string {
	var out []string
	for _, m := range st.Members {
		if st.Primary != "" && m.Role == api.Standby && m.State == api.Running && !m.Attached {
			out = append(out, fmt.Sprintf("%s runs but does not follow %s; if that lasts, look at its log", m.Name, st.Primary))
		}
		if m.State == api.Stopped && m.Note == "" {
			out = append(out, fmt.Sprintf("PostgreSQL of %s does not run; if that lasts, look at its log", m.Name))
		}
	}
	return out
}
