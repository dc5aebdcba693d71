package ops

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"standfast/api"
)

// DroppedSlots is what DropSlot has done, or would do.
type DroppedSlots struct {
	Slots  []api.Slot // strangers' slots of that name, each on another member
	Failed []error    // why members did not answer: it may be there too
}

// DropSlot drops a stranger's slot on the members named, or on all that have it; the members themselves refuse what is not a stranger's. Where
// it is one on some members and not on others, nothing is dropped.
func (c *Cluster) DropSlot(ctx context.Context, name, member string, dryRun bool, progress func(api.Progress)) (DroppedSlots, error) {
	st, err := c.look(ctx)
	if err != nil {
		return DroppedSlots{}, err
	}
	if member != "" && st.Member(member) == nil {
		return DroppedSlots{}, refuse("there is no member %s; there are %s", member, strings.Join(Names(st), ", "))
	}
	all, failed, err := c.Slots(ctx)
	if err != nil {
		return DroppedSlots{}, err
	}
	found := withoutCopies(slices.DeleteFunc(all, func(s api.Slot) bool { return s.Name != name || member != "" && s.Member != member }))
	if len(found) == 0 {
		return DroppedSlots{}, noSlot(name, member, failed)
	}
	drop := func(dryRun bool, progress func(api.Progress)) error {
		for _, s := range found {
			if err := c.Client.DropSlot(ctx, api.DropSlotRequest{Member: s.Member, Name: name, DryRun: dryRun}, progress); err != nil {
				return err
			}
		}
		return nil
	}
	if err := drop(true, nil); err != nil || dryRun { // first all are asked whether they would
		return DroppedSlots{Slots: found, Failed: failed}, err
	}
	if err := drop(false, progress); err != nil {
		return DroppedSlots{}, err
	}
	return DroppedSlots{Slots: found, Failed: failed}, nil
}

// withoutCopies leaves out PostgreSQL's copies of a slot that is there itself: they go with it.
func withoutCopies(slots []api.Slot) []api.Slot {
	copied := func(s api.Slot) bool { return s.For == api.ForCopy }
	if !slices.ContainsFunc(slots, func(s api.Slot) bool { return !copied(s) }) {
		return slots
	}
	return slices.DeleteFunc(slots, copied)
}

func noSlot(name, member string, failed []error) error {
	at := "any member that answers"
	if member != "" {
		at = member
	}
	text := fmt.Sprintf("there is no slot %s on %s; standfast slots lists all", name, at)
	if len(failed) > 0 {
		return api.Errorf(api.NotFound, "%s\n%w", text, errors.Join(failed...))
	}
	return api.Errorf(api.NotFound, "%s", text)
}
