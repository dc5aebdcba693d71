package deployed

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"standfast/test/netlab"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// User may log in on every host and use sudo.
const User = "admin"

// Admin is the administrator's machine: the lab's client, with a directory of its own.
type Admin struct {
	Lab *netlab.Lab
	Dir string // cluster.yml, key, known_hosts

	binary string
	login  ssh.PublicKey
}

// New makes the administrator's key. Boot the lab with Prepare, then say in which with Use.
func New(dir, binary string) (*Admin, error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		return nil, err
	}
	a := &Admin{Dir: dir, binary: binary}
	if a.login, err = ssh.NewPublicKey(public); err != nil {
		return nil, err
	}
	return a, os.WriteFile(filepath.Join(dir, "key"), pem.EncodeToMemory(block), 0o600)
}

// Prepare gives a host its administrator, as an installer would.
func (a *Admin) Prepare(_ *netlab.Host, root string) error {
	home := filepath.Join(root, "home", User)
	if err := os.MkdirAll(filepath.Join(home, ".ssh"), 0o700); err != nil {
		return err
	}
	for _, f := range []struct {
		path, text string
		mode       os.FileMode
	}{
		{filepath.Join(home, ".ssh/authorized_keys"), string(ssh.MarshalAuthorizedKey(a.login)), 0o600},
		{filepath.Join(root, "etc/sudoers.d", User), User + " ALL=(ALL) NOPASSWD: ALL\n", 0o440},
		// The hosts' disks are one disk, and a package that is lost with it is no loss.
		{filepath.Join(root, "etc/dpkg/dpkg.cfg.d/lab"), "force-unsafe-io\n", 0o644},
	} {
		if err := os.WriteFile(f.path, []byte(f.text), f.mode); err != nil {
			return err
		}
	}
	for path, line := range map[string]string{
		"etc/passwd": User + ":x:1000:1000::/home/" + User + ":/bin/sh\n", "etc/group": User + ":x:1000:\n", "etc/shadow": User + ":*:20000:0:99999:7:::\n",
	} {
		if err := add(filepath.Join(root, path), line); err != nil {
			return err
		}
	}
	for _, path := range []string{home, filepath.Join(home, ".ssh"), filepath.Join(home, ".ssh/authorized_keys")} {
		if err := os.Chown(path, 1000, 1000); err != nil {
			return err
		}
	}
	return nil
}

func add(path, line string) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(line)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// Program is the file of the program that the administrator has.
func (a *Admin) Program() string { return a.binary }

// Use notes the hosts' keys, which an administrator compares at the first login.
func (a *Admin) Use(l *netlab.Lab) error {
	a.Lab = l
	var lines []string
	for _, h := range l.Hosts {
		text, err := os.ReadFile(filepath.Join(h.Root(), "etc/ssh/ssh_host_ed25519_key.pub"))
		if err != nil {
			return err
		}
		key, _, _, _, err := ssh.ParseAuthorizedKey(text)
		if err != nil {
			return err
		}
		lines = append(lines, knownhosts.Line([]string{h.Addr.String()}, key))
	}
	return os.WriteFile(filepath.Join(a.Dir, "known_hosts"), []byte(strings.Join(lines, "\n")+"\n"), 0o600)
}

// Describe writes cluster.yml; more is added to it.
func (a *Admin) Describe(more string) error {
	text := "cluster: main\nmembers:\n"
	for _, h := range a.Lab.Hosts {
		text += fmt.Sprintf("  - {name: %s, address: %s}\n", h.Name, h.Addr)
	}
	return a.Write("cluster.yml", text+"ssh: {user: "+User+"}\n"+more)
}

// Write makes a file in the administrator's directory. Where it is cluster.yml, it is told of key and known_hosts there: this machine's own user
// has others.
func (a *Admin) Write(name, text string) error {
	plain := "ssh: {user: " + User + "}"
	text = strings.Replace(text, plain, strings.TrimSuffix(plain, "}")+", key: key, known_hosts: known_hosts}", 1)
	return os.WriteFile(filepath.Join(a.Dir, name), []byte(text), 0o600)
}

// Shell runs a script on the administrator's machine, with the program in its PATH, and returns all that it said.
func (a *Admin) Shell(ctx context.Context, script string) (said string, err error) {
	cmd := a.Lab.Command(ctx, "/bin/sh", "-euc", script)
	cmd.Dir = a.Dir
	cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(a.binary)+":"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// Command is one of standfast's on the administrator's machine.
func (a *Admin) Command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := a.Lab.Command(ctx, a.binary, args...)
	cmd.Dir = a.Dir
	return cmd
}

// Standfast runs a command to its end and returns its exit code and all that it said.
func (a *Admin) Standfast(ctx context.Context, args ...string) (code int, said string, err error) {
	cmd := a.Command(ctx, args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Run()
	if _, ok := err.(*exec.ExitError); ok {
		err = nil // the code says it
	}
	return cmd.ProcessState.ExitCode(), out.String(), err
}
