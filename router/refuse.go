package router

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"

	"golang.org/x/sys/unix"
)

// refuse answers the connection with an error that its client shows.
//
// libpq hides an error that answers its SSLRequest, for that may come from anybody in between. So the request is
// answered first: TLS is made with PostgreSQL's own certificate, or turned down where there is none; then the client
// sends its StartupMessage and gets the error.
func (r *Router) refuse(side Side, fd int32, first []byte, why refusal) {
	r.refused[side].Add(1)
	r.serveAside(fd, first, func(c duplex) {
		if err := r.answer(c, why); err != nil && !errors.Is(err, io.EOF) {
			r.cfg.Log.Debug("router: answer a refused client", "client", c.RemoteAddr().String(), "err", err)
		}
	})
}

// maxOpenings bounds how often a client may ask for security before it begins: GSSAPI, TLS, then the session.
const maxOpenings = 4

func (r *Router) answer(c duplex, why refusal) error {
	cert := r.certificate()
	for range maxOpenings {
		first, p, err := readOpening(c)
		if err != nil {
			return err
		}
		switch {
		case first == openStartup:
			return lastWord(c, why.encode())
		case first == openTLS && cert != nil:
			c, err = serveTLS(&reread{c, io.MultiReader(bytes.NewReader(p), c)}, cert)
		case first == openSecure && cert != nil && binary.BigEndian.Uint32(p[4:]) == codeSSL:
			if _, err = c.Write([]byte{'S'}); err == nil {
				c, err = serveTLS(c, cert)
			}
		case first == openSecure:
			_, err = c.Write([]byte{'N'})
		default: // a CancelRequest with no server to send it to, or nothing known
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// serveTLS makes TLS as PostgreSQL does; ALPN is asked for by clients that begin with TLS at once.
func serveTLS(c net.Conn, cert *tls.Certificate) (duplex, error) {
	t := tls.Server(c, &tls.Config{
		Certificates: []tls.Certificate{*cert},
		NextProtos:   []string{"postgresql"},
		MinVersion:   tls.VersionTLS12,
	})
	return t, t.Handshake()
}

func (r *Router) certificate() *tls.Certificate {
	if r.cfg.Certificate == nil {
		return nil
	}
	cert, err := r.cfg.Certificate()
	if err != nil {
		r.cfg.Log.Warn("router: no certificate to answer an error inside TLS", "err", err)
		return nil
	}
	return cert
}

// readOpening reads one first message; of TLS only the first byte.
func readOpening(c net.Conn) (opening, []byte, error) {
	p := make([]byte, 8, 64)
	if _, err := io.ReadFull(c, p[:1]); err != nil {
		return 0, nil, err
	}
	if p[0] == tlsHandshake {
		return openTLS, p[:1], nil
	}
	if _, err := io.ReadFull(c, p[1:]); err != nil {
		return 0, nil, err
	}
	if first := classify(p); first != openPartial {
		return first, p, nil
	}
	p = append(p, make([]byte, binary.BigEndian.Uint32(p)-8)...)
	_, err := io.ReadFull(c, p[8:])
	return classify(p), p, err
}

// lastWord sends p and lets the client read it: closing with something of the client's unread would send a reset,
// which can overtake it.
func lastWord(c duplex, p []byte) error {
	if _, err := c.Write(p); err != nil {
		return err
	}
	if err := c.CloseWrite(); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, io.LimitReader(c, maxStartup))
	if errors.Is(err, unix.ECONNRESET) { // a client in a hurry
		return nil
	}
	return err
}
