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

// seedAuthority puts the authority of this member's directory into the store, if that has none. It reports whether there is nothing
// left to do: only a store that has not answered is asked again.
func (n *Node) seedAuthority(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	_, err := n.store.Authority(ctx)
	if !errors.Is(err, store.ErrNotFound) {
		return err == nil
	}
	text, err := os.ReadFile(certs.Sealed(n.cfg.TLSDir))
	if errors.Is(err, fs.ErrNotExist) {
		return true // another member has it
	}
	if err != nil {
		n.log.Error("read the sealed certificate authority", "error", err)
		return true
	}
	return n.store.PutAuthority(ctx, text, 0) == nil // or another member was faster, which the next look shows
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
