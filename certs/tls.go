package certs

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// ServerTLS returns a configuration that shows the member's certificate and demands one of the cluster's from every
// client. All files are read again when they have changed: a renewed certificate, or another authority to be trusted, counts
// from the next handshake on. While changed files can't be read or don't fit together, what was read before stays in use.
func ServerTLS(f Files) (*tls.Config, error) {
	k := &keeper{files: f}
	first, err := k.current()
	if err != nil {
		return nil, err
	}
	config := serverConfig(first)
	config.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		m, err := k.current()
		if err != nil {
			return nil, err
		}
		return serverConfig(m), nil
	}
	return config, nil
}

func serverConfig(m *material) *tls.Config {
	return &tls.Config{
		MinVersion:   tls.VersionTLS12,
		Certificates: []tls.Certificate{m.pair},
		ClientAuth:   tls.RequireAndVerifyClientCert,
		ClientCAs:    m.pool,
	}
}

// ClientTLS returns a configuration that verifies servers against the cluster's authorities and shows the member's
// certificate. The certificate is read again when it has changed; the authorities are those of this moment (crypto/tls has
// no way to exchange them without giving up its own check of the server's address), so a client outlives a change of
// authorities only if both were trusted when it was made.
func ClientTLS(f Files) (*tls.Config, error) {
	k := &keeper{files: f}
	first, err := k.current()
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		RootCAs:    first.pool,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			m, err := k.current()
			if err != nil {
				return nil, err
			}
			return &m.pair, nil
		},
	}, nil
}

// material is what the files held at one time.
type material struct {
	pair        tls.Certificate
	pool        *x509.CertPool
	authorities [][]byte // of the pool, as sent
	stamp       [3]stamp
}

// stamp tells one version of a file from another. renameio gives each version an inode of its own, whose change time
// differs even if size and time of modification are the same.
type stamp struct {
	size  int64
	mtime time.Time
	file  os.FileInfo
}

func (s stamp) same(o stamp) bool {
	return s.size == o.size && s.mtime.Equal(o.mtime) && os.SameFile(s.file, o.file)
}

// keeper keeps the newest usable version of the files.
type keeper struct {
	files Files

	mu  sync.Mutex
	now *material
}

// current returns the newest version that fits together. There is an error only if there never was one.
func (k *keeper) current() (*material, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	stamps, err := k.stamps()
	if err == nil && k.now != nil && sameAll(stamps, k.now.stamp) {
		return k.now, nil
	}
	if err == nil {
		var m *material
		if m, err = k.files.load(); err == nil {
			m.stamp = stamps
			k.now = m
		}
	}
	if k.now != nil {
		return k.now, nil
	}
	return nil, err
}

func (k *keeper) stamps() ([3]stamp, error) {
	var stamps [3]stamp
	for i, path := range []string{k.files.CA, k.files.Cert, k.files.Key} {
		info, err := os.Stat(path)
		if err != nil {
			return stamps, fmt.Errorf("read certificates: %w", err)
		}
		stamps[i] = stamp{info.Size(), info.ModTime(), info}
	}
	return stamps, nil
}

func sameAll(a, b [3]stamp) bool {
	return a[0].same(b[0]) && a[1].same(b[1]) && a[2].same(b[2])
}

func (f Files) load() (*material, error) {
	pair, err := tls.LoadX509KeyPair(f.Cert, f.Key)
	if err != nil {
		return nil, fmt.Errorf("read certificate %s with key %s: %w", f.Cert, f.Key, err)
	}
	text, err := os.ReadFile(f.CA)
	if err != nil {
		return nil, fmt.Errorf("read certificate authority: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("read certificate authority %s: %w", f.CA, errors.New("no certificate in PEM found"))
	}
	return &material{pair: pair, pool: pool, authorities: blocks(text)}, nil
}
