package api

import (
	"context"
	"net/http"
	"time"

	"standfast/cluster"
)

// Salvaged is what a member keeps of what a rewind discarded. Its JSON is a part of the answer to GET /salvage; keys are only ever added.
type Salvaged struct {
	Member       string           `json:"member"`
	Dir          string           `json:"dir"`
	At           time.Time        `json:"at"` // of the rewind
	Timeline     cluster.Timeline `json:"timeline"`
	Fork         cluster.LSN      `json:"fork"` // where the cluster's history left this member's
	Files        int              `json:"files"`
	Bytes        int64            `json:"bytes"`
	Partial      bool             `json:"partial"` // more was discarded than was kept, or can be told of
	Transactions []Discarded      `json:"transactions"`
	Trouble      string           `json:"trouble,omitempty"` // why not all of it could be read
}

// Discarded is a transaction that was committed on the member and is not in the cluster's history.
type Discarded struct {
	XID       uint64      `json:"xid"`
	Committed time.Time   `json:"committed,omitzero"`
	LSN       cluster.LSN `json:"lsn"`
	Own       bool        `json:"own,omitempty"` // Standfast's own bookkeeping, and nothing else
	Rows      []Rows      `json:"rows"`
}

// Rows is what a transaction did to one relation.
type Rows struct {
	Relation  string `json:"relation"` // "database: schema.relation", or tablespace/database/file where the cluster has none by that file
	Inserted  int    `json:"inserted,omitempty"`
	Updated   int    `json:"updated,omitempty"`
	Deleted   int    `json:"deleted,omitempty"`
	Truncated bool   `json:"truncated,omitempty"`
}

// salvageTime bounds the reading of what is kept.
const salvageTime = 2 * time.Minute

func (c *changes) getSalvage(w http.ResponseWriter, r *http.Request) {
	if c.salvage == nil {
		c.fail(w, r, Errorf(NotFound, "this member holds no data"))
		return
	}
	if !c.salvaging.TryLock() {
		c.fail(w, r, Errorf(Conflict, "this member reads its discarded WAL for somebody else just now: ask again in a minute"))
		return
	}
	defer c.salvaging.Unlock()
	ctx, cancel := context.WithTimeout(r.Context(), salvageTime)
	defer cancel()
	found, err := c.salvage(ctx)
	if err != nil {
		c.fail(w, r, err)
		return
	}
	c.health.write(w, r, jsonAnswer(append([]Salvaged{}, found...)))
}
