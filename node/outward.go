package node

import (
	"fmt"
	"time"

	"standfast/api"
	"standfast/config"
	"standfast/notify"
	"standfast/recovery"
)

// openOutward prepares what tells others outside the cluster of events. An agent that starts while there is no majority, which is when it
// matters, tells by the configuration that it knew last.
func (n *Node) openOutward() {
	n.outward = notify.New(notify.Config{Version: n.version, Log: n.log.With("part", "notify")})
	known, err := recovery.LoadKnown(n.cfg.StateDir)
	if err != nil || known.Cluster != n.cfg.Cluster {
		return // it waits for what is agreed
	}
	if c, err := config.ParseCluster("the configuration known last", []byte(known.Config)); err == nil {
		n.outward.Set(outwardOf(c.Notify))
	}
}

func outwardOf(c config.Notify) notify.Settings {
	return notify.Settings{
		Webhook: string(c.Webhook), Chat: string(c.Chat), Command: string(c.Command), Syslog: c.Syslog,
		AtLeast: api.Severity(c.AtLeast), Timeout: time.Duration(c.Timeout),
	}
}

// toldOutside is how those stand who are told, and a warning for each that can't be.
func (n *Node) toldOutside() (told []api.Told, warnings []string) {
	told = n.outward.Status()
	for _, t := range told {
		if !t.Failing.IsZero() {
			warnings = append(warnings, fmt.Sprintf("%s can't tell the %s (%s) of events since %s: %s; see notify.%[2]s in the agreed configuration", n.cfg.Name, t.To, t.Where, t.Failing.Format("2006-01-02 15:04:05"), t.Error))
		}
	}
	return told, warnings
}
