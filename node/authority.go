package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"standfast/certs"
	"standfast/join"
	"standfast/store"
)

// authority is the cluster's certificate authority, which every member can open: the one that the store holds, or, while there is
// none or no majority (a cluster that is being founded has neither), the one beside this member's certificate.
func (n *Node) authority(ctx context.Context) (*certs.CA, error) {
	secret, err := n.secret()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	kv, err := n.store.Authority(ctx)
	if err == nil {
		return certs.Open(kv.Value, secret)
	}
	text, ferr := os.ReadFile(certs.Sealed(n.cfg.TLSDir))
	if ferr != nil {
		return nil, fmt.Errorf("find the certificate authority: %w", errors.Join(err, ferr))
	}
	return certs.Open(text, secret)
}

// seedPace is how long after a write whose outcome is not known the authority is looked for again.
const seedPace = time.Second

// seedAuthority puts the authority of this member's directory into the store, if that has none, the moment a majority can agree on it:
// the others have no authority to sign by until then, and an operator may want new certificates as soon as the cluster is whole.
// It returns when the store has one, when this directory has none, or when ctx ends.
func (n *Node) seedAuthority(ctx context.Context) error {
	for ctx.Err() == nil {
		_, err := n.store.Authority(ctx) // waits for a majority
		if err == nil {
			return nil
		}
		if errors.Is(err, store.ErrNotFound) {
			text, ferr := os.ReadFile(certs.Sealed(n.cfg.TLSDir))
			if errors.Is(ferr, fs.ErrNotExist) {
				return nil // another member has it
			}
			if ferr != nil {
				n.log.Error("read the sealed certificate authority", "error", ferr)
				return nil
			}
			if n.putAuthority(ctx, text) == nil {
				return nil
			} // else another member was faster, or nobody knows: look
		}
		select {
		case <-ctx.Done():
		case <-time.After(seedPace):
		}
	}
	return nil
}

func (n *Node) putAuthority(ctx context.Context, text []byte) error {
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	return n.store.PutAuthority(ctx, text, 0)
}

// invitations are this member's.
func (n *Node) invitations() join.Dir { return InvitationsIn(n.cfg.StateDir) }

// InvitationsIn is where a member with that state directory keeps its invitations.
func InvitationsIn(stateDir string) join.Dir { return join.Dir(filepath.Join(stateDir, "invitations")) }

// desk answers hosts that were invited here.
func (n *Node) desk() *join.Desk {
	return &join.Desk{Cluster: n.cfg.Cluster, Dir: n.invitations(), Log: n.log.With("part", "join"), Admit: n.admit}
}

// admit gives a host what makes it a member.
func (n *Node) admit(ctx context.Context, csr []byte, a *join.Answer) error {
	ca, err := n.authority(ctx)
	if err != nil {
		return err
	}
	cert, err := ca.Sign(csr, a.Member, []string{a.Address}, time.Now())
	if err != nil {
		return err
	}
	trusted, err := os.ReadFile(n.tls.files.CA)
	if err != nil {
		return fmt.Errorf("read the trusted authorities: %w", err)
	}
	secret, err := n.secret()
	if err != nil {
		return err
	}
	token, err := os.ReadFile(n.cfg.TokenFile)
	if err != nil {
		return fmt.Errorf("read the operators' token: %w", err)
	}
	a.Certificate, a.Authorities = string(cert), string(trusted)
	a.Secret, a.Token = string(secret), strings.TrimSpace(string(token))
	return nil
}
