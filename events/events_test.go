package events

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"standfast/api"
	"standfast/cluster"
	"standfast/store"
	"standfast/store/mem"
)

func seen(change func(*Seen)) Seen {
	s := Seen{
		Self: "pg2", Speaker: true, Members: []string{"pg1", "pg2", "pg3"}, Silent: map[string]time.Duration{}, Running: true, Up: true, Standby: true,
		State: &cluster.State{Term: 4, Phase: cluster.Reigning, Primary: "pg1", Last: "pg1", By: "pg3", Rule: cluster.NewRule(1, "pg2", "pg3")},
	}
	change(&s)
	return s
}

func same0(*Seen) {}

// TestBetween is one change after the other: what is told of it, and by whom.
func TestBetween(t *testing.T) {
	reigns := func(s *Seen) { st := *s.State; st.Primary, st.By = "pg2", "pg2"; s.State = &st; s.Standby = false }
	for name, c := range map[string]struct {
		before, after func(*Seen)
		want          []string // kind, severity and a part of the text
	}{
		"nothing": {same0, same0, nil},
		"its own election": {same0, func(s *Seen) {
			s.State = &cluster.State{Term: 5, Phase: cluster.Electing, By: "pg2", Last: "pg1", Reason: "pg1 was not heard from", Rule: s.State.Rule}
		}, []string{"election warning term 5 begins: pg1 was not heard from"}},
		"another's election": {same0, func(s *Seen) {
			s.State = &cluster.State{Term: 5, Phase: cluster.Electing, By: "pg3", Reason: "pg1 was not heard from", Rule: s.State.Rule}
		}, nil},
		"the rule":                 {reigns, func(s *Seen) { reigns(s); s.State.Rule = cluster.NewRule(1, "pg3") }, []string{"rule info on the primary and pg3 now; before, on the primary and 1 of pg2, pg3"}},
		"a lesser rule":            {reigns, func(s *Seen) { reigns(s); s.State.Rule = cluster.NewRule(0) }, []string{"rule warning on the primary alone now"}},
		"another's rule":           {same0, func(s *Seen) { st := *s.State; st.Rule = cluster.NewRule(1, "pg3"); s.State = &st }, nil},
		"the rule of a new term":   {reigns, func(s *Seen) { reigns(s); s.State.Term, s.State.Rule = 5, cluster.NewRule(1, "pg3") }, nil},
		"silence":                  {same0, func(s *Seen) { s.Silent["pg3"] = 2 * time.Second }, []string{"silent warning pg3 is not heard any more"}},
		"silence, told by another": {same0, func(s *Seen) { s.Silent["pg3"] = 2 * time.Second; s.Speaker = false }, nil},
		"heard again":              {func(s *Seen) { s.Silent["pg3"] = 12 * time.Second }, same0, []string{"heard info pg3 is heard again, after 12s"}},
		"a new member":             {func(s *Seen) { s.Members = []string{"pg1", "pg2"} }, func(s *Seen) { s.Silent["pg3"] = -1 }, nil},
		"PostgreSQL dies":          {same0, func(s *Seen) { s.Running, s.Up = false, false }, []string{"postgres warning PostgreSQL on pg2 has ended"}},
		"it is stopped":            {func(s *Seen) { s.Doing = "stop: asked" }, func(s *Seen) { s.Running, s.Up = false, false }, []string{"postgres info PostgreSQL on pg2 has ended"}},
		"it answers":               {func(s *Seen) { s.Up = false }, same0, []string{"postgres info answers, as a standby"}},
		"it stalls":                {same0, func(s *Seen) { s.Stalled = "its writes hang" }, []string{"postgres warning its writes hang"}},
		"a clone begins":           {same0, func(s *Seen) { s.Doing = "clone from pg1" }, []string{"work info pg2 begins: clone from pg1"}},
		"it ends":                  {func(s *Seen) { s.Doing = "clone from pg1" }, same0, []string{"work info pg2 is done: clone from pg1"}},
		"it fails":                 {func(s *Seen) { s.Doing = "clone from pg1" }, func(s *Seen) { s.Failed = "clone: no space left" }, []string{"work warning pg2 could not clone: no space left"}},
		"a start after a clone":    {func(s *Seen) { s.Doing = "clone from pg1" }, func(s *Seen) { s.Doing = "start as standby" }, []string{"work info pg2 is done: clone from pg1"}},
		"the first rule":           {func(s *Seen) { reigns(s); s.State.Rule = cluster.NewRule(1) }, reigns, []string{"rule info before, on the primary and a standby, of which there is none yet"}},
		"a start":                  {same0, func(s *Seen) { s.Doing = "start as standby" }, nil},
		"an address moves":         {func(s *Seen) { s.Addresses = []string{"10.0.0.10"} }, func(s *Seen) { s.Addresses = []string{"10.0.0.9"} }, []string{"address info 10.0.0.9 is on pg2 now", "address info 10.0.0.10 was taken off pg2"}},
		"sessions are cut":         {func(s *Seen) { s.Cut = 3 }, func(s *Seen) { s.Cut = 4 }, []string{"sessions info cut 1 session:"}},
	} {
		before := seen(c.before)
		got := Between(&before, seen(c.after))
		if len(got) != len(c.want) {
			t.Errorf("%s: got %+v, want %v", name, got, c.want)
			continue
		}
		for i, e := range got {
			kind, rest, _ := strings.Cut(c.want[i], " ")
			severity, text, _ := strings.Cut(rest, " ")
			if e.Kind != kind || string(e.Severity) != severity || !strings.Contains(e.Text, text) || e.Term == 0 || !slices.Contains(Kinds, e.Kind) {
				t.Errorf("%s: got %+v, want %s", name, e, c.want[i])
			}
		}
	}
	if got := Between(nil, seen(same0)); got != nil {
		t.Errorf("at the first look: %v", got)
	}
}

// TestWarned: a warning is told of once it has lasted, whatever its numbers do, and its end once it has not come back.
func TestWarned(t *testing.T) {
	var w Warned
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var got []string
	for i, text := range []string{
		"", "the clock of pg1 is 6s ahead", "the clock of pg1 is 7s ahead", "the clock of pg1 is 1m1s ahead", "the clock of pg1 is 6s ahead", "", "the clock of pg1 is 9s ahead", "",
		"", "", "", "", "no writes: electing", "", "", "", "",
	} {
		var texts []string
		if text != "" {
			texts = []string{text}
		}
		for _, e := range w.Look(start.Add(time.Duration(i)*time.Second), texts) {
			got = append(got, e.Kind+" "+e.Text+" "+e.Facts["lasted"])
		}
		if i == 4 && len(got) != 1 {
			t.Errorf("after it has lasted: %q", got)
		}
	}
	if want := []string{"warning the clock of pg1 is 6s ahead ", "cleared no longer: the clock of pg1 is 9s ahead 5s"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if same("pg1 is late by 5s") == same("pg2 is late by 5s") {
		t.Error("two members are one")
	}
}

// TestBook: numbers go on when old events are dropped, a changed one comes again, an unchanged one does not.
func TestBook(t *testing.T) {
	var b Book
	_, n, more := b.After(0)
	b.Add(api.Event{ID: "a", At: time.UnixMilli(1)}, api.Event{ID: "b", At: time.UnixMilli(2)})
	select {
	case <-more:
	default:
		t.Error("nobody was woken")
	}
	es, n, more := b.After(n)
	b.Add(api.Event{ID: "a", At: time.UnixMilli(1).UTC(), Facts: map[string]string{}})
	select {
	case <-more:
		t.Error("woken by what was there")
	default:
	}
	b.Add(api.Event{ID: "b", At: time.UnixMilli(2), Text: "more"})
	again, m, _ := b.After(n)
	if len(es) != 2 || n != 2 || len(again) != 1 || again[0].Text != "more" || m != 3 {
		t.Errorf("%v %d, then %v %d", es, n, again, m)
	}
	for i := range 2 * kept {
		b.Add(api.Event{ID: time.Duration(i).String()})
	}
	if all, _, _ := b.After(0); len(all) != kept {
		t.Errorf("%d are kept", len(all))
	}
	if late, _, _ := b.After(uint64(2*kept + 1)); len(late) != 2 {
		t.Errorf("the last two: %v", late)
	}
	if fromEarlierLife, _, _ := b.After(1 << 40); len(fromEarlierLife) != kept {
		t.Errorf("a number that was never given: %d events", len(fromEarlierLife))
	}
}

// TestKeeper: events go to the store while it answers, wait while it doesn't, reach the other members, and each is told outside once.
func TestKeeper(t *testing.T) {
	shared := mem.New()
	s1, s2 := shared.Open(), shared.Open()
	defer s1.Close()
	defer s2.Close()
	var told []string
	book1, book2 := &Book{}, &Book{}
	quiet := slog.New(slog.DiscardHandler)
	k1 := NewKeeper(Config{Cluster: "main", Self: "pg1", Store: store.New(s1, "main"), Book: book1, Log: quiet, Busy: func() bool { return false }, Told: func(e api.Event) { told = append(told, e.Text) }})
	k2 := NewKeeper(Config{Cluster: "main", Self: "pg2", Store: store.New(s2, "main"), Book: book2, Log: quiet, Busy: func() bool { return false }})
	for range 3 {
		k1.Record(api.Event{Kind: Work, Text: "same moment", At: time.UnixMilli(1000)})
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 2)
	go func() { done <- k1.Run(ctx) }()
	go func() { done <- k2.Run(ctx) }()
	has := func(b *Book, n int) {
		t.Helper()
		for seq, count := uint64(0), 0; count < n; {
			es, newest, more := b.After(seq)
			seq, count = newest, count+len(es)
			if count >= n {
				return
			}
			select {
			case <-more:
			case <-time.After(20 * time.Second):
				t.Fatalf("%d events after 20 s, want %d", count, n)
			}
		}
	}
	has(book2, 3)
	if err := store.New(s2, "main").PutHistory(ctx, store.Entry{Term: 1, Primary: "pg1", Reason: "founded", At: time.Now().UnixMilli()}); err != nil {
		t.Fatal(err)
	}
	has(book1, 4)
	has(book2, 4)
	cancel()
	<-done
	<-done
	if want := []string{"same moment", "same moment", "same moment", "pg1 is the primary of term 1: founded"}; !slices.Equal(told, want) {
		t.Errorf("told %q, want %q", told, want)
	}
}
