package render

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"standfast/config"
)

// server is a member as HAProxy knows it.
type server struct {
	Name, Postgres string
	Port           string // that the check asks, at the same address
}

// HAProxy writes haproxy.cfg for the named member's host; "": for a host that is no member. The ports mean what they mean at the routers:
// the first leads to the primary, the second to the standbys.
func HAProxy(s Site, self string) ([]byte, error) {
	v := struct {
		Cluster, Mark, Self, Write, Read, Limits, Lag string
		Six                                           bool
		Wait                                          time.Duration
		Servers                                       []server
	}{Cluster: s.Cluster, Mark: Mark, Self: self, Write: strconv.Itoa(s.Ports.Write), Read: strconv.Itoa(s.Ports.Read)}
	if self != "" {
		m, err := s.member(self)
		if err != nil {
			return nil, err
		}
		_, v.Write = split(m.Write)
		_, v.Read = split(m.Read)
	}
	for _, m := range s.data() {
		host, port := split(m.API)
		v.Servers = append(v.Servers, server{m.Name, m.Postgres, port})
		v.Six = v.Six || six(host)
	}
	if len(v.Servers) == 0 {
		return nil, errors.New("no member has a PostgreSQL that HAProxy could lead to")
	}
	for _, a := range s.VIP {
		v.Six = v.Six || six(a.Address)
	}
	v.Wait = max(time.Duration(s.Router.Wait), time.Second)
	if n := s.Router.ReadMaxLagBytes; n > 0 {
		v.Lag = fmt.Sprintf("?lag=%d", int64(n))
	}
	v.Limits = limits(s.Router)
	return fill(haproxyTemplate, v)
}

func limits(r config.Router) string {
	if r.MaxSessions == 0 {
		return "" // PostgreSQL's max_connections decides
	}
	out := []string{"", "maxconn", strconv.Itoa(r.MaxSessions)}
	if r.MaxWaiting > 0 {
		out = append(out, "maxqueue", strconv.Itoa(r.MaxWaiting))
	}
	return strings.Join(out, " ")
}
