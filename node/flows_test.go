package node

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"standfast/beat"
	"standfast/vip"
)

var floatingIP = netip.MustParseAddr("10.0.0.50")

func flow(client int) vip.Flow {
	return vip.Flow{Local: netip.AddrPortFrom(floatingIP, 5000), Remote: netip.AddrPortFrom(netip.MustParseAddr("10.0.1.1"), uint16(client))}
}

// TestFlowsOnTheWire: whatever is encoded comes back, within the size, and rubbish harms nobody.
func TestFlowsOnTheWire(t *testing.T) {
	end := rapid.Custom(func(t *rapid.T) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "address"))), rapid.Uint16().Draw(t, "port"))
	})
	end6 := rapid.Custom(func(t *rapid.T) netip.AddrPort {
		b := [16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "address"))
		b[0] = 0x20 // an IPv4 address that is mapped is none of either kind
		return netip.AddrPortFrom(netip.AddrFrom16(b), rapid.Uint16().Draw(t, "port"))
	})
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) vip.Flow {
			if rapid.Bool().Draw(t, "six") {
				return vip.Flow{Local: end6.Draw(t, "local"), Remote: end6.Draw(t, "remote")}
			}
			return vip.Flow{Local: end.Draw(t, "local"), Remote: end.Draw(t, "remote")}
		}), 0, 200).Draw(t, "flows")
		var got []vip.Flow
		for _, body := range encodeFlows(want, beat.MaxAside) {
			if len(body) > beat.MaxAside {
				t.Fatalf("a body of %d bytes", len(body))
			}
			got = slices.AppendSeq(got, decodeFlows(body))
		}
		if !slices.Equal(got, want) {
			t.Fatalf("got %v, want %v", got, want)
		}
		for range decodeFlows(rapid.SliceOf(rapid.Byte()).Draw(t, "rubbish")) {
		}
	})
}

// members are flows that hear each other.
func members(n int) []*flows {
	out := make([]*flows, n)
	for i := range out {
		tell := func(body []byte) error {
			for j, other := range out {
				if j != i {
					other.hear(fmt.Sprint(i), body)
				}
			}
			return nil
		}
		out[i] = newFlows([]vip.Address{{IP: floatingIP}}, func() []netip.Addr { return nil }, tell, slog.New(slog.DiscardHandler))
		out[i].wake = func([]vip.Flow) error { return nil }
		out[i].list = func([]netip.Addr, int) ([]vip.Flow, error) { return nil, nil }
	}
	return out
}

// TestFlowsAreTickled: who takes the address lets those clients know whom the last holder had in its last seconds, however long ago
// that was, and not who had left before.
func TestFlowsAreTickled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := members(2)
		a, b := m[0], m[1]
		var open atomic.Pointer[[]vip.Flow]
		open.Store(&[]vip.Flow{flow(1), flow(2)})
		a.held = func() []netip.Addr { return []netip.Addr{floatingIP} }
		a.list = func([]netip.Addr, int) ([]vip.Flow, error) { return *open.Load(), nil }
		var tickled [][]vip.Flow
		b.wake = func(clients []vip.Flow) error { tickled = append(tickled, clients); return nil }
		actx, off := context.WithCancel(t.Context())
		bctx, end := context.WithCancel(t.Context())
		go a.run(actx)
		ended := make(chan struct{})
		go func() { b.run(bctx); close(ended) }()
		time.Sleep(3 * time.Second)
		want := []vip.Flow{flow(2), flow(3)}
		open.Store(&want)
		time.Sleep(10 * time.Second)
		off() // without a word
		time.Sleep(time.Minute)
		b.took(floatingIP)
		time.Sleep(10 * time.Second)
		end()
		<-ended
		if len(tickled) != len(tickles) {
			t.Fatalf("let know %d times, want %d", len(tickled), len(tickles))
		}
		slices.SortFunc(tickled[0], func(x, y vip.Flow) int { return x.Remote.Compare(y.Remote) })
		if !slices.Equal(tickled[0], want) {
			t.Errorf("let know %v, want %v", tickled[0], want)
		}
		if again := b.take(floatingIP, true); len(again) > 0 {
			t.Errorf("would let them know once more: %v", again)
		}
	})
}

// TestFlowsOfTheLastMoment: those that the last holder has got since it told of them last are told of as it gives the address up,
// which may be heard after the next holder has it. The next holder's own are left alone.
func TestFlowsOfTheLastMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := members(2)
		a, b := m[0], m[1]
		a.list = func(of []netip.Addr, _ int) ([]vip.Flow, error) {
			if !slices.Equal(of, []netip.Addr{floatingIP}) {
				t.Errorf("asked for those of %v", of)
			}
			return []vip.Flow{flow(7)}, nil
		}
		var last []vip.Flow
		b.wake = func(clients []vip.Flow) error { last = slices.Clone(clients); return nil }
		var holds atomic.Bool
		b.held = func() []netip.Addr {
			if holds.Load() {
				return []netip.Addr{floatingIP}
			}
			return nil
		}
		b.list = func([]netip.Addr, int) ([]vip.Flow, error) { return []vip.Flow{flow(8)}, nil }
		ctx, end := context.WithCancel(t.Context())
		var g sync.WaitGroup
		g.Go(func() { a.run(ctx) })
		g.Go(func() { b.run(ctx) })
		time.Sleep(10500 * time.Millisecond)
		b.took(floatingIP)
		time.Sleep(50 * time.Millisecond)
		a.left(floatingIP)
		holds.Store(true)
		time.Sleep(10 * time.Second)
		end()
		g.Wait()
		if want := []vip.Flow{flow(7)}; !slices.Equal(last, want) {
			t.Errorf("let know %v, want %v", last, want)
		}
	})
}

// TestFlowsAreBounded: however many there are, and whatever for, not more than a bound are remembered.
func TestFlowsAreBounded(t *testing.T) {
	synctest.Test(t, testFlowsAreBounded)
}

func testFlowsAreBounded(t *testing.T) {
	b := members(1)[0]
	var many []vip.Flow
	for i := range 4 * mostFlows {
		many = append(many, flow(i+1))
	}
	stranger := vip.Flow{Local: netip.MustParseAddrPort("10.0.0.51:5000"), Remote: flow(1).Remote}
	for _, body := range encodeFlows(append(many, stranger), beat.MaxAside) {
		b.hear("a", body)
	}
	if len(b.known) != 1 {
		t.Errorf("%d addresses are remembered, 1 is the cluster's", len(b.known))
	}
	if n := len(b.take(floatingIP, true)); n != 2*mostFlows {
		t.Errorf("%d connections are remembered, want %d", n, 2*mostFlows)
	}
}

// FuzzFlows: whatever another member says of connections can be read or left, and what was read can be said again.
func FuzzFlows(f *testing.F) {
	for _, body := range encodeFlows([]vip.Flow{
		{Local: netip.MustParseAddrPort("10.0.0.9:5000"), Remote: netip.MustParseAddrPort("10.0.0.1:40000")},
		{Local: netip.MustParseAddrPort("[fd00::9]:5000"), Remote: netip.MustParseAddrPort("[fd00::1]:40000")},
	}, beat.MaxAside) {
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		read := slices.Collect(decodeFlows(body))
		var again []vip.Flow
		for _, b := range encodeFlows(read, beat.MaxAside) {
			again = slices.AppendSeq(again, decodeFlows(b))
		}
		if !slices.Equal(read, again) {
			t.Fatalf("%x: %v becomes %v", body, read, again)
		}
	})
}
