package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"standfast/agent"
	"standfast/api"
	"standfast/cluster"
	"standfast/decide"
	"standfast/postgres"
	"standfast/store"
)

// heard collects what an operation tells.
type heard struct{ steps []api.Progress }

func (h *heard) progress(p api.Progress) { h.steps = append(h.steps, p) }

func (h *heard) said(text string) bool {
	for _, p := range h.steps {
		if strings.Contains(p.Text, text) {
			return true
		}
	}
	return false
}

// see has the node see the view, as the agent's loop would.
func see(n *Node, v cluster.View) {
	n.view.Store(&v)
	n.viewChanged.broadcast()
}

func kindOf(err error) api.Kind {
	var e *api.Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return ""
}

// TestRefusals: what can't be done is refused before anything is recorded, in words that name the thing.
func TestRefusals(t *testing.T) {
	same := func(*cluster.View) {}
	switchover := func(r api.SwitchoverRequest) func(*Node, func(api.Progress)) error {
		return func(n *Node, p func(api.Progress)) error { return n.Switchover(context.Background(), r, p) }
	}
	for name, c := range map[string]struct {
		view func(*cluster.View)
		do   func(*Node, func(api.Progress)) error
		kind api.Kind
		want string
	}{
		"no state":        {func(v *cluster.View) { v.State = nil }, switchover(api.SwitchoverRequest{}), api.Unavailable, "majority"},
		"another leader":  {same, switchover(api.SwitchoverRequest{Leader: "pg2"}), api.Precondition, "pg1 is"},
		"electing":        {func(v *cluster.View) { v.State.Phase, v.State.Primary = cluster.Electing, "" }, switchover(api.SwitchoverRequest{}), api.Conflict, "still electing"},
		"to itself":       {same, switchover(api.SwitchoverRequest{Candidate: "pg1"}), api.Conflict, "pg1 is the primary already"},
		"to nobody":       {same, switchover(api.SwitchoverRequest{Candidate: "pg9"}), api.Invalid, "pg9 is not a member"},
		"to no candidate": {func(v *cluster.View) { v.Members[2].Priority = 0 }, switchover(api.SwitchoverRequest{Candidate: "pg3"}), api.Conflict, "pg3 is not a candidate"},
		"to a witness":    {func(v *cluster.View) { v.Members[2].Kind = cluster.Witness }, switchover(api.SwitchoverRequest{Candidate: "pg3"}), api.Conflict, "witness"},
		"one is under way": {func(v *cluster.View) {
			v.Request, v.Asked = &cluster.Request{ID: "1", From: "pg1", Kind: cluster.Failover, By: "ann"}, "1"
		}, switchover(api.SwitchoverRequest{}), api.Conflict, "failover asked by ann"},
		"nothing to cancel": {same, func(n *Node, p func(api.Progress)) error {
			return n.CancelSwitchover(context.Background(), api.CancelRequest{}, p)
		}, api.NotFound, "no switchover"},
		"failover to nobody": {same, func(n *Node, p func(api.Progress)) error {
			return n.Failover(context.Background(), api.FailoverRequest{Candidate: "pg9"}, p)
		}, api.Invalid, "pg9 is not a member"},
		"restart elsewhere": {same, func(n *Node, p func(api.Progress)) error {
			return n.Restart(context.Background(), api.RestartRequest{Member: "pg2"}, p)
		}, api.Conflict, "this is pg1, not pg2"},
		"restart as a standby": {same, func(n *Node, p func(api.Progress)) error {
			return n.Restart(context.Background(), api.RestartRequest{Role: api.Standby}, p)
		}, api.Precondition, "pg1 is not a standby"},
		"reclone the primary": {same, func(n *Node, p func(api.Progress)) error {
			return n.Reinitialize(context.Background(), api.ReinitializeRequest{}, p)
		}, api.Conflict, "switch over first"},
		"being cloned": {func(v *cluster.View) { v.State.Primary, v.Doing = "pg2", cluster.Clone{From: "pg2"} }, func(n *Node, p func(api.Progress)) error {
			return n.Reinitialize(context.Background(), api.ReinitializeRequest{}, p)
		}, api.Conflict, "being cloned already"},
		"configuration is old": {same, func(n *Node, p func(api.Progress)) error {
			return n.SetConfig(context.Background(), api.ConfigRequest{Revision: 99, Body: []byte("copies: 1\n")}, p)
		}, api.Conflict, "yours was 99"},
		"configuration is wrong": {same, func(n *Node, p func(api.Progress)) error {
			return n.SetConfig(context.Background(), api.ConfigRequest{Body: []byte("copies: [\n")}, p)
		}, api.Invalid, ""},
		"patch is wrong": {same, func(n *Node, p func(api.Progress)) error {
			return n.SetConfig(context.Background(), api.ConfigRequest{Patch: true, Body: []byte("copies: 1\n")}, p)
		}, api.Invalid, "read the patch"},
	} {
		t.Run(name, func(t *testing.T) {
			n, m := bare(t, "pg1")
			if err := n.found(t.Context()); err != nil {
				t.Fatal(err)
			}
			v := reigning(n)
			c.view(&v)
			see(n, v)
			err := c.do(n, func(api.Progress) {})
			if kindOf(err) != c.kind || !strings.Contains(fmt.Sprint(err), c.want) {
				t.Errorf("%q: %v, want %q: …%s…", kindOf(err), err, c.kind, c.want)
			}
			if r, err := store.New(m, "main").Request(t.Context()); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("a request was recorded all the same: %+v, %v", r, err)
			}
		})
	}
}

// TestDryRuns say what would happen and record nothing.
func TestDryRuns(t *testing.T) {
	n, m := bare(t, "pg1")
	see(n, reigning(n))
	var h heard
	if err := n.Switchover(t.Context(), api.SwitchoverRequest{Candidate: "pg2", DryRun: true}, h.progress); err != nil || !h.said("pg1 would hand over to pg2") {
		t.Errorf("%v, %+v", err, h.steps)
	}
	if err := n.Failover(t.Context(), api.FailoverRequest{DryRun: true}, h.progress); err != nil || !h.said("nothing acknowledged is lost") {
		t.Errorf("%v, %+v", err, h.steps)
	}
	if err := n.Failover(t.Context(), api.FailoverRequest{DryRun: true, AcceptLoss: true}, h.progress); err != nil || !h.said("acknowledged ones included") {
		t.Errorf("%v, %+v", err, h.steps)
	}
	if _, err := store.New(m, "main").Request(t.Context()); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a request was recorded: %v", err)
	}
}

// asked begins an operation and waits until its request is recorded and seen.
func asked(t *testing.T, n *Node, do func(context.Context, func(api.Progress)) error) (req cluster.Request, h *heard, ended chan error) {
	t.Helper()
	see(n, reigning(n))
	h, ended = &heard{}, make(chan error, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	go func() { ended <- do(ctx, h.progress) }()
	eventually(t, "the request is recorded", func() bool {
		r, err := n.store.Request(t.Context())
		req = r
		return err == nil
	})
	v := reigning(n)
	v.Request = &req
	see(n, v)
	return req, h, ended
}

// TestRequestOfUnknownOutcome: whoever was told that a request could not be recorded never stands by it, even if the store
// has recorded it, so that it is not carried out; and it is not in the way of the next.
func TestRequestOfUnknownOutcome(t *testing.T) {
	n, m := bare(t, "pg1")
	see(n, reigning(n))
	m.LoseAnswers(1, true)
	err := n.Switchover(t.Context(), api.SwitchoverRequest{Candidate: "pg2"}, func(api.Progress) {})
	if kindOf(err) != api.Unavailable || !strings.Contains(err.Error(), "will not be carried out") {
		t.Errorf("%v", err)
	}
	late, err := n.store.Request(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	v := reigning(n)
	v.Request, v.Asked = &late, n.asked()
	if decide.Stands(v, late) || slices.ContainsFunc(decide.Decide(v), func(x cluster.Action) bool { _, ok := x.(cluster.Handover); return ok }) {
		t.Errorf("it is stood by, and decided is %v", decide.Decide(v))
	}
	see(n, v)
	ctx, cancel := context.WithCancel(t.Context())
	err = n.Switchover(ctx, api.SwitchoverRequest{Candidate: "pg2"}, func(p api.Progress) {
		if p.Step == "asked" {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("the next one: %v", err)
	}
	now, err := n.store.Request(t.Context())
	if v.Asked = n.asked(); err != nil || now.ID == late.ID || !decide.Stands(v, now) {
		t.Errorf("%+v, %v", now, err)
	}
}

// TestSwitchoverIsFollowed through its terms until the new primary lets clients in.
func TestSwitchoverIsFollowed(t *testing.T) {
	for name, c := range map[string]struct {
		winner string
		want   string
	}{
		"the candidate": {"pg2", ""},
		"another":       {"pg3", "pg3 became primary, not pg2"},
	} {
		t.Run(name, func(t *testing.T) {
			n, _ := bare(t, "pg1")
			req, h, ended := asked(t, n, func(ctx context.Context, p func(api.Progress)) error {
				return n.Switchover(ctx, api.SwitchoverRequest{By: api.By{Operator: "ann"}, Candidate: "pg2"}, p)
			})
			if req.Kind != cluster.Switchover || req.Term != 2 || req.To != "pg2" || req.By != "ann" {
				t.Errorf("recorded: %+v", req)
			}
			v := reigning(n)
			s := *v.State
			s.Term, s.Timeline, s.Primary, s.Reason = 3, 3, c.winner, "ann asked for a switchover"
			v.State, v.Admitted = &s, 0
			see(n, v)
			select {
			case err := <-ended:
				t.Fatalf("ended before the new primary let clients in: %v", err)
			case <-time.After(20 * time.Millisecond): // it has the view, and must go on waiting
			}
			p := v.Peers[c.winner]
			p.Beat.Admitted = 3
			v.Peers = map[string]cluster.Peer{c.winner: p}
			see(n, v)
			err := <-ended
			if c.want == "" && (err != nil || !h.said("pg2 is the primary of term 3")) {
				t.Errorf("%v, %+v", err, h.steps)
			}
			if c.want != "" && (kindOf(err) != api.Conflict || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%v, want %s", err, c.want)
			}
		})
	}
}

// TestRefusedSwitchover: the reason that the primary gave reaches whoever asked. A view that shows the request gone while
// the store still has it ends nothing.
func TestRefusedSwitchover(t *testing.T) {
	n, _ := bare(t, "pg1")
	req, _, ended := asked(t, n, func(ctx context.Context, p func(api.Progress)) error {
		return n.Switchover(ctx, api.SwitchoverRequest{Candidate: "pg2"}, p)
	})
	if _, err := n.store.WriteState(t.Context(), *reigning(n).State); err != nil {
		t.Fatal(err)
	}
	see(n, reigning(n))
	select {
	case err := <-ended:
		t.Fatalf("ended though the request stands: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	if err := n.store.PutNote(t.Context(), store.Note{At: req.At + 1, Member: "pg1", Kind: "refused", Text: "pg2 is not streaming"}); err != nil {
		t.Fatal(err)
	}
	if err := n.store.WithdrawRequest(t.Context(), req.ID); err != nil {
		t.Fatal(err)
	}
	see(n, reigning(n))
	if err := <-ended; kindOf(err) != api.Conflict || err.Error() != "pg2 is not streaming" {
		t.Errorf("%v", err)
	}
}

// TestRefusedUnseen: a request may be refused before this member has seen it at all.
func TestRefusedUnseen(t *testing.T) {
	n, _ := bare(t, "pg1")
	v := reigning(n)
	if _, err := n.store.WriteState(t.Context(), *v.State); err != nil {
		t.Fatal(err)
	}
	see(n, v)
	if err := n.follow(t.Context(), cluster.Request{ID: "1", Kind: cluster.Switchover, Term: 2}, func(api.Progress) {}); kindOf(err) != api.Conflict || !strings.Contains(err.Error(), "withdrawn by an operator") {
		t.Errorf("%v", err)
	}
}

// TestOperatorGoesAway: the watching ends, with a hint where the outcome is to be seen.
func TestOperatorGoesAway(t *testing.T) {
	n, _ := bare(t, "pg1")
	see(n, reigning(n))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- n.await(ctx, "", func(api.Progress) {}, func(cluster.View) (bool, error) { return false, nil })
	}()
	cancel()
	if err := <-ended; kindOf(err) != api.Unavailable || !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "standfast status") {
		t.Errorf("%v", err)
	}
}

// TestForetoldRestart says what it would interrupt, and does nothing.
func TestForetoldRestart(t *testing.T) {
	n, _ := bare(t, "pg1")
	see(n, reigning(n))
	var h heard
	if err := n.Restart(t.Context(), api.RestartRequest{DryRun: true}, h.progress); err != nil || !h.said("it stays primary") {
		t.Errorf("%v, %+v", err, h.steps)
	}
	if _, err := n.store.Request(t.Context()); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a request was recorded: %v", err)
	}
	if err := n.Restart(t.Context(), api.RestartRequest{DryRun: true, Role: api.Standby}, h.progress); kindOf(err) != api.Precondition {
		t.Errorf("the primary as a standby: %v", err)
	}
	for _, c := range []struct {
		primary, counts bool
		spare           int
		want            string
	}{{true, false, 0, "it stays primary"}, {false, true, 1, "writing goes on"}, {false, true, 0, "writing would wait"}, {false, false, 0, "writing goes on"}} {
		if got := restartForetold("pg2", c.primary, c.counts, c.spare); !strings.HasPrefix(got, "pg2 ") && !strings.Contains(got, "from pg2 ") || !strings.Contains(got, c.want) {
			t.Errorf("%+v: %s", c, got)
		}
	}
}

// TestRestartOfPendingOnly does nothing where nothing waits.
func TestRestartOfPendingOnly(t *testing.T) {
	n, _ := bare(t, "pg2")
	a, err := agent.New(agent.Config{Self: "pg2", Cluster: "main", StateDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	n.agent = a
	see(n, reigning(n))
	var h heard
	if err := n.Restart(t.Context(), api.RestartRequest{OnlyPending: true}, h.progress); err != nil || !h.said("does not wait for a restart") {
		t.Errorf("%v, %+v", err, h.steps)
	}
	n.setApplied(applied{waiting: postgres.Waiting{Restart: []string{"max_connections"}}})
	if err := n.Restart(t.Context(), api.RestartRequest{OnlyPending: true, Timeout: time.Millisecond}, h.progress); kindOf(err) != api.Conflict || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

// TestRaisedOnStandbysFirst: a standby must not have less than its primary, so one that waits is restarted before it.
func TestRaisedOnStandbysFirst(t *testing.T) {
	n, _ := bare(t, "pg1")
	n.setApplied(applied{waiting: postgres.Waiting{Restart: []string{"max_connections"}, Raised: []string{"max_connections"}}})
	v := reigning(n)
	p := standby(5000)
	p.Beat.PendingRestart = true
	v.Peers["pg3"] = p
	see(n, v)
	err := n.Restart(t.Context(), api.RestartRequest{}, func(api.Progress) {})
	if kindOf(err) != api.Conflict || !strings.Contains(err.Error(), "restart pg3 first") {
		t.Errorf("%v", err)
	}
	if _, err := n.store.Request(t.Context()); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a request was recorded: %v", err)
	}
	for name, change := range map[string]func(*cluster.View){
		"silent":  func(v *cluster.View) { p.Heard = time.Minute; v.Peers["pg3"] = p },
		"no more": func(v *cluster.View) { p.Heard, p.Beat.PendingRestart = v.Now, false; v.Peers["pg3"] = p },
	} {
		t.Run(name, func(t *testing.T) {
			change(&v)
			see(n, v)
			ctx, cancel := context.WithCancel(t.Context())
			err := n.Restart(ctx, api.RestartRequest{}, func(p api.Progress) {
				if p.Step == "asked" {
					cancel() // it is under way
				}
			})
			cancel()
			if !errors.Is(err, context.Canceled) {
				t.Errorf("%v", err)
			}
			if err := n.store.WithdrawRequest(t.Context(), n.asked()); err != nil {
				t.Errorf("no request was recorded: %v", err)
			}
		})
	}
}

// TestPendingIsAskedOfTheNewest: a member answers whether it waits for a restart only by the newest term and the newest
// configuration, as the store has them; before that the answer would be an old one.
func TestPendingIsAskedOfTheNewest(t *testing.T) {
	n, _ := bare(t, "pg1")
	n.pg = postgres.New(postgres.Config{Name: "pg1"})
	if err := n.found(t.Context()); err != nil {
		t.Fatal(err)
	}
	kv := mustConfig(t, n)
	record := *reigning(n).State
	if _, err := n.store.WriteState(t.Context(), record); err != nil {
		t.Fatal(err)
	}
	current := func() cluster.View { return reigning(n) }
	for name, c := range map[string]struct {
		view    func(*cluster.View)
		applied applied
		want    string
	}{
		"an old term":          {func(v *cluster.View) { v.State.Term, v.Admitted = 1, 1 }, applied{revision: kv.Revision}, "does not know of term 2"},
		"not admitted":         {func(v *cluster.View) { v.Admitted = 0 }, applied{revision: kv.Revision}, "bring it back first"},
		"an old configuration": {func(*cluster.View) {}, applied{revision: kv.Revision - 1}, "has not put the agreed configuration in force"},
		"refused":              {func(*cluster.View) {}, applied{revision: kv.Revision, err: errors.New("PostgreSQL refuses it")}, "PostgreSQL refuses it"},
		"all new":              {func(*cluster.View) {}, applied{revision: kv.Revision}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			v := current()
			c.view(&v)
			see(n, v)
			n.applied.Store(&c.applied)
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			var h heard
			err := n.Restart(ctx, api.RestartRequest{OnlyPending: true}, h.progress)
			switch {
			case c.want == "" && (err != nil || !h.said("does not wait for a restart")):
				t.Errorf("%v, %+v", err, h.steps)
			case c.want != "" && (kindOf(err) != api.Conflict || !strings.Contains(err.Error(), c.want) || len(h.steps) > 0):
				t.Errorf("%v, %+v; want %q", err, h.steps, c.want)
			}
		})
	}
}

// TestConfigurationIsChanged by whole and by patch, and a pause is a change like others.
func TestConfigurationIsChanged(t *testing.T) {
	n, _ := bare(t, "pg1")
	if err := n.found(t.Context()); err != nil {
		t.Fatal(err)
	}
	n.agreed.take(mustConfig(t, n))
	var h heard
	patch := api.ConfigRequest{Patch: true, Body: []byte(`{"lease":"5s","postgresql":{"parameters":{"work_mem":"8MB"}}}`), DryRun: true}
	if err := n.SetConfig(t.Context(), patch, h.progress); err != nil || !h.said("lease") {
		t.Fatalf("%v, %+v", err, h.steps)
	}
	if n.agreed.take(mustConfig(t, n)) {
		t.Error("a dry run has written")
	}
	patch.DryRun = false
	if err := n.SetConfig(t.Context(), patch, h.progress); err != nil {
		t.Fatal(err)
	}
	if err := n.Pause(t.Context(), api.PauseRequest{For: time.Hour, DryRun: true}, h.progress); err != nil || !h.said("would be off until") {
		t.Errorf("%v, %+v", err, h.steps)
	}
	if n.agreed.take(mustConfig(t, n)); n.agreed.settings().Paused {
		t.Error("a dry run has paused")
	}
	if err := n.Pause(t.Context(), api.PauseRequest{For: time.Hour}, h.progress); err != nil || !h.said("paused until") {
		t.Errorf("%v, %+v", err, h.steps)
	}
	if !n.agreed.take(mustConfig(t, n)) {
		t.Fatal("nothing was written")
	}
	c := n.agreed.get()
	if time.Duration(c.Lease) != 5*time.Second || c.PostgreSQL.Parameters["work_mem"] != "8MB" || !n.agreed.settings().Paused {
		t.Errorf("agreed: %+v", c)
	}
	if err := n.Resume(t.Context(), api.ResumeRequest{DryRun: true}, h.progress); err != nil || !h.said("would be on again") {
		t.Errorf("%v, %+v", err, h.steps)
	}
	if n.agreed.take(mustConfig(t, n)) {
		t.Error("a dry run has resumed")
	}
	if err := n.Resume(t.Context(), api.ResumeRequest{}, h.progress); err != nil {
		t.Fatal(err)
	}
	n.agreed.take(mustConfig(t, n))
	if n.agreed.settings().Paused {
		t.Error("still paused")
	}
	got, err := n.Config(t.Context(), false)
	if err != nil || !strings.Contains(string(got.Values), `"lease"`) || got.Revision != mustConfig(t, n).Revision {
		t.Errorf("%+v, %v", got, err)
	}
}

func mustConfig(t *testing.T, n *Node) store.KV {
	t.Helper()
	kv, err := n.store.Config(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return kv
}

// TestPatchYAML follows RFC 7396's own examples where they are about objects.
func TestPatchYAML(t *testing.T) {
	for _, c := range []struct{ doc, patch, want string }{
		{"a: b\n", `{"a":"c"}`, "a: c\n"},
		{"a: b\n", `{"b":"c"}`, "a: b\nb: c\n"},
		{"a: b\n", `{"a":null}`, "{}\n"},
		{"a: b\nb: c\n", `{"a":null}`, "b: c\n"},
		{"a: [b]\n", `{"a":"c"}`, "a: c\n"},
		{"a: c\n", `{"a":["b",2]}`, "a:\n- b\n- 2\n"},
		{"a: {b: c}\n", `{"a":{"b":"d","c":null}}`, "a:\n  b: d\n"},
		{"a: {b: c, d: e}\n", `{"a":{"b":null}}`, "a:\n  d: e\n"},
		{"e: null\n", `{"a":1}`, "a: 1\ne: null\n"},
		{"a: foo\n", `{"a":{"b":{"c":null}}}`, "a:\n  b: {}\n"},
		{"", `{"a":{"b":true}}`, "a:\n  b: true\n"},
		{"a: b\n", `{}`, "a: b\n"},
		{"a: b\n", `{"a":1.5,"b":-3}`, "a: 1.5\nb: -3\n"},
	} {
		got, err := patchYAML([]byte(c.doc), []byte(c.patch))
		if err != nil || string(got) != c.want {
			t.Errorf("%q patched with %s: %q, %v, want %q", c.doc, c.patch, got, err, c.want)
		}
	}
	for _, patch := range []string{"", "[]", `"a"`, `{"a":`, `{"a":1}{"a":2}`} {
		if _, err := patchYAML([]byte("a: b\n"), []byte(patch)); err == nil {
			t.Errorf("%q was accepted", patch)
		}
	}
}
