package beat

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"
)

// listen reads datagrams until the socket is closed.
func (b *Beats) listen(ctx context.Context) error {
	seal := newSealer(b.cfg.Key)
	buf := make([]byte, 64<<10)
	for {
		n, _, err := b.conn.ReadFromUDPAddrPort(buf)
		switch {
		case err == nil:
			b.hear(seal, buf[:n])
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("beat: %w", err)
		default:
			b.cfg.Log.Warn("beat cannot be read", "err", err)
			select { // so that an error that stays does not burn a core
			case <-ctx.Done():
			case <-time.After(b.cfg.Interval):
			}
		}
	}
}

// hear takes in one datagram.
func (b *Beats) hear(seal *sealer, datagram []byte) {
	if isAside(datagram) {
		b.hearAside(seal, datagram)
		return
	}
	p, err := seal.open(datagram)
	if err != nil {
		b.stats.forged.Add(1)
		return
	}
	name := p.beat.From
	if _, ok := b.cfg.Peers()[name]; !ok || name == b.cfg.Self {
		b.stats.foreign.Add(1)
		return
	}
	now := time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	known := b.peers[name]
	if known == nil {
		known = &peer{}
		b.peers[name] = known
	}
	sameLife := !known.heardAt.IsZero() && known.beat.Incarnation == p.beat.Incarnation
	switch {
	case sameLife && p.beat.Seq <= known.beat.Seq:
		b.stats.replayed.Add(1)
		return
	case !sameLife && !b.proven(p, known, now):
		b.stats.unproven.Add(1)
		known.last, known.lastAt = echo{p.beat.Incarnation, p.clock, 0}, now
		signal(b.answer)
		return
	}
	b.believe(known, p, now)
}

// proven reports whether the echo in a datagram of a life not known yet shows that it was made just now.
func (b *Beats) proven(p packet, known *peer, now time.Time) bool {
	age := now.Sub(b.born) - p.echo.clock
	return p.echo.incarnation == b.incarnation && p.echo.clock > known.echoed && age >= 0 && age < freshness
}

// believe, under the lock, makes p the peer's newest beat.
func (b *Beats) believe(known *peer, p packet, now time.Time) {
	b.stats.heard.Add(1)
	newLife := known.beat.Incarnation != p.beat.Incarnation
	news := newLife || now.Sub(known.heardAt) > silence*b.cfg.Interval || !sameMeaning(known.beat, p.beat)
	if p.echo.incarnation == b.incarnation {
		known.echoed = max(known.echoed, p.echo.clock)
		known.measure(now.Sub(b.born)-p.echo.clock-p.echo.kept, p.echo.kept)
	}
	if !newLife {
		known.lost += p.beat.Seq - known.beat.Seq - 1
	}
	known.heard++
	known.beat, known.heardAt, known.last, known.lastAt = p.beat, now, echo{p.beat.Incarnation, p.clock, 0}, now
	if newLife {
		signal(b.answer) // it may still be waiting for an echo to believe us by
	}
	if news {
		signal(b.changed)
	}
}

// measure takes in one round trip, without the time that the peer kept the echo. It is smoothed as TCP's is (RFC 6298): a member
// that was late once shows as that, and not for long. An older release does not tell how long it kept the echo.
func (p *peer) measure(trip, kept time.Duration) {
	switch {
	case kept < 0 || trip < 0:
	case p.trip == 0:
		p.trip = trip
	default:
		p.trip += (trip - p.trip) / 8
	}
}
