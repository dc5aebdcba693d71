package node

import (
	"cmp"
	"context"
	"crypto/subtle"
	"errors"
	"slices"
	"time"

	"standfast/api"
	"standfast/store"
)

// tokens says who a token belongs to: the cluster's own, which is in a file and good without a majority, or an operator's, as last
// agreed. So one that was revoked is refused by every member that hears of it, and by one that starts without a majority.
func (n *Node) tokens(own []byte) func(string) (api.Operator, bool) {
	return func(token string) (api.Operator, bool) {
		if subtle.ConstantTimeCompare([]byte(token), own) == 1 {
			return api.Operator{Name: api.OwnOperator, Access: api.Admin}, true
		}
		var all map[string]store.Grant
		if p := n.grants.Load(); p != nil {
			all = *p
		}
		return granted(all, token, time.Now())
	}
}

func granted(all map[string]store.Grant, token string, now time.Time) (api.Operator, bool) {
	id, hash := api.HashToken(token)
	g, ok := all[id]
	if !ok || subtle.ConstantTimeCompare([]byte(g.Hash), []byte(hash)) != 1 || now.UnixMilli() >= g.Expires {
		return api.Operator{}, false
	}
	return api.Operator{Name: g.Operator, Access: api.Access(g.Role)}, true
}

// Grants implements api.Grants, as the methods below do. Those that are over are shown for a week, then removed by the next change.
func (n *Node) Grants(ctx context.Context) ([]api.Grant, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	all, err := n.store.Grants(ctx)
	if err != nil {
		return nil, n.noMajority("list the tokens", err)
	}
	var out []api.Grant
	for _, g := range all {
		out = append(out, api.Grant{ID: g.ID, Operator: g.Operator, Role: api.Access(g.Role), By: g.By, Created: time.UnixMilli(g.Created).UTC(), Expires: time.UnixMilli(g.Expires).UTC()})
	}
	slices.SortFunc(out, func(a, b api.Grant) int { return cmp.Or(cmp.Compare(a.Operator, b.Operator), cmp.Compare(a.ID, b.ID)) })
	return out, nil
}

// forgetAfter is how long a token that is over is still shown; mostGrants bounds how many there are.
const (
	forgetAfter = 7 * 24 * time.Hour
	mostGrants  = 200
)

// AddGrant makes an operator's token known to all members.
func (n *Node) AddGrant(ctx context.Context, g api.Grant) error {
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	all, err := n.store.Grants(ctx)
	if err != nil {
		return n.noMajority("record the token", err)
	}
	for _, old := range all {
		if g.Created.Sub(time.UnixMilli(old.Expires)) > forgetAfter {
			_ = n.store.RemoveGrant(ctx, old.ID) // the next one tries again
		}
	}
	if len(all) >= mostGrants {
		return api.Errorf(api.Conflict, "there are %d tokens: revoke some first (standfast token list)", len(all))
	}
	err = n.store.AddGrant(ctx, store.Grant{ID: g.ID, Operator: g.Operator, Role: string(g.Role), Hash: g.Hash, By: g.By, Created: g.Created.UnixMilli(), Expires: g.Expires.UnixMilli()})
	switch {
	case errors.Is(err, store.ErrConflict):
		return api.Errorf(api.Conflict, "there is a token %s already", g.ID)
	case err != nil:
		return n.noMajority("record the token", err)
	}
	return nil
}

// RevokeGrant makes a token useless.
func (n *Node) RevokeGrant(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	switch err := n.store.RemoveGrant(ctx, id); {
	case errors.Is(err, store.ErrNotFound):
		return api.Errorf(api.NotFound, "there is no token %s", id)
	case err != nil:
		return n.noMajority("revoke the token", err)
	}
	return nil
}
