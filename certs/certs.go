// Package certs makes and loads the certificates by which the members of a cluster know one another: a certificate
// authority of the cluster's own (ECDSA on P-256) and one certificate per member, good for both ends of a connection.
package certs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"slices"
	"time"
)

const (
	// CALifetime is how long a cluster's authority is valid.
	CALifetime = 10 * 365 * 24 * time.Hour

	// MemberLifetime is how long a member's certificate is valid; it is renewed well before by the cluster.
	MemberLifetime = 365 * 24 * time.Hour

	// slack lets a certificate be used on hosts whose clocks are behind the maker's.
	slack = time.Hour
)

// Pair is a certificate with its private key, both in PEM.
type Pair struct{ Cert, Key []byte }

// CA is a cluster's certificate authority.
type CA struct {
	Pair
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// NewCA makes an authority for the cluster of that name, valid from now for CALifetime.
func NewCA(cluster string, now time.Time) (*CA, error) {
	template, err := template(cluster+" certificate authority", now, CALifetime)
	if err != nil {
		return nil, fmt.Errorf("make certificate authority: %w", err)
	}
	template.IsCA = true
	template.BasicConstraintsValid = true
	template.MaxPathLenZero = true // it signs members only
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make certificate authority: %w", err)
	}
	pair, err := sign(template, template, key, key)
	if err != nil {
		return nil, fmt.Errorf("make certificate authority: %w", err)
	}
	return ParseCA(pair)
}

// ParseCA reads an authority from its PEM forms.
func ParseCA(p Pair) (*CA, error) {
	cert, err := parseCert(p.Cert)
	if err != nil {
		return nil, fmt.Errorf("read certificate authority: %w", err)
	}
	block, _ := pem.Decode(p.Key)
	if block == nil {
		return nil, errors.New("read certificate authority: its key is not in PEM")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("read certificate authority: %w", err)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || !key.PublicKey.Equal(cert.PublicKey) {
		return nil, errors.New("read certificate authority: its key does not belong to its certificate")
	}
	return &CA{Pair: p, cert: cert, key: key}, nil
}

// Issue makes a member's certificate: CN is its name; its addresses (IP addresses or host names), its name, localhost,
// 127.0.0.1 and ::1 are what it may be called at; it is good for servers and clients, from now for MemberLifetime, but not
// beyond the authority's own end.
func (ca *CA) Issue(name string, addresses []string, now time.Time) (Pair, error) {
	csr, key, err := Request(name)
	if err != nil {
		return Pair{}, err
	}
	cert, err := ca.Sign(csr, name, addresses, now)
	return Pair{Cert: cert, Key: key}, err
}

// certify signs a member's key.
func (ca *CA) certify(key *ecdsa.PublicKey, name string, addresses []string, now time.Time) ([]byte, error) {
	template, err := template(name, now, MemberLifetime)
	if err != nil {
		return nil, fmt.Errorf("issue certificate of %s: %w", name, err)
	}
	if template.NotAfter.After(ca.cert.NotAfter) {
		template.NotAfter = ca.cert.NotAfter
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	names := append([]string{name, "localhost", "127.0.0.1", "::1"}, addresses...)
	slices.Sort(names)
	for _, a := range slices.Compact(names) {
		if ip := net.ParseIP(a); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else if a != "" {
			template.DNSNames = append(template.DNSNames, a)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, key, ca.key)
	if err != nil {
		return nil, fmt.Errorf("issue certificate of %s: %w", name, err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}

// template is what all our certificates have in common: a random serial number of 127 bits (RFC 5280, 4.1.2.2) and a
// lifetime.
func template(cn string, now time.Time, lifetime time.Duration) (*x509.Certificate, error) {
	if cn == "" {
		return nil, errors.New("a certificate needs a name")
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	return &x509.Certificate{
		SerialNumber: serial.Add(serial, big.NewInt(1)),
		Subject:      pkix.Name{CommonName: cn, Organization: []string{"standfast"}},
		NotBefore:    now.Add(-slack),
		NotAfter:     now.Add(lifetime),
	}, nil
}

func sign(template, parent *x509.Certificate, key, by *ecdsa.PrivateKey) (Pair, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, by)
	if err != nil {
		return Pair{}, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return Pair{}, err
	}
	return Pair{
		Cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		Key:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}),
	}, nil
}

// parseCert reads the first certificate of a PEM text.
func parseCert(text []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("no certificate in PEM found")
	}
	return x509.ParseCertificate(block.Bytes)
}
