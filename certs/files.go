package certs

import (
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/google/renameio/v2"
)

// Files are the paths of what a member needs: the authorities it trusts (one or more certificates), its own certificate,
// and its key.
type Files struct{ CA, Cert, Key string }

// In names the files in a directory: ca.crt, member.crt and member.key.
func In(dir string) Files {
	return Files{filepath.Join(dir, "ca.crt"), filepath.Join(dir, "member.crt"), filepath.Join(dir, "member.key")}
}

// Sealed names the file in a directory that holds the cluster's authority, sealed.
func Sealed(dir string) string { return filepath.Join(dir, "ca.sealed") }

// WriteSealed stores the sealed authority in dir, with mode 0600.
func (ca *CA) WriteSealed(dir string, secret []byte) error {
	text, err := ca.Seal(secret)
	if err != nil {
		return err
	}
	return write(Sealed(dir), text, 0o600)
}

// Write replaces the three files, each atomically and synced, the key with mode 0600. The certificate is written last,
// so that a reader who sees it changed finds its key. Directories that are missing are made with mode 0700.
func (f Files) Write(ca []byte, p Pair) error {
	err := write(f.CA, ca, 0o644)
	if err == nil {
		err = write(f.Key, p.Key, 0o600)
	}
	if err == nil {
		err = write(f.Cert, p.Cert, 0o644)
	}
	return err
}

// Expiry returns the time at which the member's certificate or, if that is earlier, the first of the trusted authorities
// runs out.
func (f Files) Expiry() (time.Time, error) {
	first := time.Time{}
	for _, path := range []string{f.Cert, f.CA} {
		text, err := os.ReadFile(path)
		if err != nil {
			return first, fmt.Errorf("read certificate: %w", err)
		}
		cert, err := parseCert(text)
		if err != nil {
			return first, fmt.Errorf("read certificate %s: %w", path, err)
		}
		if first.IsZero() || cert.NotAfter.Before(first) {
			first = cert.NotAfter
		}
	}
	return first, nil
}

// Leaf reads the member's own certificate.
func (f Files) Leaf() (*x509.Certificate, error) {
	text, err := os.ReadFile(f.Cert)
	if err != nil {
		return nil, fmt.Errorf("read certificate: %w", err)
	}
	cert, err := parseCert(text)
	if err != nil {
		return nil, fmt.Errorf("read certificate %s: %w", f.Cert, err)
	}
	return cert, nil
}

// Valid checks that the member's certificate is signed by a trusted authority and that both are valid at the time. Others
// would refuse it for the same reason, in words that are less plain.
func (f Files) Valid(now time.Time) error {
	m, err := f.load()
	if err != nil {
		return err
	}
	leaf, err := x509.ParseCertificate(m.pair.Certificate[0])
	if err != nil {
		return fmt.Errorf("read certificate %s: %w", f.Cert, err)
	}
	between := x509.NewCertPool()
	for _, der := range m.pair.Certificate[1:] {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return fmt.Errorf("read certificate %s: %w", f.Cert, err)
		}
		between.AddCert(c)
	}
	const day = "2006-01-02 15:04 MST"
	switch _, err = leaf.Verify(x509.VerifyOptions{Roots: m.pool, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); {
	case now.Before(leaf.NotBefore):
		return fmt.Errorf("the certificate %s is not valid before %s, and the clock says %s: is it wrong?", f.Cert, leaf.NotBefore.Format(day), now.UTC().Format(day))
	case now.After(leaf.NotAfter):
		return fmt.Errorf("the certificate %s has expired on %s (the clock says %s): put a new one there", f.Cert, leaf.NotAfter.Format(day), now.UTC().Format(day))
	case err != nil:
		return fmt.Errorf("the certificate %s does not fit the authority %s: %w", f.Cert, f.CA, err)
	}
	return nil
}

// Write stores the authority in dir as ca.crt and, with mode 0600, ca.key. Whoever can read the key can join the cluster.
func (ca *CA) Write(dir string) error {
	return errors.Join(
		write(filepath.Join(dir, "ca.key"), ca.Key, 0o600),
		write(filepath.Join(dir, "ca.crt"), ca.Cert, 0o644),
	)
}

// LoadCA reads the authority that Write stored in dir.
func LoadCA(dir string) (*CA, error) {
	cert, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	if err != nil {
		return nil, fmt.Errorf("load certificate authority: %w", err)
	}
	key, err := os.ReadFile(filepath.Join(dir, "ca.key"))
	if err != nil {
		return nil, fmt.Errorf("load certificate authority: %w", err)
	}
	return ParseCA(Pair{cert, key})
}

func write(path string, content []byte, mode os.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	// WithStaticPermissions: the umask must not decide who can read a key.
	if err := renameio.WriteFile(path, content, mode, renameio.WithStaticPermissions(mode)); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
