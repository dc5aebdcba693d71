package render

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"standfast/config"
)

// PgBouncer writes pgbouncer.ini for a pooler in front of the writing port: at the floating address that follows the primary, else at all
// members', of which each leads there.
func PgBouncer(s Site) ([]byte, error) {
	v := struct {
		Cluster, Mark, Way, Hosts, Write, Read string
		Connect                                int // seconds
	}{Cluster: s.Cluster, Mark: Mark}
	var err error
	if v.Hosts, v.Write, v.Read, err = s.entrance(); err != nil {
		return nil, err
	}
	v.Way = "It connects to " + v.Hosts + ", where port " + v.Write + " leads to the primary."
	v.Connect = int(max(time.Duration(s.Router.Wait), time.Second)/time.Second) + 5 // a router may have it wait for a primary
	return fill(pgbouncerTemplate, v)
}

// entrance is where applications come in: hosts, separated by commas, and the ports there.
func (s Site) entrance() (hosts, write, read string, err error) {
	for _, a := range s.VIP {
		if a.Follows == "" || a.Follows == config.FollowsPrimary {
			return a.Address, fmt.Sprint(s.Ports.Write), fmt.Sprint(s.Ports.Read), nil
		}
	}
	var list []string
	for _, m := range s.data() {
		host, w := split(m.Write)
		_, r := split(m.Read)
		if write != "" && (w != write || r != read) {
			return "", "", "", fmt.Errorf("the members' ports differ (%s has %s and %s), and PgBouncer takes one port for all hosts; give them the same, or a floating address", m.Name, w, r)
		}
		list, write, read = append(list, host), w, r
	}
	if len(list) == 0 {
		return "", "", "", errors.New("no member has a PostgreSQL that PgBouncer could lead to")
	}
	return strings.Join(list, ","), write, read, nil
}
