package node

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"standfast/api"
	"standfast/cluster"
	"standfast/config"
	"standfast/decide"
	"standfast/store"
)

// storeTime bounds one call of the store on an operator's behalf.
const storeTime = 5 * time.Second

// Switchover asks the primary to hand over and waits until the new one lets clients in. It implements api.Ops, as the
// methods below do.
func (n *Node) Switchover(ctx context.Context, r api.SwitchoverRequest, progress func(api.Progress)) error {
	v, err := n.current()
	if err != nil {
		return err
	}
	s := v.State
	if r.Leader != "" && r.Leader != s.Primary {
		return api.Errorf(api.Precondition, "%s is not the primary, %s is", r.Leader, orNobody(s.Primary))
	}
	if s.Phase != cluster.Reigning {
		return api.Errorf(api.Conflict, "term %d is still %s: wait until a primary reigns", s.Term, s.Phase)
	}
	if r.Candidate == s.Primary {
		return api.Errorf(api.Conflict, "%s is the primary already", r.Candidate)
	}
	if err := n.knownCandidate(v, r.Candidate); err != nil {
		return err
	}
	if r.DryRun {
		progress(api.Progress{Step: "dry run", Text: fmt.Sprintf("%s would hand over to %s: new connections wait, sessions of %s end, nothing is lost", s.Primary, orBest(r.Candidate), s.Primary)})
		return nil
	}
	return n.request(ctx, cluster.Switchover, r.Candidate, r.By, progress)
}

// CancelSwitchover withdraws a request that has not begun.
func (n *Node) CancelSwitchover(ctx context.Context, _ api.CancelRequest, progress func(api.Progress)) error {
	v, err := n.current()
	if err != nil {
		return err
	}
	if v.Request == nil {
		return api.Errorf(api.NotFound, "no switchover or failover is asked for")
	}
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	switch err := n.store.WithdrawRequest(ctx, v.Request.ID); {
	case errors.Is(err, store.ErrNotFound):
		return api.Errorf(api.NotFound, "the %s is over already", v.Request.Kind)
	case err != nil:
		return n.noMajority("withdraw the request", err)
	}
	progress(api.Progress{Step: "withdrawn", Text: "the request is withdrawn"})
	return nil
}

// Failover begins an election now.
func (n *Node) Failover(ctx context.Context, r api.FailoverRequest, progress func(api.Progress)) error {
	v, err := n.current()
	if err != nil {
		return err
	}
	if err := n.knownCandidate(v, r.Candidate); err != nil {
		return err
	}
	kind := cluster.Failover
	if r.AcceptLoss {
		kind = cluster.Forced
	}
	if r.DryRun {
		progress(api.Progress{Step: "dry run", Text: lossStatement(v, kind)})
		return nil
	}
	progress(api.Progress{Step: "loss", Text: lossStatement(v, kind)})
	return n.request(ctx, kind, r.Candidate, r.By, progress)
}

// lossStatement says what an election begun now may lose.
func lossStatement(v cluster.View, kind cluster.RequestKind) string {
	s := v.State
	switch {
	case kind == cluster.Forced:
		who := s.Last // while nobody reigns it is still whose commits are at stake
		if s.Primary != "" {
			who = s.Primary
		}
		return fmt.Sprintf("a forced election is decided by the members that are there: commits that only %s holds, or others that are not there, may be lost, acknowledged ones included", orNobody(who))
	case s.Rule.K == 0:
		return fmt.Sprintf("commits need no standby now (%s): what has not reached one is lost unless %s reports", s.Rule, orNobody(s.Primary))
	}
	return fmt.Sprintf("nothing acknowledged is lost: the election waits for %d of %s, or for the last primary itself", s.Rule.Electors(), s.Rule)
}

// Reload makes this member read the agreed configuration again.
func (n *Node) Reload(ctx context.Context, r api.ReloadRequest, progress func(api.Progress)) error {
	if err := n.concernsMe(r.Member); err != nil {
		return err
	}
	if err := n.applyConfig(ctx); err != nil {
		return api.Errorf(api.Conflict, "reload: %w", err)
	}
	progress(api.Progress{Member: n.cfg.Name, Step: "reload", Text: n.cfg.Name + " has read its configuration again"})
	return nil
}

// Reinitialize replaces this member's data by a copy of the primary's.
func (n *Node) Reinitialize(ctx context.Context, r api.ReinitializeRequest, progress func(api.Progress)) error {
	v, err := n.current()
	if err != nil {
		return err
	}
	if err := n.concernsMe(r.Member); err != nil {
		return err
	}
	if v.State.Primary == n.cfg.Name {
		return api.Errorf(api.Conflict, "%s is the primary, its data is the cluster's: switch over first (standfast switchover)", n.cfg.Name)
	}
	if _, busy := v.Doing.(cluster.Clone); busy && !r.Force {
		return api.Errorf(api.Conflict, "%s is being cloned already", n.cfg.Name)
	}
	n.agent.Reclone(r.Operator + " asked for a new copy")
	progress(api.Progress{Member: n.cfg.Name, Step: "clone", Text: n.cfg.Name + " leaves the commit rule and is cloned from " + v.State.Primary})
	begun := false
	return n.await(ctx, n.cfg.Name+" follows again", progress, func(v cluster.View) (bool, error) {
		begun = begun || decide.NeedsOut(v)
		return begun && !decide.NeedsOut(v) && v.Relay.Term == v.State.Term && v.Postgres.Up, nil
	})
}

// Pause stops automatic failover for a while, Resume lets it go on.
func (n *Node) Pause(ctx context.Context, r api.PauseRequest, progress func(api.Progress)) error {
	until := time.Now().Add(r.For).UTC().Truncate(time.Second)
	if err := n.changeConfig(ctx, "paused_until", until.Format(time.RFC3339)); err != nil {
		return err
	}
	progress(api.Progress{Step: "paused", Text: "automatic failover is paused until " + until.Format("2006-01-02 15:04:05 MST")})
	return nil
}

// Resume ends a pause.
func (n *Node) Resume(ctx context.Context, _ api.ResumeRequest, progress func(api.Progress)) error {
	if err := n.changeConfig(ctx, "paused_until", ""); err != nil {
		return err
	}
	progress(api.Progress{Step: "resumed", Text: "automatic failover is on again"})
	return nil
}

// changeConfig changes one key, again if somebody else changed another meanwhile.
func (n *Node) changeConfig(ctx context.Context, key, value string) error {
	for {
		kv, err := n.readConfig(ctx)
		if err != nil {
			return err
		}
		text, err := config.Set(kv.Value, key, value)
		if err != nil {
			return api.Errorf(api.Invalid, "%w", err)
		}
		switch err := n.putConfig(ctx, text, kv.Revision); {
		case err == nil:
			return nil
		case !errors.Is(err, store.ErrConflict):
			return n.noMajority("write the configuration", err)
		}
	}
}

func (n *Node) readConfig(ctx context.Context) (store.KV, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	kv, err := n.store.Config(ctx)
	if err != nil {
		return store.KV{}, n.noMajority("read the configuration", err)
	}
	return kv, nil
}

func (n *Node) putConfig(ctx context.Context, text []byte, rev int64) error {
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	_, err := n.store.PutConfig(ctx, text, rev)
	return err
}

// Config returns the agreed configuration.
func (n *Node) Config(ctx context.Context) (api.ClusterConfig, error) {
	kv, err := n.readConfig(ctx)
	if err != nil {
		return api.ClusterConfig{}, err
	}
	values, err := yaml.YAMLToJSON(kv.Value)
	if err != nil {
		return api.ClusterConfig{}, fmt.Errorf("convert the configuration: %w", err)
	}
	return api.ClusterConfig{Revision: kv.Revision, YAML: string(kv.Value), Values: values}, nil
}

// SetConfig replaces or patches the agreed configuration, after PostgreSQL itself has accepted its parameters.
func (n *Node) SetConfig(ctx context.Context, r api.ConfigRequest, progress func(api.Progress)) error {
	kv, err := n.readConfig(ctx)
	if err != nil {
		return err
	}
	if r.Revision != 0 && r.Revision != kv.Revision {
		return api.Errorf(api.Conflict, "the configuration has changed meanwhile (revision %d, yours was %d): read it again", kv.Revision, r.Revision)
	}
	text := r.Body
	if r.Patch {
		if text, err = patchYAML(kv.Value, r.Body); err != nil {
			return api.Errorf(api.Invalid, "%w", err)
		}
	}
	next, err := config.ParseCluster("configuration", text)
	if err != nil {
		return api.Errorf(api.Invalid, "%w", err)
	}
	if name := next.PostgreSQL.Collision(n.dataMembers()); name != "" {
		return api.Errorf(api.Invalid, "postgresql.replication_clients: %q is a member's name, and so its slot's; choose another", name)
	}
	if err := n.checkParameters(ctx, next); err != nil {
		return api.Errorf(api.Invalid, "%w", err)
	}
	for _, c := range config.Diff(n.agreed.get(), next) {
		progress(api.Progress{Step: "change", Text: c.String()})
	}
	if r.DryRun {
		return nil
	}
	switch err := n.putConfig(ctx, text, kv.Revision); {
	case errors.Is(err, store.ErrConflict):
		return api.Errorf(api.Conflict, "the configuration has changed meanwhile: read it again")
	case err != nil:
		return n.noMajority("write the configuration", err)
	}
	return nil
}

// noMajority says in the operator's words that the store did not answer; etcd's own words go to the log.
func (n *Node) noMajority(what string, err error) error {
	n.log.Warn(what, "error", err)
	return api.Errorf(api.Unavailable, "%s: the store (etcd) does not answer: more than half of the members have to run; see standfast status", what)
}

// patchYAML applies a JSON merge patch (RFC 7396) to the configuration's text. Comments are kept where a single value is
// set by config.Set; a patch rewrites the document.
func patchYAML(text, patch []byte) ([]byte, error) {
	var doc map[string]any
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	var p map[string]any
	d := json.NewDecoder(bytes.NewReader(patch))
	d.UseNumber()
	if err := d.Decode(&p); err != nil {
		return nil, fmt.Errorf("read the patch: %w", err)
	}
	if d.More() {
		return nil, errors.New("read the patch: more than one value")
	}
	return yaml.Marshal(mergePatch(doc, p))
}

func mergePatch(doc, patch map[string]any) map[string]any {
	if doc == nil {
		doc = map[string]any{}
	}
	for k, v := range patch {
		switch v := v.(type) {
		case nil:
			delete(doc, k)
		case map[string]any:
			sub, _ := doc[k].(map[string]any)
			doc[k] = mergePatch(sub, v)
		default:
			doc[k] = plain(v)
		}
	}
	return doc
}

// plain makes whole numbers whole again, for JSON has only one kind of number and YAML would show 2 as 2.0.
func plain(v any) any {
	switch v := v.(type) {
	case json.Number:
		if i, err := v.Int64(); err == nil {
			return i
		}
		f, err := v.Float64()
		if err != nil {
			return v.String()
		}
		return f
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = plain(v[i])
		}
		return out
	}
	return v
}

// request records an operator's wish and follows it to its end: a new term whose primary lets clients in, or a refusal.
func (n *Node) request(ctx context.Context, kind cluster.RequestKind, to string, by api.By, progress func(api.Progress)) error {
	v, err := n.current()
	if err != nil {
		return err
	}
	if v.Request != nil && decide.Stands(v, *v.Request) {
		return underWay(*v.Request)
	}
	id := make([]byte, 8)
	_, _ = rand.Read(id)
	req := cluster.Request{ID: hex.EncodeToString(id), Kind: kind, Term: v.State.Term, To: to, By: by.Operator, From: n.cfg.Name, At: time.Now().UnixMilli()}
	if err := n.record(ctx, v, req); err != nil {
		return err
	}
	progress(api.Progress{Step: "asked", Text: fmt.Sprintf("%s of term %d asked for", kind, req.Term)})
	return n.follow(ctx, req, progress)
}

// record writes a request over what is there, unless that is still to be carried out, and stands by it once the store has
// acknowledged it. One whose outcome is unknown may be recorded later, but nobody will stand by it.
func (n *Node) record(ctx context.Context, v cluster.View, req cluster.Request) error {
	n.asking.Lock()
	defer n.asking.Unlock()
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	v.Asked = n.asked()
	what := fmt.Sprintf("record the %s (it will not be carried out)", req.Kind)
	old, err := n.store.Request(ctx)
	switch {
	case err != nil && !errors.Is(err, store.ErrNotFound):
		return n.noMajority(what, err)
	case err == nil && old.Term == req.Term && decide.Stands(v, old):
		return underWay(old)
	}
	switch _, err := n.store.PutRequest(ctx, req, old.Revision); {
	case errors.Is(err, store.ErrConflict):
		return api.Errorf(api.Conflict, "somebody else has asked for something in this moment: see standfast status")
	case err != nil:
		return n.noMajority(what, err)
	}
	n.stoodBy.Store(&req.ID)
	if n.agent != nil {
		n.agent.Wake()
	}
	return nil
}

func underWay(r cluster.Request) error {
	return api.Errorf(api.Conflict, "%s asked by %s is under way already", r.Kind, r.By)
}

// asked is the ID of the newest request that the store has acknowledged to this member.
func (n *Node) asked() string {
	if id := n.stoodBy.Load(); id != nil {
		return *id
	}
	return ""
}

// follow watches a request until it is carried out or refused.
func (n *Node) follow(ctx context.Context, req cluster.Request, progress func(api.Progress)) error {
	phase := cluster.Phase("")
	return n.await(ctx, "", progress, func(v cluster.View) (bool, error) {
		s := v.State
		if s.Term == req.Term {
			if v.Request == nil || v.Request.ID != req.ID { // not seen here yet, or refused before it could be
				return false, n.refusal(ctx, req, s.Term)
			}
			return false, nil
		}
		if s.Phase != phase {
			phase = s.Phase
			progress(api.Progress{Member: s.Primary, Step: string(phase), Text: phaseText(s)})
		}
		who := s.Primary
		admitted := who == v.Self && v.Admitted == s.Term || v.Peers[who].Beat.Admitted == s.Term
		if s.Phase != cluster.Reigning || !admitted {
			return false, nil
		}
		if req.To != "" && who != req.To {
			return false, api.Errorf(api.Conflict, "%s became primary, not %s: %s", who, req.To, s.Reason)
		}
		progress(api.Progress{Member: who, Step: "done", Text: fmt.Sprintf("%s is the primary of term %d", who, s.Term)})
		return true, nil
	})
}

func phaseText(s *cluster.State) string {
	switch s.Phase {
	case cluster.Electing:
		return fmt.Sprintf("term %d: members detach and report", s.Term)
	case cluster.Elected:
		return fmt.Sprintf("%s is elected and promotes itself to timeline %d", s.Primary, s.Timeline)
	}
	return fmt.Sprintf("%s reigns on timeline %d, the others attach", s.Primary, s.Timeline)
}

// refusal finds out why a request vanished from a view; nil if it has not: a watch that begins again may show an older
// picture for a moment, and a term that it brought about ends it too.
func (n *Node) refusal(ctx context.Context, req cluster.Request, term cluster.Term) error {
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	if r, err := n.store.Request(ctx); err == nil && r.ID == req.ID {
		return nil
	}
	if s, err := n.store.State(ctx); err != nil || s.Term != term {
		return nil // look again when this member knows it
	}
	notes, err := n.store.Notes(ctx)
	if err != nil {
		return api.Errorf(api.Conflict, "the %s was withdrawn", req.Kind)
	}
	for i := len(notes) - 1; i >= 0; i-- {
		if notes[i].Kind == "refused" && notes[i].At >= req.At {
			return api.Errorf(api.Conflict, "%s", notes[i].Text)
		}
	}
	return api.Errorf(api.Conflict, "the %s was withdrawn by an operator", req.Kind)
}

// await waits until done says so of the newest view.
func (n *Node) await(ctx context.Context, then string, progress func(api.Progress), done func(cluster.View) (bool, error)) error {
	note := ""
	for {
		changed := n.viewChanged.wait()
		if v := n.view.Load(); v != nil && v.State != nil {
			ok, err := done(*v)
			if err != nil {
				return err
			}
			if ok {
				if then != "" {
					progress(api.Progress{Member: n.cfg.Name, Step: "done", Text: then})
				}
				return nil
			}
			if b := n.lastNote(); b != note && b != "" {
				note = b
				progress(n.busyWith(note))
			}
		}
		select {
		case <-ctx.Done():
			return api.Errorf(api.Unavailable, "not finished: %w; look at standfast status", ctx.Err())
		case <-changed:
		}
	}
}

// busyWith is one step of what this member's note tells. While data is copied the numbers are given as numbers, for whoever
// shows them to choose units and reckon the rate.
func (n *Node) busyWith(note string) api.Progress {
	p := api.Progress{Member: n.cfg.Name, Step: "progress"}
	if n.agent != nil {
		p.Bytes, p.Total = n.agent.Copied()
	}
	if p.Bytes > 0 {
		note, _, _ = strings.Cut(note, " ")
	}
	p.Text = n.cfg.Name + ": " + note
	return p
}

// current is the newest view, with a record in it.
func (n *Node) current() (cluster.View, error) {
	v := n.view.Load()
	if v == nil || v.State == nil {
		return cluster.View{}, api.Errorf(api.Unavailable, "%s does not know the cluster's state yet: is a majority of the members running?", n.cfg.Name)
	}
	return *v, nil
}

func (n *Node) concernsMe(member string) error {
	if member != "" && member != n.cfg.Name {
		return api.Errorf(api.Conflict, "this is %s, not %s: ask %s itself", n.cfg.Name, member, member)
	}
	return nil
}

func (n *Node) knownCandidate(v cluster.View, name string) error {
	if name == "" {
		return nil
	}
	for _, m := range v.Members {
		if m.Name == name {
			if !m.Electable() {
				return api.Errorf(api.Conflict, "%s is not a candidate: a witness, or priority 0", name)
			}
			return nil
		}
	}
	return api.Errorf(api.Invalid, "%s is not a member of this cluster", name)
}

func orNobody(s string) string {
	if s == "" {
		return "nobody"
	}
	return s
}

func orBest(s string) string {
	if s == "" {
		return "the best standby"
	}
	return s
}
