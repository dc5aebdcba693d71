package config

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/goccy/go-yaml"
)

// Notify says who is told of events outside the cluster; see docs/EVENTS.md.
type Notify struct {
	AtLeast string   `yaml:"at_least"` // severity: info, warning or critical
	Webhook Address  `yaml:"webhook"`  // each event is posted there as JSON; "": none
	Chat    Address  `yaml:"chat"`     // an incoming webhook of Mattermost, Slack or the like; "": none
	Command Text     `yaml:"command"`  // run by /bin/sh for each event; "": none
	Syslog  bool     `yaml:"syslog"`   // the journal, or the syslog of a host without
	Timeout Duration `yaml:"timeout"`  // of one attempt
}

// Address is a URL in which something may be secret: a password, or the path, as with the incoming webhooks of chats.
type Address string

// Masked is the address without what may be secret.
func (a Address) Masked() string {
	u, err := url.Parse(string(a))
	switch {
	case a == "":
		return ""
	case err != nil || u.Host == "":
		return "***"
	}
	return u.Scheme + "://" + u.Host + "/***"
}

func (n Notify) validate(p *problems) {
	p.oneOf("notify.at_least", n.AtLeast, "info", "warning", "critical")
	p.check(n.Timeout > 0, "notify.timeout", "must be more than 0; write 10s")
	p.check(!strings.ContainsAny(string(n.Command), "\n\r\x00"), "notify.command", "runs over several lines; write them into a script, and its path here")
	for _, a := range []struct {
		key     string
		address Address
		like    string
	}{{"notify.webhook", n.Webhook, "https://alerts.example.org/standfast"}, {"notify.chat", n.Chat, "https://chat.example.org/hooks/abc"}} {
		u, err := url.Parse(string(a.address)) // its error repeats the address
		ok := err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Hostname() != "" && !strings.ContainsAny(string(a.address), " \t\n\r")
		p.check(a.address == "" || ok, a.key, "can't be posted to; write an address such as %s", a.like)
		p.check(!ok || a.address != Address(a.address.Masked()), a.key, "is the address as it is shown, without what is secret in it; write the address itself")
	}
}

// Masked is the agreed configuration's text without what may be secret in the addresses of notify.
func Masked(text []byte) ([]byte, error) {
	var c struct { // and whatever else: it may be a newer version's
		Notify struct {
			Webhook Address `yaml:"webhook"`
			Chat    Address `yaml:"chat"`
		} `yaml:"notify"`
	}
	err := yaml.Unmarshal(text, &c)
	if err != nil {
		return nil, fmt.Errorf("hide secrets: %w", err)
	}
	for key, a := range map[string]Address{"notify.webhook": c.Notify.Webhook, "notify.chat": c.Notify.Chat} {
		if a == "" {
			continue
		}
		if text, err = set(text, Setting{key, a.Masked()}); err != nil {
			return nil, fmt.Errorf("hide secrets: %w", err)
		}
	}
	return text, nil
}
