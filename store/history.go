package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"standfast/cluster"
)

const (
	// KeptHistory is how many terms the history holds; older ones are removed.
	KeptHistory = 100

	// KeptNotes is how many notes are kept; older ones are removed.
	KeptNotes = 500
)

// Entry is one term in the history: who reigned, why it came to that, how long each step took and what it cost.
type Entry struct {
	Term      cluster.Term     `json:"term"`
	Timeline  cluster.Timeline `json:"timeline"`
	Primary   string           `json:"primary"`             // of this term
	Old       string           `json:"old,omitempty"`       // of the term before; "" if there was none
	Reason    string           `json:"reason"`              // a sentence
	By        string           `json:"by"`                  // the member that began the term
	Kind      string           `json:"kind,omitempty"`      // bootstrap, adoption, failover, switchover, forced
	Fork      cluster.LSN      `json:"fork,omitempty"`      // where Timeline begins
	Steps     []cluster.Step   `json:"steps,omitempty"`     // in their order
	OutageMS  int64            `json:"outage_ms,omitempty"` // from the first step to clients being admitted, milliseconds
	Discarded string           `json:"discarded,omitempty"` // WAL of the old primary that was set aside, a sentence
	Lost      string           `json:"lost,omitempty"`      // acknowledged commits that may be lost, a sentence; "" if none can be
	At        int64            `json:"at"`                  // wall clock, milliseconds since 1970
}

// Note is one line of the cluster's diary: what a member did or saw apart from changes of the term. At and Member are its key: a
// member gives no two of its notes the same time.
type Note struct {
	At       int64             `json:"at"`     // wall clock, milliseconds since 1970
	Member   string            `json:"member"` // that wrote it
	Kind     string            `json:"kind"`   // a word; package events lists them
	Text     string            `json:"text"`   // a sentence
	Severity string            `json:"severity,omitempty"`
	Term     cluster.Term      `json:"term,omitempty"`
	About    string            `json:"about,omitempty"`  // the member that it is about, where that is another one
	By       string            `json:"by,omitempty"`     // the operator
	Remote   string            `json:"remote,omitempty"` // where the operator's request came from, host:port
	Facts    map[string]string `json:"facts,omitempty"`  // what was seen and led to it
}

// ID tells the note from every other of the cluster.
func (n Note) ID() string { return fmt.Sprintf("%020d-%s", n.At, n.Member) }

// PutHistory writes the entry of its term, replacing an earlier version of it, and then removes what is no longer wanted:
// entries beyond the newest KeptHistory, and the reports of earlier terms. An error of the removal alone is returned too,
// after the entry has been written; the next call removes what this one left.
func (c *Cluster) PutHistory(ctx context.Context, e Entry) error {
	if err := c.put(ctx, historyKey(e.Term), e); err != nil {
		return err
	}
	return errors.Join(c.keepNewest(ctx, "history/", KeptHistory), c.pruneReports(ctx, e.Term))
}

// History returns the kept entries, oldest first.
func (c *Cluster) History(ctx context.Context) ([]Entry, error) {
	return list[Entry](ctx, c, "history/")
}

// PutNote adds a note and removes the oldest beyond KeptNotes.
func (c *Cluster) PutNote(ctx context.Context, n Note) error { return c.PutNotes(ctx, []Note{n}) }

// PutNotes adds notes, or writes them again, and removes the oldest beyond KeptNotes. After an error any of them may have been
// written; it does no harm to write all again.
func (c *Cluster) PutNotes(ctx context.Context, notes []Note) error {
	for _, n := range notes {
		if err := c.put(ctx, "notes/"+n.ID(), n); err != nil {
			return err
		}
	}
	return c.keepNewest(ctx, "notes/", KeptNotes)
}

// Notes returns the kept notes, oldest first.
func (c *Cluster) Notes(ctx context.Context) ([]Note, error) { return list[Note](ctx, c, "notes/") }

// list reads all records under the folder in the order of their keys.
func list[T any](ctx context.Context, c *Cluster, folder string) ([]T, error) {
	kvs, err := c.store.List(ctx, c.prefix+folder)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", folder, err)
	}
	records := make([]T, len(kvs))
	for i, kv := range kvs {
		if err := json.Unmarshal(kv.Value, &records[i]); err != nil {
			return nil, fmt.Errorf("read %s: %w", strings.TrimPrefix(kv.Key, c.prefix), err)
		}
	}
	return records, nil
}

// keepNewest deletes all but the n last keys of the folder. The numbers in the keys have leading zeros, so that their
// order is that of their values.
func (c *Cluster) keepNewest(ctx context.Context, folder string, n int) error {
	kvs, err := c.store.List(ctx, c.prefix+folder)
	if err != nil {
		return fmt.Errorf("prune %s: %w", folder, err)
	}
	for _, kv := range kvs[:max(len(kvs)-n, 0)] {
		if err := c.store.Delete(ctx, kv.Key); err != nil {
			return fmt.Errorf("prune %s: %w", folder, err)
		}
	}
	return nil
}

// pruneReports deletes the reports of all terms before t. It never touches t's own: an election may be counting them.
func (c *Cluster) pruneReports(ctx context.Context, t cluster.Term) error {
	kvs, err := c.store.List(ctx, c.prefix+"reports/")
	if err != nil {
		return fmt.Errorf("prune reports: %w", err)
	}
	old := slices.DeleteFunc(kvs, func(kv KV) bool {
		term, _, ok := strings.Cut(strings.TrimPrefix(kv.Key, c.prefix+"reports/"), "/")
		n, err := strconv.ParseUint(term, 10, 64)
		return !ok || err != nil || cluster.Term(n) >= t
	})
	for _, kv := range old {
		if err := c.store.Delete(ctx, kv.Key); err != nil {
			return fmt.Errorf("prune reports: %w", err)
		}
	}
	return nil
}

func historyKey(t cluster.Term) string { return fmt.Sprintf("history/%020d", t) }
