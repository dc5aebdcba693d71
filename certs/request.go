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
	"time"
)

// Request makes a key, which stays where it was made, and a request for a certificate of that name (PKCS #10), both in PEM.
func Request(name string) (csr, key []byte, err error) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("request certificate of %s: %w", name, err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: name}}, k)
	if err != nil {
		return nil, nil, fmt.Errorf("request certificate of %s: %w", name, err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return nil, nil, fmt.Errorf("request certificate of %s: %w", name, err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), nil
}

// Sign issues a member's certificate, as Issue does, for the key of a request. All else that the request says is not
// looked at: the name and the addresses are what the caller knows the member by.
func (ca *CA) Sign(csr []byte, name string, addresses []string, now time.Time) ([]byte, error) {
	block, _ := pem.Decode(csr)
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return nil, fmt.Errorf("sign certificate of %s: %w", name, errors.New("no request in PEM found"))
	}
	request, err := x509.ParseCertificateRequest(block.Bytes)
	if err == nil {
		err = request.CheckSignature() // whoever asks has the key
	}
	if err != nil {
		return nil, fmt.Errorf("sign certificate of %s: %w", name, err)
	}
	key, ok := request.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, fmt.Errorf("sign certificate of %s: its key is not ECDSA on P-256", name)
	}
	return ca.certify(key, name, addresses, now)
}

// Addresses are what a certificate was issued for: its host names and IP addresses.
func Addresses(cert *x509.Certificate) []string {
	out := append([]string(nil), cert.DNSNames...)
	for _, ip := range cert.IPAddresses {
		out = append(out, ip.String())
	}
	return out
}
