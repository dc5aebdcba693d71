package mem_test

import (
	"errors"
	"testing"

	"go.uber.org/goleak"

	"standfast/store"
	"standfast/store/mem"
	"standfast/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConformance(t *testing.T) {
	shared := mem.New()
	var handles []*mem.Store
	storetest.Run(t, storetest.World{
		Open: func(testing.TB) store.Store {
			s := shared.Open()
			handles = append(handles, s)
			return s
		},
		Compact: func(testing.TB) { shared.Compact() },
		Freeze: func(testing.TB) func() {
			all := handles
			set := func(down bool) {
				for _, s := range all {
					s.SetDown(down)
				}
			}
			set(true)
			return func() { set(false) }
		},
	})
}

func TestLostAnswers(t *testing.T) {
	shared := mem.New()
	s, other := shared.Open(), shared.Open()
	defer s.Close()
	defer other.Close()
	for _, applied := range []bool{true, false} {
		s.LoseAnswers(1, applied)
		key := map[bool]string{true: "done", false: "not done"}[applied]
		if _, err := s.CompareAndPut(t.Context(), key, nil, 0); !errors.Is(err, mem.ErrAnswerLost) {
			t.Errorf("%s: %v, want ErrAnswerLost", key, err)
		}
		_, err := other.Get(t.Context(), key)
		if applied != (err == nil) {
			t.Errorf("%s: then get says %v", key, err)
		}
	}
	if _, err := s.Put(t.Context(), "next", nil); err != nil {
		t.Errorf("the write after it: %v", err)
	}
}

func TestDown(t *testing.T) {
	shared := mem.New()
	s, other := shared.Open(), shared.Open()
	defer s.Close()
	defer other.Close()
	c := s.Watch(t.Context(), "k")
	<-c
	s.SetDown(true)
	if _, err := s.Put(t.Context(), "k", nil); !errors.Is(err, mem.ErrUnreachable) {
		t.Errorf("put: %v, want ErrUnreachable", err)
	}
	if _, err := other.Put(t.Context(), "k", []byte("v")); err != nil {
		t.Errorf("the other handle: %v", err)
	}
	select {
	case u := <-c:
		t.Errorf("the watch of a handle that is down delivered %+v", u)
	default:
	}
	s.SetDown(false)
	if u := <-c; len(u.Events) != 1 || string(u.Events[0].KV.Value) != "v" {
		t.Errorf("after it came up: %+v", u)
	}
}
