package certs

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"time"
)

// Pin names an authority: the SHA-256 of its certificate's public key (SubjectPublicKeyInfo), as in RFC 7469.
type Pin [sha256.Size]byte

// String is the pin in URL-safe base64, 43 characters.
func (p Pin) String() string { return base64.RawURLEncoding.EncodeToString(p[:]) }

// ParsePin reads what String gives.
func ParsePin(text string) (Pin, error) {
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(b) != sha256.Size {
		return Pin{}, errors.New("it is not the hash of a certificate authority's key")
	}
	return Pin(b), nil
}

// PinOf is the pin of the first certificate of a PEM text.
func PinOf(text []byte) (Pin, error) {
	cert, err := parseCert(text)
	if err != nil {
		return Pin{}, err
	}
	return pinOf(cert), nil
}

// Pin is the authority's own.
func (ca *CA) Pin() Pin { return pinOf(ca.cert) }

func pinOf(cert *x509.Certificate) Pin { return sha256.Sum256(cert.RawSubjectPublicKeyInfo) }

// All reads every certificate of a PEM text that can be read.
func All(text []byte) []*x509.Certificate {
	var out []*x509.Certificate
	for _, b := range blocks(text) {
		if c, err := x509.ParseCertificate(b); err == nil {
			out = append(out, c)
		}
	}
	return out
}

// Trusts reports whether the authority is among those of a PEM text.
func Trusts(text []byte, ca *CA) bool {
	for _, b := range blocks(text) {
		if bytes.Equal(b, ca.cert.Raw) {
			return true
		}
	}
	return false
}

// PinnedTLS is for a client that knows no more of a cluster than its authority's pin. The handshake fails, before the client
// has sent anything of its own, unless the server sends the authority that the pin names and a valid certificate that is signed by
// it. Which of the cluster's members it is, and at which address it was reached, does not matter: any may answer.
func PinnedTLS(pin Pin) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS13, // its handshake is over when the server is known
		InsecureSkipVerify: true,             // the check below takes the place of crypto/tls's own, which needs the authority beforehand
		VerifyConnection:   func(s tls.ConnectionState) error { return verifyPinned(s.PeerCertificates, pin, time.Now()) },
	}
}

func verifyPinned(chain []*x509.Certificate, pin Pin, now time.Time) error {
	if len(chain) == 0 {
		return errors.New("the server shows no certificate")
	}
	roots := x509.NewCertPool()
	found := false
	for _, c := range chain[1:] {
		if c.IsCA && pinOf(c) == pin {
			roots.AddCert(c)
			found = true
		}
	}
	if !found {
		return errors.New("the server belongs to another cluster than the token, or somebody stands in between")
	}
	_, err := chain[0].Verify(x509.VerifyOptions{Roots: roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	return err
}

// OpenTLS is ServerTLS for clients that have no certificate. The authorities are sent along with the member's, so that a client
// that knows a Pin only can find the one it stands for.
func OpenTLS(f Files) (*tls.Config, error) {
	k := &keeper{files: f}
	first, err := k.current()
	if err != nil {
		return nil, err
	}
	config := openConfig(first)
	config.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		m, err := k.current()
		if err != nil {
			return nil, err
		}
		return openConfig(m), nil
	}
	return config, nil
}

func openConfig(m *material) *tls.Config {
	pair := m.pair
	pair.Certificate = append(append([][]byte(nil), pair.Certificate...), m.authorities...)
	return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}}
}

// blocks are the contents of all certificates in a PEM text.
func blocks(text []byte) [][]byte {
	var out [][]byte
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			return out
		}
		if block.Type == "CERTIFICATE" {
			out = append(out, block.Bytes)
		}
	}
}
