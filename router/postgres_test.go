package router

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// pg is a real PostgreSQL for the time of a test.
type pg struct {
	bin, dir, addr string
	cert           tls.Certificate // the server's own, if it was started with TLS
	cred           *syscall.Credential
}

// findPostgres returns the directory of the newest PostgreSQL's programs, or skips.
func findPostgres(tb testing.TB) string {
	tb.Helper()
	dirs, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if p, err := exec.LookPath("initdb"); err == nil {
		dirs = append(dirs, p)
	}
	if len(dirs) == 0 {
		tb.Skip("no PostgreSQL is installed (initdb is neither in PATH nor in /usr/lib/postgresql/*/bin)")
	}
	version := func(p string) int { n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(p)))); return n }
	return filepath.Dir(slices.MaxFunc(dirs, func(a, b string) int { return version(a) - version(b) }))
}

// startPostgres starts a server that trusts everyone on the loopback, and stops it when the test ends.
func startPostgres(tb testing.TB, withTLS bool, settings ...string) *pg {
	tb.Helper()
	p := &pg{bin: findPostgres(tb), cred: unprivileged(tb)}
	dir, err := os.MkdirTemp("", "router-pg-")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { os.RemoveAll(dir) })
	p.dir = filepath.Join(dir, "data")
	p.own(tb, dir)
	p.run(tb, "initdb", "-D", p.dir, "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C", "--no-sync")
	p.addr = freeAddr(tb)
	_, port, _ := net.SplitHostPort(p.addr)
	conf := []string{
		"listen_addresses = '127.0.0.1'", "port = " + port, "unix_socket_directories = ''", "fsync = off",
		"max_connections = 400", "log_min_messages = fatal", "shared_buffers = '64MB'",
	}
	if withTLS {
		p.cert = writeCertificate(tb, p.dir)
		p.own(tb, filepath.Join(p.dir, "server.crt"))
		p.own(tb, filepath.Join(p.dir, "server.key"))
		conf = append(conf, "ssl = on")
	}
	conf = append(conf, settings...)
	if err := os.WriteFile(filepath.Join(p.dir, "postgresql.conf"), []byte(strings.Join(conf, "\n")+"\n"), 0o600); err != nil {
		tb.Fatal(err)
	}
	p.own(tb, filepath.Join(p.dir, "postgresql.conf"))
	p.endWithUs(tb, dir)
	p.start(tb)
	tb.Cleanup(func() { p.stop(tb) })
	return p
}

// endWithUs ends the server and removes its directory when this process is gone without having done so, by Ctrl-C or a test's
// time limit: pg_ctl gives the server a session of its own, which no terminal's signal reaches. What waits for that, in a
// process group of its own, sees our end of a pipe close, whatever the reason.
func (p *pg) endWithUs(tb testing.TB, dir string) {
	tb.Helper()
	cmd := exec.Command("/bin/sh", "-c", `read -r _; "$1/pg_ctl" -D "$2" -m immediate stop; rm -rf "$3"`, "sh", p.bin, p.dir, dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.cred, Setpgid: true}
	cmd.Dir = "/"
	pipe, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { pipe.Close(); cmd.Wait() })
}

// TestServerEndsWithItsTest: a test or benchmark that is interrupted leaves no PostgreSQL behind.
func TestServerEndsWithItsTest(t *testing.T) {
	const role = "STANDFAST_TEST_INTERRUPTED"
	if os.Getenv(role) != "" {
		fmt.Println("data in", startPostgres(t, false).dir)
		select {}
	}
	findPostgres(t)
	unprivileged(t)
	cmd := exec.Command(os.Args[0], "-test.run", "^TestServerEndsWithItsTest$", "-test.timeout", "2m")
	cmd.Env = append(os.Environ(), role+"=1")
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	var dir string
	for lines := bufio.NewScanner(out); dir == "" && lines.Scan(); {
		if d, ok := strings.CutPrefix(lines.Text(), "data in "); ok {
			dir = d
		}
	}
	pid, err := os.ReadFile(filepath.Join(dir, "postmaster.pid"))
	_ = cmd.Process.Signal(os.Interrupt)
	_ = cmd.Wait()
	if err != nil {
		t.Fatal(err)
	}
	postmaster, err := strconv.Atoi(strings.SplitN(string(pid), "\n", 2)[0])
	if err != nil {
		t.Fatal(err)
	}
	gone := func() bool {
		_, err := os.Stat(filepath.Dir(dir))
		return errors.Is(syscall.Kill(postmaster, 0), syscall.ESRCH) && errors.Is(err, os.ErrNotExist)
	}
	for deadline := time.Now().Add(30 * time.Second); !gone(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			_ = syscall.Kill(postmaster, syscall.SIGQUIT)
			t.Fatalf("the server in %s outlived the test that started it", dir)
		}
	}
}

func (p *pg) start(tb testing.TB) {
	tb.Helper()
	p.run(tb, "pg_ctl", "-D", p.dir, "-l", filepath.Join(filepath.Dir(p.dir), "log"), "-w", "start")
}

// stop stops the server at once; one that is stopped already is fine.
func (p *pg) stop(tb testing.TB) {
	tb.Helper()
	if _, err := os.Stat(filepath.Join(p.dir, "postmaster.pid")); err == nil {
		p.run(tb, "pg_ctl", "-D", p.dir, "-m", "immediate", "-w", "stop")
	}
}

func (p *pg) run(tb testing.TB, program string, args ...string) {
	tb.Helper()
	cmd := exec.Command(filepath.Join(p.bin, program), args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.cred}
	cmd.Dir = "/"
	out, err := os.CreateTemp("", "router-out-") // a pipe would be held open by the server
	if err != nil {
		tb.Fatal(err)
	}
	defer os.Remove(out.Name())
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Run(); err != nil {
		text, _ := os.ReadFile(out.Name())
		log, _ := os.ReadFile(filepath.Join(filepath.Dir(p.dir), "log"))
		tb.Fatalf("%s: %v\n%s%s", program, err, text, log)
	}
}

func (p *pg) own(tb testing.TB, path string) {
	tb.Helper()
	if p.cred == nil {
		return
	}
	if err := os.Chown(path, int(p.cred.Uid), int(p.cred.Gid)); err != nil {
		tb.Fatal(err)
	}
}

// unprivileged is whom PostgreSQL runs as, for it refuses root: nil (oneself), or postgres.
func unprivileged(tb testing.TB) *syscall.Credential {
	tb.Helper()
	if os.Getuid() != 0 {
		return nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		tb.Skip("PostgreSQL refuses to run as root and there is no user postgres")
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

func freeAddr(tb testing.TB) string {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// writeCertificate makes a self-signed certificate where PostgreSQL looks for its own.
func writeCertificate(tb testing.TB, dir string) tls.Certificate {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "router test"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		tb.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		tb.Fatal(err)
	}
	crt := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	kpem := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
	for name, b := range map[string][]byte{"server.crt": crt, "server.key": kpem} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	pair, err := tls.X509KeyPair(crt, kpem)
	if err != nil {
		tb.Fatal(err)
	}
	return pair
}

// psql runs one command through addr and returns what it printed on both outputs.
func (p *pg) psql(tb testing.TB, addr, options, command string) (string, error) {
	tb.Helper()
	cmd := exec.Command(filepath.Join(p.bin, "psql"), "-XAtq", "-v", "ON_ERROR_STOP=1", "-c", command, p.conninfo(addr, options))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err
}

func (p *pg) conninfo(addr, options string) string {
	host, port, _ := net.SplitHostPort(addr)
	return fmt.Sprintf("host=%s port=%s user=postgres dbname=postgres connect_timeout=20 %s", host, port, options)
}
