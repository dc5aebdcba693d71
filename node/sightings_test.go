package node

import (
	"errors"
	"net"
	"slices"
	"testing"
	"time"

	"standfast/config"
)

func TestSightings(t *testing.T) {
	s := newSightings([]config.VIP{{Address: "10.0.0.50"}, {Address: "fd00:0::50"}})
	var have []net.Addr
	var fails error
	asked := 0
	s.list = func() ([]net.Addr, error) { asked++; return have, fails }
	at := func(text string) net.Addr { return &net.IPNet{IP: net.ParseIP(text), Mask: net.CIDRMask(24, 32)} }
	now := time.Unix(1, 0)
	expect := func(want ...string) {
		t.Helper()
		if got := s.here(now); !slices.Equal(got, want) {
			t.Errorf("here: %v, want %v", got, want)
		}
	}
	have = []net.Addr{at("10.0.0.11"), at("10.0.0.50")}
	expect("10.0.0.50")
	have = []net.Addr{at("10.0.0.11"), at("fd00::50")}
	expect("10.0.0.50") // as it was a moment ago
	now = now.Add(sightPace)
	expect("fd00::50")
	now, fails = now.Add(sightPace), errors.New("no netlink")
	expect()
	if asked != 3 {
		t.Errorf("interfaces were listed %d times", asked)
	}
	if (*sightings)(nil).here(now) != nil {
		t.Error("without other programs something is seen")
	}
}
