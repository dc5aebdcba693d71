package ssh_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"standfast/ssh"

	"go.uber.org/goleak"
	xssh "golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server is an SSH server that runs commands as this process's user.
type server struct {
	address string
	host    xssh.Signer
	login   xssh.PublicKey
	wait    sync.WaitGroup
}

func key(t *testing.T) (xssh.Signer, []byte) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := xssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	block, err := xssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	return signer, pem.EncodeToMemory(block)
}

// serve starts one and returns it with what logs in there.
func serve(t *testing.T) (*server, ssh.Keys) {
	t.Helper()
	t.Setenv("SSH_AUTH_SOCK", "")
	dir := t.TempDir()
	host, _ := key(t)
	login, text := key(t)
	s := &server{host: host, login: login.PublicKey()}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.address = l.Addr().String()
	s.wait.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			s.wait.Go(func() { s.connection(conn) })
		}
	})
	t.Cleanup(func() { l.Close(); s.wait.Wait() })
	k := ssh.Keys{File: filepath.Join(dir, "key"), KnownHosts: filepath.Join(dir, "known_hosts")}
	line := knownhosts.Line([]string{s.address}, host.PublicKey())
	if err := errors.Join(os.WriteFile(k.File, text, 0o600), os.WriteFile(k.KnownHosts, []byte(line+"\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	return s, k
}

func (s *server) connection(conn net.Conn) {
	defer conn.Close()
	cfg := &xssh.ServerConfig{PublicKeyCallback: func(_ xssh.ConnMetadata, k xssh.PublicKey) (*xssh.Permissions, error) {
		if string(k.Marshal()) != string(s.login.Marshal()) {
			return nil, errors.New("another key")
		}
		return nil, nil
	}}
	cfg.AddHostKey(s.host)
	_, channels, requests, err := xssh.NewServerConn(conn, cfg)
	if err != nil {
		return
	}
	s.wait.Go(func() { xssh.DiscardRequests(requests) })
	for c := range channels {
		ch, reqs, err := c.Accept()
		if err != nil {
			return
		}
		s.wait.Go(func() { s.session(ch, reqs) })
	}
}

func (s *server) session(ch xssh.Channel, reqs <-chan *xssh.Request) {
	defer ch.Close()
	for r := range reqs {
		if r.Type != "exec" {
			_ = r.Reply(false, nil)
			continue
		}
		var command struct{ Text string }
		if err := xssh.Unmarshal(r.Payload, &command); err != nil {
			return
		}
		_ = r.Reply(true, nil)
		cmd := exec.Command("/bin/sh", "-c", command.Text)
		in, _ := cmd.StdinPipe()
		s.wait.Go(func() { _, _ = io.Copy(in, ch); in.Close() })
		cmd.Stdout, cmd.Stderr = ch, ch.Stderr()
		_ = cmd.Run() // its status is sent
		if !cmd.ProcessState.Exited() {
			return // killed: as with a host that dies, nobody tells
		}
		status := struct{ Status uint32 }{uint32(cmd.ProcessState.ExitCode())}
		_, _ = ch.SendRequest("exit-status", false, xssh.Marshal(status))
		return
	}
}

func dial(t *testing.T, s *server, k ssh.Keys) *ssh.Client {
	t.Helper()
	c, err := ssh.Dial(t.Context(), ssh.Target{User: "root", Address: s.address}, k)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func TestRun(t *testing.T) {
	s, k := serve(t)
	c := dial(t, s, k)
	out, err := c.Run(t.Context(), "cat; echo \"it's $LC_ALL\"", strings.NewReader("in\n"))
	if err != nil || string(out) != "in\nit's C.UTF-8\n" {
		t.Errorf("got %q, %v", out, err)
	}
	_, err = c.Run(t.Context(), "echo no room >&2\nfalse\necho never", nil)
	var exit *ssh.ExitError
	if !errors.As(err, &exit) || exit.Status != 1 || exit.Stderr != "no room" {
		t.Errorf("a script that fails gives %v", err)
	}
	if _, err = c.Run(t.Context(), "kill -KILL $PPID; sleep 0.1", nil); err == nil || !strings.Contains(err.Error(), "the connection was lost") {
		t.Errorf("a script whose end nobody tells gives %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err = c.Run(ctx, "exec sleep 2", nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a script that takes too long gives %v", err)
	}
}

func TestHold(t *testing.T) {
	s, k := serve(t)
	c := dial(t, s, k)
	gone := filepath.Join(t.TempDir(), "gone")
	answer, release, err := c.Hold(t.Context(), "read line; echo \"got $line\"; cat; touch "+gone, "ports")
	if err != nil || string(answer) != "got ports\n" {
		t.Fatalf("got %q, %v", answer, err)
	}
	if _, err := os.Stat(gone); err == nil {
		t.Error("it ended before it was released")
	}
	if err := release(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(gone); err != nil {
		t.Error("it did not end in order")
	}
	_, release, err = c.Hold(t.Context(), "read line; echo got; read beat; touch "+gone+"2; cat >/dev/null", "ports")
	if err != nil {
		t.Fatal(err)
	}
	for began := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		if _, err := os.Stat(gone + "2"); err == nil {
			break
		}
		if time.Since(began) > 10*ssh.Beat {
			t.Fatal("it is not told that somebody is there")
		}
	}
	if err := release(); err != nil {
		t.Error(err)
	}
	if _, _, err := c.Hold(t.Context(), "echo broken >&2; exit 3", "ports"); err == nil || !strings.Contains(err.Error(), "broken") {
		t.Errorf("a script that ends at once gives %v", err)
	}
}

func TestRefusals(t *testing.T) {
	s, k := serve(t)
	dir := t.TempDir()
	other, otherText := key(t)
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for want, keys := range map[string]ssh.Keys{
		"key is not known (SHA256:":    {File: k.File, KnownHosts: file("empty", "")},
		"shows another key (SHA256:":   {File: k.File, KnownHosts: file("changed", fmt.Sprintln(knownhosts.Line([]string{s.address}, other.PublicKey())))},
		"no host is known":             {File: k.File, KnownHosts: filepath.Join(dir, "none")},
		"ssh-copy-id root@127.0.0.1":   {File: file("other", string(otherText)), KnownHosts: k.KnownHosts},
		"read the key: open":           {File: filepath.Join(dir, "none"), KnownHosts: k.KnownHosts},
		"read the key " + dir + "/bad": {File: file("bad", "no key"), KnownHosts: k.KnownHosts},
	} {
		_, err := ssh.Dial(t.Context(), ssh.Target{User: "root", Address: s.address}, keys)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}
