package node

import (
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"standfast/config"
)

// sightings are the floating addresses that another program, such as Keepalived, has put onto this host's interfaces. They are told and shown,
// and never touched.
type sightings struct {
	wanted []string
	list   func() ([]net.Addr, error)

	mu    sync.Mutex
	at    time.Time
	found []string
}

// sightPace is how old an answer may be: heartbeats want one ten times a second.
const sightPace = time.Second

func newSightings(all []config.VIP) *sightings {
	s := &sightings{list: net.InterfaceAddrs}
	for _, v := range all {
		s.wanted = append(s.wanted, netip.MustParseAddr(v.Address).String()) // the file has been validated
	}
	return s
}

// here are those that this host has. Of a nil *sightings there are none.
func (s *sightings) here(now time.Time) []string {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.at.IsZero() || now.Sub(s.at) >= sightPace {
		s.at, s.found = now, s.look()
	}
	return s.found
}

func (s *sightings) look() []string {
	have, err := s.list()
	if err != nil {
		return nil
	}
	var out []string
	for _, a := range have {
		if n, ok := a.(*net.IPNet); ok && slices.Contains(s.wanted, n.IP.String()) {
			out = append(out, n.IP.String())
		}
	}
	return out
}
