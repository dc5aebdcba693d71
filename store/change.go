package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"standfast/cluster"
)

// Change is a change of the members that is under way. There is one at most: two at the same time could leave a majority of
// neither the old members nor the new ones. It is there until the change has ended, in order or taken back; whoever carried it
// out may die in between, and then anybody goes on with it, or takes it back, by its member's name.
type Change struct {
	Kind   ChangeKind     `json:"kind"`
	Member cluster.Member `json:"member"` // that comes or goes
	By     string         `json:"by"`     // the operator
	At     int64          `json:"at"`     // wall clock, milliseconds since 1970

	Revision int64 `json:"-"`
}

// ChangeKind says what is done to the members.
type ChangeKind string

// What can be done to them.
const (
	Adding   ChangeKind = "add"
	Removing ChangeKind = "remove"
)

// ErrBusy says that another change of the members is under way.
var ErrBusy = errors.New("another change of the members is under way")

// Change returns the change that is under way, or ErrNotFound.
func (c *Cluster) Change(ctx context.Context) (Change, error) {
	var ch Change
	kv, err := c.get(ctx, "change", &ch)
	ch.Revision = kv.Revision
	return ch, err
}

// BeginChange records a change. One of the same member that is there is replaced: it is gone on with, or turned round.
// ErrBusy: there is one of another member, which is returned. Any other error: unknown.
func (c *Cluster) BeginChange(ctx context.Context, next Change) (Change, error) {
	for {
		old, err := c.Change(ctx)
		switch {
		case errors.Is(err, ErrNotFound):
			old = Change{}
		case err != nil:
			return old, err
		case old.Member.Name != next.Member.Name:
			return old, fmt.Errorf("begin to change the members: %w", ErrBusy)
		}
		b, err := json.Marshal(next)
		if err != nil {
			return next, fmt.Errorf("begin to change the members: %w", err)
		}
		next.Revision, err = c.store.CompareAndPut(ctx, c.prefix+"change", b, old.Revision)
		if err == nil {
			return next, nil
		}
		if !errors.Is(err, ErrConflict) {
			return next, fmt.Errorf("begin to change the members: %w", err)
		}
	}
}

// EndChange takes the change away, if it is still the one that was begun.
func (c *Cluster) EndChange(ctx context.Context, ch Change) error {
	err := c.store.CompareAndDelete(ctx, c.prefix+"change", ch.Revision)
	if err != nil && !errors.Is(err, ErrConflict) && !errors.Is(err, ErrNotFound) {
		return fmt.Errorf("end the change of the members: %w", err)
	}
	return nil
}
