package router

import (
	"io"
	"slices"
	"testing"

	"standfast/cluster"
)

// cancel sends a CancelRequest and waits until the router says by closing that it is done.
func (g *rig) cancel(side Side, secret uint32) {
	g.t.Helper()
	c := g.dial(side)
	g.write(c, cancelRequest(42, secret))
	if got, err := io.ReadAll(c); len(got) > 0 || err != nil {
		g.t.Fatalf("after a cancel request: got %q, %v", got, err)
	}
}

func (s *fakeServer) got(secret uint32) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Contains(s.cancels, secret)
}

func TestCancelReachesTheServerOfItsSessionOnly(t *testing.T) {
	pg2, pg3 := newFake(t, "pg2"), newFake(t, "pg3")
	g := newRig(t, Config{}, pg2, pg3)
	g.to("", "pg2", "pg3")
	a, b := g.login(ReadSide), g.login(ReadSide)
	a.ready()
	b.ready()
	g.cancel(ReadSide, pg3.secret)
	if pg2.got(pg3.secret) || !pg3.got(pg3.secret) {
		t.Errorf("pg2 got it: %v, pg3 got it: %v", pg2.got(pg3.secret), pg3.got(pg3.secret))
	}
	if st := g.Stats(); st.Cancels != 1 {
		t.Errorf("cancels %d", st.Cancels)
	}
}

func TestCancelWithAnUnknownKey(t *testing.T) {
	pg1, pg2, pg3 := newFake(t, "pg1"), newFake(t, "pg2"), newFake(t, "pg3")
	g := newRig(t, Config{}, pg1, pg2, pg3)
	g.to("pg1", "pg2", "pg3")
	g.cancel(WriteSide, 7)
	if !pg1.got(7) || pg2.got(7) || pg3.got(7) {
		t.Error("on the writing side it belongs to the primary alone")
	}
	g.cancel(ReadSide, 8)
	if pg1.got(8) || !pg2.got(8) || !pg3.got(8) {
		t.Error("on the reading side it belongs to every standby")
	}
	g.to("pg1")
	g.cancel(ReadSide, 9)
	if !pg1.got(9) || pg2.got(9) || pg3.got(9) {
		t.Error("without standbys it belongs to the primary")
	}
	g.route(cluster.Route{Term: 1, Hold: true})
	g.cancel(WriteSide, 10) // nowhere to go: closed
}

// libpq since 17 asks for TLS before a CancelRequest too; turned down it sends it in plaintext on that connection.
func TestCancelAfterTLSWasTurnedDown(t *testing.T) {
	pg2, pg3 := newFake(t, "pg2"), newFake(t, "pg3")
	g := newRig(t, Config{}, pg2, pg3)
	g.to("", "pg2", "pg3")
	for range 2 {
		g.login(ReadSide).ready()
	}
	for _, secret := range []uint32{pg2.secret, pg3.secret} {
		c := g.dial(ReadSide)
		g.write(c, sslRequest())
		answer := make([]byte, 1)
		if _, err := io.ReadFull(c, answer); err != nil || answer[0] != 'N' {
			t.Fatalf("answer %q, %v", answer, err)
		}
		g.write(c, cancelRequest(42, secret))
		if _, err := io.ReadAll(c); err != nil {
			t.Fatal(err)
		}
	}
	if pg2.got(pg3.secret) || pg3.got(pg2.secret) || !pg2.got(pg2.secret) || !pg3.got(pg3.secret) {
		t.Errorf("pg2 (%d) got %v, pg3 (%d) got %v", pg2.secret, pg2.cancels, pg3.secret, pg3.cancels)
	}
}
