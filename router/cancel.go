package router

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"
)

// keyring knows which server each plaintext session's cancel key belongs to.
type keyring struct {
	mu sync.Mutex
	at map[cancelKey]netip.AddrPort
}

func (k *keyring) add(key cancelKey, at netip.AddrPort) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.at[key] = at
}

// remove forgets the key, unless another server's session has the same by now.
func (k *keyring) remove(key cancelKey, at netip.AddrPort) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.at[key] == at {
		delete(k.at, key)
	}
}

func (k *keyring) find(key cancelKey) (netip.AddrPort, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	at, ok := k.at[key]
	return at, ok
}

// cancelDial bounds the connection to one server for a CancelRequest.
const cancelDial = 3 * time.Second

// carryCancel brings a CancelRequest to the server whose session it means: by its key if that is known, else to all that
// it could mean (table.cancelTargets). This is the place to withhold one while its session waits for a commit.
//
// A CancelRequest inside TLS (libpq since 17) can't be told from a session and is routed like one: on the writing
// side it reaches the primary, on the reading side one of the standbys, which is the right one only if there is one.
func (r *Router) carryCancel(fd int32, side Side, packet []byte) {
	r.cancels.Add(1)
	targets := r.table.cancelTargets(side)
	if at, ok := r.keys.find(keyOf(packet)); ok {
		targets = []netip.AddrPort{at}
	}
	r.serveAside(fd, nil, func(duplex) {
		var g sync.WaitGroup
		for _, at := range targets {
			g.Go(func() {
				if err := sendCancel(r.ctx, at, packet); err != nil {
					r.cfg.Log.Warn("router: carry a cancel request", "server", at.String(), "err", err)
				}
			})
		}
		g.Wait() // the client takes the close of its connection for "done"
	})
}

// sendCancel returns when the server has closed the connection, which it does once it has acted.
func sendCancel(ctx context.Context, at netip.AddrPort, packet []byte) error {
	d := net.Dialer{Timeout: cancelDial}
	c, err := d.DialContext(ctx, "tcp", at.String())
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(asideFor)) // fails only on a closed one
	defer context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })()
	if _, err := c.Write(packet); err != nil {
		return err
	}
	if _, err = c.Read(make([]byte, 1)); errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
