package router

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Cancels say how CancelRequests reach a server. The zero value sends them there unasked.
//
// PostgreSQL takes a commit whose wait for other hosts is cancelled for done. Only the host that a server runs on can ask
// what the session does that a request means, so the routers of all others hand the request to that one's router, which
// alone brings it to the server, or doesn't. What it can't be handed to is not delivered.
type Cancels struct {
	// Self is the member on whose host this router runs.
	Self string

	// Here brings a CancelRequest, as it came, to this host's server, or says why it withholds it; an error says that it was
	// not delivered. It may be called many times at once and with any request. nil: there is no server here.
	Here func(ctx context.Context, request []byte) (withheld string, err error)

	// Sealed says why a request that is inside TLS, and so for a session that nobody knows, must not reach this host's server
	// now. nil: there is no server here.
	Sealed func(ctx context.Context) (withheld string, err error)

	// RouterOf is where the router of a member's host listens, host:port of either side; "": it is not known.
	RouterOf func(member string) string
}

// home is a server as a CancelRequest finds it.
type home struct {
	member string
	at     netip.AddrPort
}

// keyring knows which server each plaintext session's cancel key belongs to.
type keyring struct {
	mu sync.Mutex
	at map[cancelKey]home
}

func (k *keyring) add(key cancelKey, at home) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.at[key] = at
}

// remove forgets the key, unless another server's session has the same by now.
func (k *keyring) remove(key cancelKey, at home) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.at[key] == at {
		delete(k.at, key)
	}
}

func (k *keyring) find(key cancelKey) (home, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	at, ok := k.at[key]
	return at, ok
}

// cancelDial bounds the connection to one server for a CancelRequest.
const cancelDial = 3 * time.Second

// carryCancel brings a CancelRequest to the server whose session it means: by its key if that is known, else to all that
// it could mean (table.cancelTargets).
//
// One inside TLS is routed like a session (see sealed.go): on the writing side it reaches the primary, on the reading side one
// of the standbys, which is the right one only if there is one.
func (r *Router) carryCancel(fd int32, side Side, packet []byte) {
	r.cancels.Add(1)
	targets := r.table.cancelTargets(side)
	if at, ok := r.keys.find(keyOf(packet)); ok {
		targets = []home{at}
	}
	r.serveAside(fd, nil, func(duplex) {
		ctx, stop := context.WithTimeout(r.ctx, asideFor)
		defer stop()
		var g sync.WaitGroup
		for _, to := range targets {
			g.Go(func() { r.cancelAt(ctx, to, packet) })
		}
		g.Wait() // the client takes the close of its connection for "done"
	})
}

// cancelAt brings the request to one server, by the router of its host.
func (r *Router) cancelAt(ctx context.Context, to home, packet []byte) {
	c := r.cfg.Cancels
	var err error
	switch {
	case c.RouterOf == nil:
		err = sendCancel(ctx, to.at.String(), packet)
	case to.member == c.Self:
		r.cancelHere(ctx, packet)
	default:
		err = errors.New("its address is not known")
		if addr := c.RouterOf(to.member); addr != "" {
			err = sendCancel(ctx, addr, recoded(packet, codeHandedOver))
		}
		if err != nil {
			err = fmt.Errorf("hand it to the router of the server's host, which alone may deliver it: %w", err)
		}
	}
	if err != nil {
		r.cancelLost(to.member, err)
	}
}

// takeCancel takes over a request that another router has handed over. It goes no further than to this host's server.
// Anybody can send one: it has less effect than the CancelRequest that the sender could send just as well.
func (r *Router) takeCancel(fd int32, packet []byte) {
	r.serveAside(fd, nil, func(c duplex) {
		ctx, stop := context.WithTimeout(r.ctx, asideFor)
		defer stop()
		if binary.BigEndian.Uint32(packet[4:]) == codeMaySealed {
			r.answerSealed(ctx, c)
			return
		}
		r.cancelHere(ctx, recoded(packet, codeCancel))
	})
}

// cancelHere brings the request to this host's server, unless it would give up a commit.
func (r *Router) cancelHere(ctx context.Context, packet []byte) {
	c := r.cfg.Cancels
	if c.Here == nil {
		r.cancelLost(c.Self, errors.New("this host has no server"))
		return
	}
	why, err := c.Here(ctx, packet)
	switch {
	case err != nil:
		r.cancelLost(c.Self, err)
	case why != "":
		r.cancelWithheld(why)
	}
}

func (r *Router) cancelWithheld(why string) {
	total := r.withheld.Add(1)
	if r.cancelLog.due() {
		r.cfg.Log.Info("router: withheld a cancel request", "why", why, "withheld", total)
	}
}

// cancelLost notes a request that was not delivered.
func (r *Router) cancelLost(member string, err error) {
	total := r.cancelsLost.Add(1)
	if r.cancelLog.due() {
		r.cfg.Log.Warn("router: carry a cancel request: it was not delivered", "server", member, "err", err, "lost", total)
	}
}

// pacer lets something be done at most once a second: whoever reaches the router can make it note a request.
type pacer struct {
	mu   sync.Mutex
	last time.Time
}

func (p *pacer) due() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if now.Sub(p.last) < time.Second {
		return false
	}
	p.last = now
	return true
}

// recoded is a copy of the request under another code.
func recoded(packet []byte, code uint32) []byte {
	p := append([]byte(nil), packet...)
	binary.BigEndian.PutUint32(p[4:], code)
	return p
}

// sendCancel returns when the other side has closed the connection, which it does once it has acted.
func sendCancel(ctx context.Context, addr string, packet []byte) error {
	d := net.Dialer{Timeout: cancelDial}
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })() // fails only on a closed one
	if _, err := c.Write(packet); err != nil {
		return err
	}
	n, err := c.Read(make([]byte, 1))
	if n == 0 && errors.Is(err, io.EOF) {
		return nil
	}
	return cmp.Or(err, errors.New("it was answered, and not as a cancel request is")) // by a server, or a router of an older version
}
