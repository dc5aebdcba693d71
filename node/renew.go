package node

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"time"

	"standfast/api"
	"standfast/certs"
)

// certificatePace is how often this member's certificate is looked at.
const certificatePace = time.Hour

// keepCertificates renews this member's certificate when a third of its life is left. What uses the files reads them again: the
// agent's listeners and its own connections, etcd at each handshake, PostgreSQL at a reload.
func (n *Node) keepCertificates(ctx context.Context) error {
	for {
		if err := n.renewIfDue(ctx, time.Now()); err != nil && ctx.Err() == nil {
			n.log.Error("renew this member's certificate; it is tried again within the hour", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(certificatePace):
		}
	}
}

// due reports whether a certificate is to be renewed.
func due(cert *x509.Certificate, now time.Time) bool {
	return cert.NotAfter.Sub(now) < cert.NotAfter.Sub(cert.NotBefore)/3
}

func (n *Node) renewIfDue(ctx context.Context, now time.Time) error {
	cert, err := n.tls.files.Leaf()
	if err != nil {
		return err
	}
	if !due(cert, now) {
		return nil
	}
	_, err = n.renew(ctx, cert, now)
	return err
}

// renew replaces this member's key and certificate, which is good for the same names as before. Connections that are open stay.
func (n *Node) renew(ctx context.Context, old *x509.Certificate, now time.Time) (*x509.Certificate, error) {
	ca, err := n.authority(ctx)
	if err != nil {
		return nil, err
	}
	trusted, err := os.ReadFile(n.tls.files.CA)
	if err != nil {
		return nil, fmt.Errorf("read the trusted authorities: %w", err)
	}
	if !certs.Trusts(trusted, ca) {
		return nil, fmt.Errorf("the cluster's authority is not among those in %s: copy that file from another member", n.tls.files.CA)
	}
	pair, err := ca.Issue(n.cfg.Name, append(certs.Addresses(old), n.cfg.Self().Address), now)
	if err != nil {
		return nil, err
	}
	if err := n.tls.files.Write(trusted, pair); err != nil {
		return nil, err
	}
	fresh, err := n.tls.files.Leaf()
	if err != nil {
		return nil, err
	}
	n.log.Info("renewed this member's certificate", "until", fresh.NotAfter.UTC().Format(time.DateOnly))
	if v := n.view.Load(); n.pg != nil && v != nil && v.Postgres.Up {
		if err := n.pg.Reload(ctx); err != nil {
			return fresh, errors.Join(errors.New("PostgreSQL shows its old certificate until its next reload"), err)
		}
	}
	return fresh, nil
}

// RenewCertificate is what an operator asks for who does not want to wait until it is due.
func (n *Node) RenewCertificate(ctx context.Context, r api.RenewRequest, progress func(api.Progress)) error {
	if err := n.concernsMe(r.Member); err != nil {
		return err
	}
	old, err := n.tls.files.Leaf()
	if err != nil {
		return api.Errorf(api.Internal, "%w", err)
	}
	fresh, err := n.renew(ctx, old, time.Now())
	if err != nil {
		return api.Errorf(api.Unavailable, "renew the certificate of %s: %w", n.cfg.Name, err)
	}
	progress(api.Progress{Member: n.cfg.Name, Step: "certificate", Text: n.cfg.Name + " has a new certificate, good until " + fresh.NotAfter.UTC().Format(time.DateOnly)})
	return nil
}
