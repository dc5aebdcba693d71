package mem

import (
	"context"
	"strings"

	"standfast/store"
)

// Watch implements store.Store.
func (s *Store) Watch(ctx context.Context, prefix string) <-chan store.Update {
	out := make(chan store.Update)
	if !s.opened() {
		close(out)
		return out
	}
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(s.ctx, cancel)
	go func() {
		defer s.wg.Done()
		defer close(out)
		defer cancel()
		defer stop()
		seen := known{rev: -1}
		for ctx.Err() == nil {
			u, now, changed := s.since(prefix, seen)
			seen = now
			if u.Full || len(u.Events) > 0 {
				select {
				case out <- u:
				case <-ctx.Done():
				}
				continue
			}
			select {
			case <-changed:
			case <-ctx.Done():
			}
		}
	}()
	return out
}

// opened counts one more goroutine for Close to wait for, unless the handle is closed already.
func (s *Store) opened() bool {
	s.shared.mu.Lock()
	defer s.shared.mu.Unlock()
	if s.ctx.Err() != nil {
		return false
	}
	s.wg.Add(1)
	return true
}

// known is up to where a reader knows everything; a revision of -1: nothing yet.
type known struct{ epoch, rev int64 }

// since returns what happened under the prefix after what was seen, what the reader then knows, and a channel that is
// closed when it is worth asking again.
func (s *Store) since(prefix string, seen known) (store.Update, known, <-chan struct{}) {
	sh := s.shared
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if s.down {
		return store.Update{}, seen, sh.changed
	}
	now := known{sh.epoch, sh.rev}
	anew := seen.rev >= 0 && seen.epoch != sh.epoch
	if seen.rev < 0 || anew || seen.rev < sh.compacted {
		return store.Update{Full: true, Anew: anew, Reset: sh.list(prefix)}, now, sh.changed
	}
	var u store.Update
	for _, e := range sh.log[seen.rev-sh.compacted:] {
		if strings.HasPrefix(e.KV.Key, prefix) {
			e.KV = copied(e.KV)
			u.Events = append(u.Events, e)
		}
	}
	return u, now, sh.changed
}
