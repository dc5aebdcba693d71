package certs_test

import (
	"bytes"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"strings"
	"testing"
	"time"

	"standfast/certs"
)

// TestSign: the key stays with whoever asks, and nothing of the request but the key counts.
func TestSign(t *testing.T) {
	ca := newCA(t, "one")
	csr, key, err := certs.Request("pg9")
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.Sign(csr, "pg2", []string{"10.0.0.2"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if c := parse(t, cert); c.Subject.CommonName != "pg2" || c.VerifyHostname("10.0.0.2") != nil || c.VerifyHostname("pg9") == nil {
		t.Errorf("issued for %s, %v", c.Subject.CommonName, certs.Addresses(c))
	}
	if _, err := tls.X509KeyPair(cert, key); err != nil {
		t.Error(err)
	}
	block, _ := pem.Decode(csr)
	block.Bytes[len(block.Bytes)-1] ^= 1 // the signature, by which whoever asks shows to have the key
	for what, bad := range map[string][]byte{"changed": pem.EncodeToMemory(block), "no request": cert, "nothing": nil} {
		if _, err := ca.Sign(bad, "pg2", nil, time.Now()); err == nil {
			t.Errorf("%s: it was signed", what)
		}
	}
}

// TestPinned: a client that has the pin only speaks to members of that cluster, and to nobody else.
func TestPinned(t *testing.T) {
	dir := t.TempDir()
	one, two := newCA(t, "one"), newCA(t, "two")
	open, err := certs.OpenTLS(write(t, dir, one, "pg1"))
	if err != nil {
		t.Fatal(err)
	}
	addr := listen(t, open)
	if name, err := dial(t, addr, certs.PinnedTLS(one.Pin())); err != nil || name != "pg1" {
		t.Errorf("with the right pin: %q, %v", name, err)
	}
	if _, err := dial(t, addr, certs.PinnedTLS(two.Pin())); err == nil || !strings.Contains(err.Error(), "another cluster") {
		t.Errorf("with another cluster's pin: %v", err)
	}
	// Somebody in between can send the right authority along, but has no certificate that is signed by it.
	f := certs.In(t.TempDir())
	install(t, f, one.Cert, two, "pg1")
	impostor, err := certs.OpenTLS(f)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := dial(t, listen(t, impostor), certs.PinnedTLS(one.Pin())); err == nil {
		t.Error("an impostor was believed")
	}
	for _, bad := range []string{"", "x", one.Pin().String() + "AA", one.Pin().String()[1:]} {
		if _, err := certs.ParsePin(bad); err == nil {
			t.Errorf("%q is taken for a pin", bad)
		}
	}
	if p, err := certs.ParsePin(one.Pin().String()); err != nil || p != one.Pin() {
		t.Errorf("%v, %v", p, err)
	}
}

func TestSeal(t *testing.T) {
	ca := newCA(t, "one")
	text, err := ca.Seal([]byte("the secret of the cluster"))
	if err != nil {
		t.Fatal(err)
	}
	if block, _ := pem.Decode(ca.Key); bytes.Contains(text, block.Bytes) || bytes.Contains(text, []byte("PRIVATE KEY")) {
		t.Error("the key lies open")
	}
	back, err := certs.Open(text, []byte("the secret of the cluster"))
	if err != nil || !bytes.Equal(back.Key, ca.Key) || back.Pin() != ca.Pin() {
		t.Errorf("opened: %v", err)
	}
	if _, err := certs.Open(text, []byte("another")); !errors.Is(err, certs.ErrSealed) {
		t.Errorf("with another secret: %v", err)
	}
	other, err := newCA(t, "one").Seal([]byte("the secret of the cluster"))
	if err != nil {
		t.Fatal(err)
	}
	from, to := bytes.Index(text, []byte(`"nonce"`)), bytes.Index(other, []byte(`"nonce"`))
	if _, err := certs.Open(append(append([]byte{}, text[:from]...), other[to:]...), []byte("the secret of the cluster")); err == nil {
		t.Error("a key was opened beside another's certificate")
	}
}
