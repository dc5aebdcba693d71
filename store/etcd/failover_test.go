package etcd_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"

	"standfast/store"
	"standfast/store/embed"
	"standfast/store/etcd"
	"standfast/store/storetest"
)

// budget tells a call that moved on (it costs 150 to 300 ms, as the log shows) from one that waited for the frozen member,
// which would be ten seconds, also on a machine that is busy.
const budget = 3 * time.Second

// TestFrozenLocal: the first request pays up to 300 ms, those after it nothing; when the member answers again it is
// used again. The leader is elsewhere, as it is on the host of the primary.
func TestFrozenLocal(t *testing.T) {
	_, s, local := three(t)
	thaw := local.Freeze(t)
	took(t, "the first read", budget, func(ctx context.Context) error { return s.Check(ctx) })
	took(t, "the next read", budget, func(ctx context.Context) error { return s.Check(ctx) })
	took(t, "a write", budget, func(ctx context.Context) error {
		_, err := s.Put(ctx, "/standfast/k", nil)
		return err
	})
	thaw()
	eventually(t, "the local member is used again", func() bool { return s.Prefers() == local.ClientURL })
}

// TestFrozenLocalCompareAndPut: a comparison with a revision is repeated at another member, and succeeds in time.
func TestFrozenLocalCompareAndPut(t *testing.T) {
	_, s, local := three(t)
	rev, err := s.Put(t.Context(), "/standfast/k", []byte("old"))
	if err != nil {
		t.Fatal(err)
	}
	thaw := local.Freeze(t)
	took(t, "compare and put", budget, func(ctx context.Context) error {
		rev, err = s.CompareAndPut(ctx, "/standfast/k", []byte("new"), rev)
		return err
	})
	thaw() // now the first copy is carried out, and must fail
	if err := s.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	kv, err := s.Get(t.Context(), "/standfast/k")
	if err != nil || kv.Revision != rev || string(kv.Value) != "new" {
		t.Errorf("after the local member came back: %+v, %v, want revision %d", kv, err, rev)
	}
}

// TestFrozenLocalPut: what can't be repeated is given up as unknown within the same time, and works elsewhere.
func TestFrozenLocalPut(t *testing.T) {
	_, s, local := three(t)
	local.Freeze(t)
	started := time.Now()
	_, err := s.Put(t.Context(), "/standfast/k", nil)
	if d := time.Since(started); err == nil || errors.Is(err, store.ErrConflict) || d > budget {
		t.Errorf("put at a frozen member: %v after %s, want an unknown outcome within %s", err, d, budget)
	}
	took(t, "the next put", budget, func(ctx context.Context) error {
		_, err := s.Put(ctx, "/standfast/k", nil)
		return err
	})
}

// TestFrozenRemote: while the local member works and the leader is not the frozen one, nothing is slower.
func TestFrozenRemote(t *testing.T) {
	e, s, local := three(t)
	leader, err := e.Admin().Leader(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range e.Nodes {
		if n != local && n.Name != leader {
			n.Freeze(t)
		}
	}
	var all []time.Duration
	for range 21 {
		all = append(all, took(t, "a write and a check", budget, func(ctx context.Context) error {
			_, err := s.Put(ctx, "/standfast/k", nil)
			return errors.Join(err, s.Check(ctx))
		}))
	}
	slices.Sort(all)
	if median := all[len(all)/2]; median > 140*time.Millisecond { // a client that takes turns would hang or wait for 150 ms
		t.Errorf("the median is %s", median)
	}
}

// TestDeadLocal: a member whose process is gone costs nothing, and is used again after it was started again.
func TestDeadLocal(t *testing.T) {
	_, s, local := three(t)
	pid := local.Child.Pid()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	took(t, "a read", budget, s.Check)
	eventually(t, "the local member is used again", func() bool {
		return local.Child.Pid() != pid && s.Check(t.Context()) == nil && s.Prefers() == local.ClientURL
	})
}

// TestWatchMoves: the watch of a client whose local member is frozen still brings what others write, at once; and so does
// one whose members all restart, one after the other.
func TestWatchMoves(t *testing.T) {
	e, s, local := three(t)
	other := open(t, e, e.Nodes[2].ClientURL, e.Nodes[1].ClientURL)
	c := s.Watch(t.Context(), "/standfast/w/")
	<-c
	arrives := func(value string, within time.Duration) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		for started := time.Now(); ; {
			if _, err := other.Put(ctx, "/standfast/w/k", []byte(value)); err == nil {
				break
			} else if time.Since(started) > 10*time.Second {
				t.Fatal(err)
			}
		}
		started := time.Now()
		for {
			select {
			case u := <-c:
				if n := len(u.Events); n > 0 && string(u.Events[n-1].KV.Value) == value {
					d := time.Since(started)
					t.Logf("%s: arrived %s after it was written", value, d)
					if d > within {
						t.Errorf("%s arrived %s after it was written, want %s", value, d, within)
					}
					return
				}
			case <-ctx.Done():
				t.Fatalf("%s never arrived", value)
			}
		}
	}
	arrives("all well", budget)
	thaw := local.Freeze(t)
	arrives("local frozen", budget)
	thaw()
	for i, n := range e.Nodes {
		pid := n.Child.Pid()
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		eventually(t, "it was started again", func() bool { return n.Child.Pid() != 0 && n.Child.Pid() != pid })
		e.WaitReady()
		arrives(fmt.Sprint("after restart ", i), budget)
	}
}

// TestAnotherCluster: etcd made anew under the same address begins with low revisions; a watch that waited for the old ones
// must notice, also when the new one has the old one's id, which is made of names, addresses and token alone.
func TestAnotherCluster(t *testing.T) {
	for name, token := range map[string]string{"another id": "another", "the same id": ""} {
		t.Run(name, func(t *testing.T) {
			e := storetest.Start(t, 1)
			n := e.Nodes[0]
			s := open(t, e, n.ClientURL)
			c := s.Watch(t.Context(), "/standfast/w/")
			<-c
			for i := range 20 {
				if _, err := s.Put(t.Context(), "/standfast/w/k", fmt.Append(nil, i)); err != nil {
					t.Fatal(err)
				}
				<-c
			}
			n.Child.Stop()
			n.DataDir += "-new"
			if token != "" {
				n.Token = token
			}
			e.Run(n, embed.StateNew, n.InitialCluster)
			e.WaitReady()
			// An attempt to connect that began while there was nobody may still be the one that answers.
			eventually(t, "the new etcd takes a value", func() bool {
				_, err := s.Put(t.Context(), "/standfast/w/fresh", nil)
				return err == nil
			})
			for u := range c {
				if u.Full && u.Anew && len(u.Reset) == 1 && u.Reset[0].Key == "/standfast/w/fresh" {
					return
				}
			}
			t.Error("the watch ended")
		})
	}
}

// three starts three members, with the local one, the first, not being the leader.
func three(t *testing.T) (*storetest.Etcd, *etcd.Store, *storetest.Node) {
	t.Helper()
	e := storetest.Start(t, 3)
	a := e.Admin()
	eventually(t, "another member leads", func() bool {
		_, err := a.MoveLeaderAway(t.Context(), "n1")
		return err == nil
	})
	s := open(t, e, e.Endpoints()...)
	// Connected to all of them.
	c := s.Watch(t.Context(), "/standfast/w/")
	<-c
	eventually(t, "the local member is used", func() bool { return s.Check(t.Context()) == nil && s.Prefers() == e.Nodes[0].ClientURL })
	return e, s, e.Nodes[0]
}

func open(t *testing.T, e *storetest.Etcd, endpoints ...string) *etcd.Store {
	t.Helper()
	s, err := etcd.Open(etcd.Config{Endpoints: endpoints, TLS: e.TLS})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func took(t *testing.T, what string, limit time.Duration, f func(context.Context) error) time.Duration {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	started := time.Now()
	err := f(ctx)
	d := time.Since(started)
	t.Logf("%s: %s", what, d.Round(time.Millisecond/10))
	if err != nil || d > limit {
		t.Errorf("%s: %v after %s, want it within %s", what, err, d, limit)
	}
	return d
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); <-time.After(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within a minute: %s", what)
		}
	}
}
