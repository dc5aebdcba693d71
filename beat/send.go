package beat

import (
	"context"
	"net/netip"
	"time"

	"standfast/cluster"
	"standfast/internal/grid"
)

// sender is the state of the sending goroutine.
type sender struct {
	b      *Beats
	seal   *sealer
	seq    uint64
	buf    []byte
	failed map[string]string // by peer: the error last logged
}

// send says the beat at every interval, twice after a change and once for a stranger.
func (b *Beats) send(ctx context.Context) {
	s := &sender{b: b, seal: newSealer(b.cfg.Key), failed: make(map[string]string)}
	due := time.Now()
	tick := time.NewTimer(0)
	defer tick.Stop()
	again := time.NewTimer(time.Hour)
	again.Stop()
	defer again.Stop()
	var answered time.Time
	for {
		select {
		case <-ctx.Done():
			select {
			case <-b.kick:
				s.all()
			default:
			}
			return
		case <-tick.C:
			now := time.Now()
			late := now.Sub(due)
			due = now.Add(grid.Until(now, b.cfg.Interval)) // lateness is not added up, nor is a pause caught up on
			b.stall.note(now, late, due)
			tick.Reset(due.Sub(now))
		case <-b.kick:
			again.Reset(burstGap)
		case <-again.C:
		case <-b.answer:
			if time.Since(answered) < answerGap {
				continue // the next beat will do
			}
			answered = time.Now()
		}
		s.all()
	}
}

// all sends one beat to every peer.
func (s *sender) all() {
	b := s.b
	b.mu.Lock()
	said, stale := b.said, b.stale()
	b.mu.Unlock()
	if stale {
		return
	}
	s.seq++
	said.From, said.Incarnation, said.Seq = b.cfg.Self, b.incarnation, s.seq
	said.StallMS = uint32(min(b.Stall().Milliseconds(), 1<<31))
	said.Wall = time.Now().UnixMilli()
	body, err := encode(said)
	if err != nil {
		b.cfg.Log.Error("beat cannot be encoded", "err", err)
		return
	}
	for name, addr := range b.others() {
		to, ok := b.names.lookup(addr)
		if !ok {
			b.stats.unresolved.Add(1)
			continue
		}
		s.one(name, to, said, body)
	}
}

func (s *sender) one(name string, to netip.AddrPort, said cluster.Beat, body []byte) {
	b := s.b
	p := packet{beat: said, clock: time.Since(b.born)}
	b.mu.Lock()
	if known := b.peers[name]; known != nil {
		p.echo = known.last
		if !known.lastAt.IsZero() {
			p.echo.kept = time.Since(known.lastAt)
		}
	}
	b.mu.Unlock()
	s.buf = s.seal.seal(s.buf[:0], p, body)
	if _, err := b.conn.WriteToUDPAddrPort(s.buf, to); err != nil {
		// ENETUNREACH while a link is down, EPERM from a packet filter: the beat is lost as on the wire, and told once.
		b.stats.sendErrors.Add(1)
		if s.failed[name] != err.Error() {
			s.failed[name] = err.Error()
			b.cfg.Log.Warn("beat cannot be sent", "to", name, "err", err)
		}
		return
	}
	b.stats.sent.Add(1)
	if len(s.failed) > 0 {
		delete(s.failed, name)
	}
}
