package etcd_test

import (
	"crypto/tls"
	"errors"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"standfast/store"
	"standfast/store/etcd"
	"standfast/store/storetest"
)

func TestMain(m *testing.M) { storetest.Main(m) }

// TestConformanceChild: our own etcd as a child process, with mutual TLS.
func TestConformanceChild(t *testing.T) {
	e := storetest.Start(t, 1)
	storetest.Run(t, world(t, e.TLS, func() func() { return e.Nodes[0].Freeze(t) }, e.Endpoints()...))
}

// TestConformanceThree: three of them, where freezing takes two.
func TestConformanceThree(t *testing.T) {
	e := storetest.Start(t, 3)
	freeze := func() func() {
		a, b := e.Nodes[0].Freeze(t), e.Nodes[1].Freeze(t)
		return func() { a(); b(); e.WaitReady() }
	}
	storetest.Run(t, world(t, e.TLS, freeze, e.Endpoints()...))
}

// TestConformanceDebian: the distribution's etcd (3.4 in Debian 12), without TLS.
func TestConformanceDebian(t *testing.T) {
	url, freeze := storetest.StartDebian(t)
	storetest.Run(t, world(t, nil, freeze, url))
}

func world(t *testing.T, tls *tls.Config, freeze func() func(), endpoints ...string) storetest.World {
	return storetest.World{
		Open: func(t testing.TB) store.Store {
			s, err := etcd.Open(etcd.Config{Endpoints: endpoints, TLS: tls})
			if err != nil {
				t.Fatal(err)
			}
			return s
		},
		Compact: func(t testing.TB) {
			c := dial(t, tls, endpoints[len(endpoints)-1])
			r, err := c.Get(t.Context(), "/", clientv3.WithCountOnly())
			if err != nil {
				t.Fatal(err)
			}
			_, err = c.Compact(t.Context(), r.Header.Revision)
			if err != nil && !errors.Is(err, rpctypes.ErrCompacted) {
				t.Fatal(err)
			}
		},
		Freeze: func(testing.TB) func() { return freeze() },
	}
}

func dial(t testing.TB, tls *tls.Config, endpoint string) *clientv3.Client {
	t.Helper()
	c, err := etcd.Dial(tls, endpoint)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}
