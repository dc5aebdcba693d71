package api

import (
	"context"
	"net/http"

	"standfast/cluster"
)

// SlotFor says what a replication slot is for.
type SlotFor string

// What slots are for. Strangers' slots are nobody's that the cluster knows of: a failover does not keep them but for those that PostgreSQL copies (Slot.Failover),
// and they may be dropped.
const (
	ForMember    SlotFor = "member"
	ForClient    SlotFor = "replication client" // declared in postgresql.replication_clients
	ForLogical   SlotFor = "logical"            // declared in postgresql.slots
	ForCopy      SlotFor = "copy"               // PostgreSQL's own of a slot on the primary, for a failover
	ForNobody    SlotFor = "undeclared"         // was declared once: it goes by itself as soon as nobody uses it
	ForSession   SlotFor = "session"            // temporary: it goes with the session that made it
	ForStrangers SlotFor = "stranger"
)

// Slot is a replication slot on one member's server. Its JSON is a part of the answer to GET /slots; keys are only ever added.
type Slot struct {
	Member   string      `json:"member"` // whose server it is on
	Name     string      `json:"name"`
	Kind     string      `json:"kind"` // physical, logical
	For      SlotFor     `json:"for"`
	Whose    string      `json:"whose,omitempty"` // the member's or client's name
	Database string      `json:"database,omitempty"`
	Plugin   string      `json:"plugin,omitempty"`
	Failover bool        `json:"failover,omitempty"`  // PostgreSQL copies it to standbys (from version 17 on), declared or not
	Active   bool        `json:"active"`              // somebody receives from it now
	Client   string      `json:"client,omitempty"`    // who: application, address
	From     cluster.LSN `json:"from,omitempty"`      // WAL is kept from here on; 0: none is
	Held     int64       `json:"held_bytes"`          // how much that is
	Status   string      `json:"wal_status,omitzero"` // reserved, extended, unreserved, lost
}

// DropSlotRequest drops a stranger's slot on the member that is asked.
type DropSlotRequest struct {
	By
	Member string `json:"member,omitempty"` // refused with 409 unless it is the one asked
	Name   string `json:"name"`
	DryRun bool   `json:"dry_run,omitempty"` // say what would happen, change nothing
}

func (c *changes) getSlots(w http.ResponseWriter, r *http.Request) {
	if c.slots == nil {
		c.fail(w, r, Errorf(NotFound, "this member holds no data"))
		return
	}
	slots, err := c.slots(r.Context())
	if err != nil {
		c.fail(w, r, err)
		return
	}
	c.health.write(w, r, jsonAnswer(append([]Slot{}, slots...)))
}

func parseDropSlot(c *changes, r *parsed) (act, error) {
	q := DropSlotRequest{}
	if err := decode(r.body, &q); err != nil {
		return nil, err
	}
	if q.Name == "" {
		return nil, Errorf(Invalid, "name: which slot?")
	}
	q.By = r.by
	if _, err := c.asked(q.Member); err != nil {
		return nil, err
	}
	return func(ctx context.Context, p func(Progress)) error { return c.ops.DropSlot(ctx, q, p) }, nil
}
