package etcd_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"standfast/store/etcd"
	"standfast/store/storetest"
)

// TestCloseLeavesNothing: after Close no goroutine is left, also when a member was frozen under requests and watches.
func TestCloseLeavesNothing(t *testing.T) {
	e := storetest.Start(t, 3)
	before := goleak.IgnoreCurrent()
	s, err := etcd.Open(etcd.Config{Endpoints: e.Endpoints(), TLS: e.TLS})
	if err != nil {
		t.Fatal(err)
	}
	updates := s.Watch(t.Context(), "/standfast/")
	<-updates
	thaw := e.Nodes[0].Freeze(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_ = s.Check(ctx) // whatever it finds: what it started is the question
	_, _ = s.Put(ctx, "/standfast/k", nil)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	for range updates {
	}
	goleak.VerifyNone(t, before)
	thaw()
}

func TestOpenNeedsEndpoints(t *testing.T) {
	if _, err := etcd.Open(etcd.Config{}); err == nil {
		t.Error("opened without endpoints")
	}
}

// TestUnreachable: an etcd that is not there is told as what it is, by the deadline.
func TestUnreachable(t *testing.T) {
	s, err := etcd.Open(etcd.Config{Endpoints: []string{"127.0.0.1:1"}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond)
	defer cancel()
	if err := s.Check(ctx); err == nil || !strings.Contains(err.Error(), "connection refused") || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("check: %v, want the deadline and what stood in the way", err)
	}
	if _, err := s.Put(ctx, "k", nil); err == nil {
		t.Error("written to nowhere")
	}
}
