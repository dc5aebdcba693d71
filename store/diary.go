package store

import (
	"context"
	"encoding/json"
	"strings"
)

// Diary is what came to the cluster's notes and history: all that is kept, at first and after an interruption, or what is new.
type Diary struct {
	Notes   []Note
	Entries []Entry // an entry comes again when it is written again
}

// WatchDiary delivers the notes and the history that are kept and then each new one. What can't be decoded is left out. The
// channel is closed when ctx ends or the store is closed.
func (c *Cluster) WatchDiary(ctx context.Context) <-chan Diary {
	out := make(chan Diary)
	updates := c.store.Watch(ctx, c.prefix)
	go func() {
		defer close(out)
		for u := range updates {
			kvs := u.Reset
			for _, e := range u.Events {
				if !e.Deleted {
					kvs = append(kvs, e.KV)
				}
			}
			d := c.diary(kvs)
			if len(d.Notes)+len(d.Entries) == 0 {
				continue
			}
			select {
			case out <- d:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out
}

func (c *Cluster) diary(kvs []KV) (d Diary) {
	for _, kv := range kvs {
		folder, _, _ := strings.Cut(strings.TrimPrefix(kv.Key, c.prefix), "/")
		switch folder {
		case "notes":
			var n Note
			if json.Unmarshal(kv.Value, &n) == nil {
				d.Notes = append(d.Notes, n)
			}
		case "history":
			var e Entry
			if json.Unmarshal(kv.Value, &e) == nil {
				d.Entries = append(d.Entries, e)
			}
		}
	}
	return d
}
