package notify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/syslog"
	"strconv"
	"strings"
	"time"

	systemd "github.com/coreos/go-systemd/v22/journal"

	"standfast/api"
)

var priorities = map[api.Severity]systemd.Priority{api.Info: systemd.PriInfo, api.Warning: systemd.PriWarning, api.Critical: systemd.PriCrit}

// tag is what lines are found by: journalctl -t, and the program's name in syslog.
const tag = "standfast-event"

// journal writes into the journal, or where there is none into the syslog of the host.
func journal(_ context.Context, _ string, events []api.Event) error {
	for _, e := range events {
		if systemd.Enabled() {
			if err := systemd.Send(e.Text, priorities[e.Severity], fields(e)); err != nil {
				return fmt.Errorf("write into the journal: %w", err)
			}
			continue
		}
		if err := writeSyslog(e); err != nil {
			return err
		}
	}
	return nil
}

// fields are the journal's, beside the message: journalctl STANDFAST_KIND=primary finds by them.
func fields(e api.Event) map[string]string {
	out := map[string]string{"SYSLOG_IDENTIFIER": tag}
	for name, value := range map[string]string{
		"EVENT": e.ID, "AT": e.At.UTC().Format(time.RFC3339Nano), "CLUSTER": e.Cluster, "MEMBER": e.Member, "KIND": e.Kind, "SEVERITY": string(e.Severity),
		"TERM": strconv.FormatUint(uint64(e.Term), 10), "ABOUT": e.About, "BY": e.By,
	} {
		if value != "" {
			out["STANDFAST_"+name] = value
		}
	}
	if body, err := json.Marshal(e); err == nil {
		out["STANDFAST_JSON"] = string(body)
	}
	return out
}

func writeSyslog(e api.Event) error {
	w, err := syslog.New(syslog.Priority(priorities[e.Severity])|syslog.LOG_DAEMON, tag)
	if err != nil {
		return errors.New("this host has neither a journal nor a syslog (/dev/log)")
	}
	defer w.Close()
	_, err = w.Write([]byte(Syslog(e)))
	return err
}

// Syslog is an event on one line: what happened, then what a program reads, as key="value".
func Syslog(e api.Event) string {
	pairs := []string{"id", e.ID, "cluster", e.Cluster, "member", e.Member, "kind", e.Kind, "severity", string(e.Severity), "term", strconv.FormatUint(uint64(e.Term), 10), "about", e.About, "by", e.By}
	var b strings.Builder
	b.WriteString(strings.Join(strings.Fields(e.Text), " "))
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			fmt.Fprintf(&b, " %s=%q", pairs[i], pairs[i+1])
		}
	}
	return b.String()
}
