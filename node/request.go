package node

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"standfast/api"
	"standfast/cluster"
	"standfast/decide"
	"standfast/store"
)

// request records an operator's wish and follows it to its end: a new term whose primary lets clients in, or a refusal.
func (n *Node) request(ctx context.Context, req cluster.Request, by api.By, progress func(api.Progress)) error {
	v, err := n.current()
	if err != nil {
		return err
	}
	if v.Request != nil && decide.Stands(v, *v.Request) {
		return underWay(*v.Request)
	}
	id := make([]byte, 8)
	_, _ = rand.Read(id)
	req.ID, req.Term, req.By, req.From, req.At = hex.EncodeToString(id), v.State.Term, by.Operator, n.cfg.Name, time.Now().UnixMilli()
	if err := n.record(ctx, v, req); err != nil {
		return err
	}
	progress(api.Progress{Step: "asked", Text: fmt.Sprintf("%s of term %d asked for", wish(req), req.Term)})
	if req.Halt {
		return n.followHalt(ctx, req, progress)
	}
	return n.follow(ctx, req, progress)
}

// wish is what a request asks for, a word.
func wish(r cluster.Request) string {
	if r.Halt {
		return "shutdown"
	}
	return string(r.Kind)
}

// record writes a request over what is there, unless that is still to be carried out, and stands by it once the store has
// acknowledged it. One whose outcome is unknown may be recorded later, but nobody will stand by it.
func (n *Node) record(ctx context.Context, v cluster.View, req cluster.Request) error {
	n.asking.Lock()
	defer n.asking.Unlock()
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	v.Asked = n.asked()
	what := fmt.Sprintf("record the %s (it will not be carried out)", wish(req))
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
	return api.Errorf(api.Conflict, "%s asked by %s is under way already", wish(r), r.By)
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
		return api.Errorf(api.Conflict, "the %s was withdrawn", wish(req))
	}
	for i := len(notes) - 1; i >= 0; i-- {
		if notes[i].Kind == "refused" && notes[i].At >= req.At {
			return api.Errorf(api.Conflict, "%s", notes[i].Text)
		}
	}
	return api.Errorf(api.Conflict, "the %s was withdrawn by an operator", wish(req))
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

func orBest(s string) string {
	if s == "" {
		return "the best standby"
	}
	return s
}
