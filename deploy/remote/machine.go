package remote

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"

	"standfast/deploy/probe"
	"standfast/packaging"
)

// Shell carries out scripts of /bin/sh as root, where a command that fails ends the script.
type Shell interface {
	// Run returns what the script writes to standard output.
	Run(ctx context.Context, script string, stdin io.Reader) ([]byte, error)
	// Hold gives a script a line, returns the line that it answers, and lets it run on until release.
	Hold(ctx context.Context, script, line string) (answer []byte, release func() error, err error)
	Close() error
}

// Machine is one host.
type Machine struct {
	shell   Shell
	program string // where the program lies there
	dir     string // made for it; "": it was there
}

// Program is this program, to be sent to the hosts.
type Program struct {
	Text []byte
	Sum  string // SHA-256, in hexadecimal
}

// Self reads the program that runs.
func Self() (Program, error) {
	path, err := os.Executable()
	if err != nil {
		return Program{}, err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return Program{}, fmt.Errorf("read this program: %w", err)
	}
	sum := sha256.Sum256(text)
	return Program{text, hex.EncodeToString(sum[:])}, nil
}

// architectures are what uname says of what Go says.
var architectures = map[string]string{"amd64": "x86_64", "arm64": "aarch64"}

// Connect puts the program into a directory of its own on the host, or finds it installed. Close takes it away again.
func Connect(ctx context.Context, s Shell, p Program) (*Machine, error) {
	out, err := s.Run(ctx, `test "$(id -u)" = 0; uname -m; sha256sum `+packaging.Binary+` 2>/dev/null || :`, nil)
	if err != nil {
		return nil, explainSudo(err)
	}
	fields := strings.Fields(string(out))
	if want := architectures[runtime.GOARCH]; len(fields) > 0 && want != "" && fields[0] != want {
		return nil, fmt.Errorf("it is of the kind %s and this program is for %s: deploy with the program for %s", fields[0], want, fields[0])
	}
	if len(fields) > 1 && fields[1] == p.Sum {
		return &Machine{shell: s, program: packaging.Binary}, nil
	}
	// What a deployment left that was killed, an hour ago or more, goes.
	out, err = s.Run(ctx, "umask 077; find /var/tmp -maxdepth 1 -name 'standfast.??????' -mmin +60 -exec rm -r {} +; d=$(mktemp -d /var/tmp/standfast.XXXXXX); cat >$d/standfast; chmod 700 $d/standfast; sha256sum $d/standfast", bytes.NewReader(p.Text))
	if err != nil {
		return nil, fmt.Errorf("send the program: %w", err)
	}
	fields = strings.Fields(string(out))
	if len(fields) != 2 || fields[0] != p.Sum {
		return nil, fmt.Errorf("send the program: it did not arrive whole (%q)", out)
	}
	return &Machine{shell: s, program: fields[1], dir: strings.TrimSuffix(fields[1], "/standfast")}, nil
}

func explainSudo(err error) error {
	if strings.Contains(err.Error(), "sudo") || strings.Contains(err.Error(), "password is required") {
		return fmt.Errorf("%w: let this user sudo without a password while you deploy (in /etc/sudoers.d: NAME ALL=(ALL) NOPASSWD: ALL), or log in as root (ssh.user: root)", err)
	}
	return err
}

// Close takes away what Connect sent, and the connection.
func (m *Machine) Close() error {
	var err error
	if m.dir != "" {
		_, err = m.shell.Run(context.Background(), "rm -r "+m.dir, nil)
	}
	return errors.Join(err, m.shell.Close())
}

// Ask asks one question.
func (m *Machine) Ask(ctx context.Context, r probe.Request) (probe.Answer, error) {
	question, err := json.Marshal(r)
	if err != nil {
		return probe.Answer{}, err
	}
	out, err := m.shell.Run(ctx, "exec "+m.program+" probe", bytes.NewReader(question))
	if err != nil {
		return probe.Answer{}, err
	}
	return answer(out)
}

// Hold asks for ports to be opened until release.
func (m *Machine) Hold(ctx context.Context, r probe.Request) (probe.Answer, func() error, error) {
	question, err := json.Marshal(r)
	if err != nil {
		return probe.Answer{}, nil, err
	}
	out, release, err := m.shell.Hold(ctx, "exec "+m.program+" probe", string(question))
	if err != nil {
		return probe.Answer{}, nil, err
	}
	a, err := answer(out)
	if err != nil {
		return a, nil, errors.Join(err, release())
	}
	return a, release, nil
}

func answer(out []byte) (a probe.Answer, err error) {
	if err := json.Unmarshal(out, &a); err != nil {
		return a, fmt.Errorf("read its answer: %w", err)
	}
	return a, nil
}
