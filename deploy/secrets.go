package deploy

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"standfast/certs"
	"standfast/config"

	"github.com/google/renameio/v2"
)

// The directory of the secrets holds the certificate authority (ca; sealed too, as the members get it), each member's certificate (members/NAME), what authenticates
// heartbeats (secret), what changes are made with (token), and the applications' passwords. Each file is made once and then kept:
// nothing that is in use is ever replaced.
type secretsDir struct{ config.Deployment }

func (d secretsDir) ca() string                { return filepath.Join(d.Secrets, "ca") }
func (d secretsDir) member(name string) string { return filepath.Join(d.Secrets, "members", name) }
func (d secretsDir) secret() string            { return filepath.Join(d.Secrets, "secret") }
func (d secretsDir) unproven() string          { return filepath.Join(d.Secrets, "unproven") }
func (d secretsDir) token() string             { return filepath.Join(d.Secrets, "token") }

// joined is there for a member that was added to the running cluster.
func (d secretsDir) joined(name string) string { return filepath.Join(d.member(name), "joined") }

// replacing is there while a member is replaced, and says how far that has come.
func (d secretsDir) replacing(name string) string { return filepath.Join(d.Secrets, "replacing-"+name) }

// PasswordFile is where an application's password lies on this machine.
func PasswordFile(d config.Deployment, a config.Application) string {
	if a.PasswordFile != "" {
		return a.PasswordFile
	}
	return filepath.Join(d.Secrets, a.Role+".password")
}

// texts are the files that hold a word made by chance.
func (d secretsDir) texts() []string {
	out := []string{d.secret(), d.token()}
	for _, a := range d.Applications {
		if a.PasswordFile == "" {
			out = append(out, PasswordFile(d.Deployment, a))
		}
	}
	return out
}

func exists(path string) (bool, error) {
	_, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// hasSecrets reports whether all is there. The last file of each kind to be written stands for the kind.
func hasSecrets(dep config.Deployment) (bool, error) {
	d := secretsDir{dep}
	paths := append(d.texts(), filepath.Join(d.ca(), "ca.crt"), certs.Sealed(d.ca()))
	for _, h := range d.Members {
		paths = append(paths, certs.In(d.member(h.Name)).Cert)
	}
	for _, path := range paths {
		if there, err := exists(path); err != nil || !there {
			return false, err
		}
	}
	return true, nil
}

// makeSecrets makes what is missing.
func makeSecrets(dep config.Deployment, now time.Time) error {
	d := secretsDir{dep}
	if err := os.MkdirAll(d.Secrets, 0o700); err != nil {
		return err
	}
	ca, err := d.authority(now)
	if err != nil {
		return err
	}
	for _, h := range d.Members {
		files := certs.In(d.member(h.Name))
		if there, err := exists(files.Cert); err != nil || there {
			if err != nil {
				return err
			}
			continue
		}
		pair, err := ca.Issue(h.Name, []string{h.Address}, now)
		if err != nil {
			return err
		}
		if err := files.Write(ca.Cert, pair); err != nil {
			return err
		}
	}
	for _, path := range d.texts() {
		if there, err := exists(path); err != nil || there {
			if err != nil {
				return err
			}
			continue
		}
		if err := renameio.WriteFile(path, []byte(rand.Text()+"\n"), 0o600, renameio.WithStaticPermissions(0o600)); err != nil {
			return fmt.Errorf("write %s: %w", path, err)
		}
	}
	return d.seal(ca)
}

// seal puts the authority beside itself in the form that the members get: with their secret, which they have, they renew their
// certificates by it.
func (d secretsDir) seal(ca *certs.CA) error {
	there, err := exists(certs.Sealed(d.ca()))
	if err != nil || there {
		return err
	}
	secret, err := os.ReadFile(d.secret())
	if err != nil {
		return err
	}
	return ca.WriteSealed(d.ca(), bytes.TrimSpace(secret))
}

// authority is the cluster's, made if there is none. Its certificate is written last: without it nothing was issued yet.
func (d secretsDir) authority(now time.Time) (*certs.CA, error) {
	there, err := exists(filepath.Join(d.ca(), "ca.crt"))
	if err != nil {
		return nil, err
	}
	if there {
		return certs.LoadCA(d.ca())
	}
	ca, err := certs.NewCA(d.Cluster, now)
	if err != nil {
		return nil, err
	}
	// Before the authority: a cluster that was founded from here is known by it until its failover is proven.
	const note = "This cluster was founded from here, and its failover is not proven yet: standfast deploy does it while there is no data.\n"
	if err := renameio.WriteFile(d.unproven(), []byte(note), 0o600, renameio.WithStaticPermissions(0o600)); err != nil {
		return nil, fmt.Errorf("write %s: %w", d.unproven(), err)
	}
	return ca, ca.Write(d.ca())
}

// render writes the file of a member, as a founder's or as that of one that joined.
func (d secretsDir) render(name string) ([]byte, error) {
	switch joined, err := exists(d.joined(name)); {
	case err != nil:
		return nil, err
	case joined:
		return d.RenderJoined(name)
	}
	return d.RenderNode(name)
}

// memberFiles are what a member finds in /etc/standfast.
func memberFiles(dep config.Deployment, name string) ([]File, error) {
	d, n := secretsDir{dep}, config.DefaultNode()
	local, there := certs.In(d.member(name)), certs.In(n.TLSDir)
	text, err := d.render(name)
	if err != nil {
		return nil, err
	}
	var out []File
	for _, f := range []struct {
		from, to string
		mode     fs.FileMode
		keep     bool
	}{
		{local.CA, there.CA, 0o644, true}, {local.Key, there.Key, 0o600, true}, {local.Cert, there.Cert, 0o644, true},
		{certs.Sealed(d.ca()), certs.Sealed(n.TLSDir), 0o600, true},
		{d.secret(), n.SecretFile, 0o600, false}, {d.token(), n.TokenFile, 0o600, false},
	} {
		text, err := os.ReadFile(f.from)
		if err != nil {
			return nil, fmt.Errorf("read what %s needs: %w", name, err)
		}
		out = append(out, File{Path: f.to, Text: text, Mode: f.mode, Owner: "postgres", Keep: f.keep})
	}
	// Last: standfast.service starts where it is there, at a boot too.
	return append(out, File{Path: config.DefaultPath, Text: text, Mode: 0o644, Owner: "postgres"}), nil
}

func password(d config.Deployment, a config.Application) (string, error) {
	text, err := os.ReadFile(PasswordFile(d, a))
	if err != nil {
		return "", fmt.Errorf("read the password of %s: %w", a.Role, err)
	}
	word := strings.TrimRight(string(text), "\r\n")
	if word == "" {
		return "", fmt.Errorf("read the password of %s: %s is empty", a.Role, PasswordFile(d, a))
	}
	return word, nil
}
