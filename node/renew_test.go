package node

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"standfast/api"
	"standfast/certs"
	"standfast/join"
	"standfast/store"
	"standfast/store/mem"
)

// certified is a bare node with a certificate that was issued at the given time, beside a sealed authority.
func certified(t *testing.T, issued time.Time) (*Node, *certs.CA) {
	t.Helper()
	n, _ := bare(t, "pg1")
	dir := t.TempDir()
	n.cfg.TLSDir, n.cfg.SecretFile, n.cfg.TokenFile = dir, filepath.Join(dir, "secret"), filepath.Join(dir, "token")
	n.tls.files = certs.In(dir)
	ca, err := certs.NewCA("main", issued)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := ca.Issue("pg1", []string{"db.example.org"}, issued)
	secret := strings.Repeat("s", 32)
	for _, err := range []error{
		err, n.tls.files.Write(ca.Cert, pair), ca.WriteSealed(dir, []byte(secret)),
		os.WriteFile(n.cfg.SecretFile, []byte(secret+"\n"), 0o600), os.WriteFile(n.cfg.TokenFile, []byte("token\n"), 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return n, ca
}

// TestRenewal: a certificate is renewed when a third of its life is left, with another key, for the same names.
func TestRenewal(t *testing.T) {
	issued := time.Now()
	n, _ := certified(t, issued)
	before, err := n.tls.files.Leaf()
	if err != nil {
		t.Fatal(err)
	}
	if err := n.renewIfDue(t.Context(), issued.Add(certs.MemberLifetime*64/100)); err != nil {
		t.Fatal(err)
	}
	if now, _ := n.tls.files.Leaf(); !now.Equal(before) {
		t.Error("it was renewed before it was due")
	}
	later := issued.Add(certs.MemberLifetime * 68 / 100)
	if err := n.renewIfDue(t.Context(), later); err != nil {
		t.Fatal(err)
	}
	now, err := n.tls.files.Leaf()
	if err != nil {
		t.Fatal(err)
	}
	if now.Equal(before) || bytes.Equal(now.RawSubjectPublicKeyInfo, before.RawSubjectPublicKeyInfo) || now.NotAfter.Sub(later).Round(time.Hour) != certs.MemberLifetime {
		t.Errorf("renewed until %s", now.NotAfter)
	}
	for _, name := range []string{"db.example.org", "127.0.0.1", "pg1"} {
		if err := now.VerifyHostname(name); err != nil {
			t.Error(err)
		}
	}
	if _, err := tls.LoadX509KeyPair(n.tls.files.Cert, n.tls.files.Key); err != nil {
		t.Error(err)
	}
	if err := n.tls.files.Valid(later); err != nil {
		t.Error(err)
	}
}

// TestAuthority: the store gets it from whoever has it, once; from then on all members renew by it.
func TestAuthority(t *testing.T) {
	n, ca := certified(t, time.Now())
	if err := n.seedAuthority(t.Context()); err != nil {
		t.Fatal(err)
	}
	kv, err := n.store.Authority(t.Context())
	if err != nil || bytes.Contains(kv.Value, []byte("PRIVATE")) {
		t.Fatalf("the store has %q, %v", kv.Value, err)
	}
	if err := os.Remove(certs.Sealed(n.cfg.TLSDir)); err != nil {
		t.Fatal(err)
	}
	if got, err := n.authority(t.Context()); err != nil || got.Pin() != ca.Pin() {
		t.Errorf("%v", err)
	}
	if err := n.RenewCertificate(t.Context(), api.RenewRequest{Member: "pg1"}, func(api.Progress) {}); err != nil {
		t.Error(err)
	}
	if err := n.RenewCertificate(t.Context(), api.RenewRequest{Member: "pg2"}, func(api.Progress) {}); err == nil {
		t.Error("it was renewed for another member")
	}
	if err := os.WriteFile(n.cfg.SecretFile, []byte(strings.Repeat("x", 32)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := n.authority(t.Context()); !errors.Is(err, certs.ErrSealed) {
		t.Errorf("with another secret: %v", err)
	}
}

// TestAuthorityAtFounding: a founder has to wait for a majority, and puts the authority into the store as soon as there is one.
func TestAuthorityAtFounding(t *testing.T) {
	n, _ := certified(t, time.Now())
	shared := mem.New()
	s, other := shared.Open(), shared.Open()
	defer s.Close()
	defer other.Close()
	n.store = store.New(s, "main")
	s.SetDown(true)
	ended := make(chan error)
	go func() { ended <- n.seedAuthority(t.Context()) }()
	updates := other.Watch(t.Context(), "")
	<-updates // nothing is there
	s.SetDown(false)
	if u := <-updates; len(u.Events)+len(u.Reset) != 1 {
		t.Errorf("%+v", u)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestForeignAuthority: a certificate that the other members would not trust is not put in the place of one that they do.
func TestForeignAuthority(t *testing.T) {
	n, _ := certified(t, time.Now())
	other, err := certs.NewCA("main", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := other.Seal([]byte(strings.Repeat("s", 32)))
	if err != nil {
		t.Fatal(err)
	}
	if err := n.store.PutAuthority(t.Context(), sealed, 0); err != nil {
		t.Fatal(err)
	}
	before, _ := n.tls.files.Leaf()
	if err := n.RenewCertificate(t.Context(), api.RenewRequest{}, func(api.Progress) {}); err == nil || !strings.Contains(err.Error(), "not among those in") {
		t.Errorf("%v", err)
	}
	if now, err := n.tls.files.Leaf(); err != nil || !now.Equal(before) {
		t.Errorf("it was replaced (%v)", err)
	}
}

// TestAdmit: a host that was invited gets all that makes it a member, before there is a majority too.
func TestAdmit(t *testing.T) {
	n, ca := certified(t, time.Now())
	csr, key, err := certs.Request("pg2")
	if err != nil {
		t.Fatal(err)
	}
	a := join.Answer{Member: "pg2", Address: "10.0.0.2"}
	if err := n.admit(t.Context(), csr, &a); err != nil {
		t.Fatal(err)
	}
	if _, err := tls.X509KeyPair([]byte(a.Certificate), key); err != nil || a.Secret != strings.Repeat("s", 32) || a.Token != "token" || a.Authorities != string(ca.Cert) {
		t.Errorf("%v, %+v", err, a)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := n.store.Authority(ended); errors.Is(err, store.ErrNotFound) {
		t.Error("a store that does not answer is taken for an empty one")
	}
	if err := n.admit(ended, csr, &a); err != nil { // as without a majority
		t.Errorf("from the member's own directory: %v", err)
	}
}
