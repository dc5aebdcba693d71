package probe

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"standfast/vip"
)

// How long an address may take to be reached, and how often that is tried. A host that has not heard that the address has moved asks for
// it again after some five seconds (arp(7), base_reachable_time and delay_first_probe_time).
const (
	meetTime = 8 * time.Second
	meetGap  = 10 * time.Millisecond
)

// CarryTime is when the kernel of a host takes an address away that a trial has left there.
const CarryTime = vip.LoanTime

// carry prepares; what it opens waits for the first datagram, and ends the trial when it is closed.
func (a *Answer) carry(ctx context.Context, c Carry) []io.Closer {
	t, err := c.prepare(ctx)
	if err != nil {
		a.Carry = err.Error()
		return nil
	}
	t.wait.Go(t.run)
	return []io.Closer{t}
}

func (c Carry) prepare(ctx context.Context) (*trial, error) {
	floating, err := c.floating()
	if err != nil {
		return nil, err
	}
	loan, err := vip.Lend(ctx, floating)
	if err != nil {
		return nil, err
	}
	bell, err := net.ListenPacket("udp", c.At)
	if err != nil {
		return nil, errors.Join(err, loan.End())
	}
	return &trial{bell: bell, loan: loan, end: c.end()}, nil
}

func (c Carry) floating() (vip.Address, error) {
	ip, err := netip.ParseAddr(c.Address)
	return vip.Address{IP: ip, Interface: c.Interface, Bits: c.Prefix}, err
}

// end is where the address is tried at: the carrier's own port, which its firewall has to let through anyway.
func (c Carry) end() string {
	_, port, _ := net.SplitHostPort(c.At) // it has been listened at
	return net.JoinHostPort(c.Address, port)
}

// trial is an address that is carried.
type trial struct {
	bell net.PacketConn
	loan *vip.Loan
	end  string // where the address is reached at
	wait sync.WaitGroup
}

// Close takes the address off.
func (t *trial) Close() error {
	err := t.bell.Close()
	t.wait.Wait()
	return errors.Join(err, t.loan.End())
}

// run carries the address from the first datagram on, and says to each how that went.
func (t *trial) run() {
	var answers net.PacketConn
	var echoes sync.WaitGroup
	defer func() {
		if answers != nil {
			answers.Close()
		}
		echoes.Wait()
	}()
	said := ""
	for buf := make([]byte, 64); ; {
		_, from, err := t.bell.ReadFrom(buf)
		if err != nil {
			return // closed
		}
		if said == "" {
			said = carried
			if answers, err = t.begin(); err != nil {
				said = err.Error()
			} else {
				echoes.Go(func() { echo(answers) })
			}
		}
		_, _ = t.bell.WriteTo([]byte(said), from) // who hears nothing asks again
	}
}

// carried is what the carrier says when it does.
const carried = "carried"

func (t *trial) begin() (net.PacketConn, error) {
	if err := t.loan.Begin(); err != nil {
		return nil, err
	}
	return net.ListenPacket("udp", t.end)
}

// meet listens before it tells the carrier to begin.
func (m Meet) meet(ctx context.Context) (out Met) {
	ctx, cancel := context.WithTimeout(ctx, meetTime)
	defer cancel()
	floating, err := m.floating()
	if err != nil {
		return Met{Error: err.Error()}
	}
	heard := make(chan time.Time, 1)
	stop, err := vip.Hear(floating, func(c vip.Conflict) {
		select {
		case heard <- c.At:
		default:
		}
	})
	if err != nil {
		return Met{Error: err.Error()}
	}
	defer stop()
	began := time.Now()
	if err := m.tell(ctx); err != nil {
		return Met{Error: err.Error()}
	}
	if at, ok := answer(ctx, m.end()); ok {
		out.Reached = at.Sub(began)
	}
	select {
	case at := <-heard:
		out.Heard = at.Sub(began)
	case <-time.After(repeats): // an announcement or two more
	case <-ctx.Done():
	}
	return out
}

// repeats is time enough for the carrier to announce the address once or twice more.
const repeats = time.Second

// tell rings the carrier until it says that it carries the address.
func (m Meet) tell(ctx context.Context) error {
	c, err := (&net.Dialer{}).DialContext(ctx, "udp", m.At)
	if err != nil {
		return err
	}
	defer c.Close()
	buf := make([]byte, 512)
	for ctx.Err() == nil {
		if _, err := c.Write([]byte("carry")); err != nil {
			return err
		}
		if err := c.SetReadDeadline(time.Now().Add(reachTime / 4)); err != nil {
			return err
		}
		n, err := c.Read(buf)
		switch {
		case err != nil: // lost on the way
		case bytes.Equal(buf[:n], []byte(carried)):
			return nil
		default:
			return errors.New(string(buf[:n]))
		}
	}
	return fmt.Errorf("tell the host at %s to carry it: %w", m.At, context.Cause(ctx))
}

// answer sends datagrams until one comes back. Errors on the way are those of an address that is not there yet.
func answer(ctx context.Context, to string) (time.Time, bool) {
	c, err := (&net.Dialer{}).DialContext(ctx, "udp", to)
	if err != nil {
		return time.Time{}, false
	}
	defer c.Close()
	buf := make([]byte, 64)
	for ctx.Err() == nil {
		sent := time.Now()
		_, werr := c.Write([]byte("standfast"))
		if err := c.SetReadDeadline(sent.Add(meetGap)); err != nil {
			return time.Time{}, false
		}
		if _, err := c.Read(buf); err == nil {
			return time.Now(), true
		}
		if werr != nil { // at once: there is no deadline to wait for
			select {
			case <-ctx.Done():
			case <-time.After(meetGap):
			}
		}
	}
	return time.Time{}, false
}
