package ssh

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
	"golang.org/x/crypto/ssh/knownhosts"
)

// Keys are what a login is proven with, and hosts are known by.
type Keys struct {
	File       string // a private key; "": the agent's, then those of ~/.ssh
	KnownHosts string // "": ~/.ssh/known_hosts
}

func (t Target) user() string {
	if t.User != "" {
		return t.User
	}
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return "root"
}

// methods are the ways to prove who we are. done closes what they need.
func (k Keys) methods(ctx context.Context) (m []ssh.AuthMethod, done func() error, err error) {
	done = func() error { return nil }
	var signers []ssh.Signer
	var asked []string
	if k.File == "" {
		var fromAgent []ssh.Signer
		if fromAgent, done, err = agentSigners(ctx); err != nil {
			asked = append(asked, err.Error())
		}
		signers = append(signers, fromAgent...)
	}
	for _, path := range k.files() {
		s, err := signer(path)
		switch {
		case err == nil:
			signers = append(signers, s)
		case k.File != "":
			return nil, done, err
		case !errors.Is(err, fs.ErrNotExist):
			asked = append(asked, err.Error())
		}
	}
	if len(signers) == 0 {
		why := strings.Join(append(asked, "looked at "+strings.Join(k.files(), ", ")), "; ")
		return nil, done, fmt.Errorf("no key to log in with (%s): make one with ssh-keygen, load one with ssh-add, or name one under ssh.key", why)
	}
	return []ssh.AuthMethod{ssh.PublicKeys(signers...)}, done, nil
}

func (k Keys) files() []string {
	if k.File != "" {
		return []string{home(k.File)}
	}
	var out []string
	for _, name := range []string{"id_ed25519", "id_ecdsa", "id_rsa"} {
		out = append(out, home("~/.ssh/"+name))
	}
	return out
}

func home(path string) string {
	rest, ok := strings.CutPrefix(path, "~/")
	if !ok {
		return path
	}
	dir, err := os.UserHomeDir()
	if err != nil {
		return path
	}
	return filepath.Join(dir, rest)
}

func signer(path string) (ssh.Signer, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the key: %w", err)
	}
	s, err := ssh.ParsePrivateKey(text)
	var locked *ssh.PassphraseMissingError
	if errors.As(err, &locked) {
		return nil, fmt.Errorf("the key %s has a passphrase: load it with ssh-add %s", path, path)
	}
	if err != nil {
		return nil, fmt.Errorf("read the key %s: %w", path, err)
	}
	return s, nil
}

func agentSigners(ctx context.Context) ([]ssh.Signer, func() error, error) {
	none := func() error { return nil }
	socket := os.Getenv("SSH_AUTH_SOCK")
	if socket == "" {
		return nil, none, errors.New("no ssh agent runs")
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, none, fmt.Errorf("reach the ssh agent: %w", err)
	}
	signers, err := agent.NewClient(conn).Signers()
	if err != nil {
		return nil, none, errors.Join(fmt.Errorf("ask the ssh agent: %w", err), conn.Close())
	}
	if len(signers) == 0 {
		return nil, none, errors.Join(errors.New("the ssh agent has no key"), conn.Close())
	}
	return signers, conn.Close, nil
}

// knownHosts is the list of hosts' keys.
type knownHosts struct {
	path     string
	callback ssh.HostKeyCallback
}

func (k Keys) hosts() (knownHosts, error) {
	path := home(k.KnownHosts)
	if path == "" {
		path = home("~/.ssh/known_hosts")
	}
	callback, err := knownhosts.New(path)
	if errors.Is(err, fs.ErrNotExist) {
		return knownHosts{}, fmt.Errorf("no host is known, for there is no %s: log in to each host once with ssh, and compare its key", path)
	}
	if err != nil {
		return knownHosts{}, fmt.Errorf("read %s: %w", path, err)
	}
	return knownHosts{path, callback}, nil
}

// check refuses a host that is not known, or whose key is another than the known one.
func (k knownHosts) check(address string, remote net.Addr, key ssh.PublicKey) error {
	err := k.callback(address, remote, key)
	var ke *knownhosts.KeyError
	if !errors.As(err, &ke) {
		return err
	}
	host := knownhosts.Normalize(address)
	if len(ke.Want) == 0 {
		return fmt.Errorf("%s's key is not known (%s): log in once with ssh, compare the fingerprint, and it is added to %s", host, ssh.FingerprintSHA256(key), k.path)
	}
	return fmt.Errorf("%s shows another key (%s) than the one in %s, line %d: either it was installed anew, or somebody stands in between; if you know that it was, remove the old one: ssh-keygen -R %s",
		host, ssh.FingerprintSHA256(key), ke.Want[0].Filename, ke.Want[0].Line, host)
}

// algorithms are those of the keys that the host is known by: it has several, and would else show one that nobody has noted.
func (k knownHosts) algorithms(address string) []string {
	var ke *knownhosts.KeyError
	if !errors.As(k.callback(address, &net.TCPAddr{IP: net.IPv4zero}, unknown{}), &ke) {
		return nil
	}
	var out []string
	for _, w := range ke.Want {
		if w.Key.Type() == ssh.KeyAlgoRSA {
			out = append(out, ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256)
		}
		out = append(out, w.Key.Type())
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// unknown is a key that no host has.
type unknown struct{}

func (unknown) Type() string                        { return "none" }
func (unknown) Marshal() []byte                     { return []byte("none") }
func (unknown) Verify([]byte, *ssh.Signature) error { return errors.New("no key") }
