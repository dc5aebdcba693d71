package join_test

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"standfast/certs"
	"standfast/join"
)

// TestJoin: who would I be, then a certificate for a key that never left this host; and no second time.
func TestJoin(t *testing.T) {
	d := newDesk(t)
	token := d.invite(t, time.Hour)
	who, err := join.Ask(t.Context(), d.address, token, join.Question{})
	if err != nil || who.Member != "pg2" || who.Address != "10.0.0.2" || who.Cluster != "main" || who.Secret+who.Token+who.File+who.Certificate != "" {
		t.Fatalf("asked who: %+v, %v", who, err)
	}
	csr, key, err := certs.Request("pg2")
	if err != nil {
		t.Fatal(err)
	}
	a, err := join.Ask(t.Context(), d.address, token, join.Question{CSR: string(csr)})
	if err != nil || a.File != "name: pg2" || a.Secret != "secret" || a.Token != "token" {
		t.Fatalf("asked to join: %+v, %v", a, err)
	}
	if _, err := tls.X509KeyPair([]byte(a.Certificate), key); err != nil {
		t.Error(err)
	}
	if _, err := join.Ask(t.Context(), d.address, token, join.Question{CSR: string(csr)}); !errors.Is(err, join.ErrRefused) {
		t.Errorf("the second time: %v", err)
	}
	if left, err := os.ReadDir(string(d.dir)); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// TestOnce: of many that come with one token at once, one is admitted.
func TestOnce(t *testing.T) {
	d := newDesk(t)
	token := d.invite(t, time.Hour)
	var admitted atomic.Int32
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			csr, _, err := certs.Request("pg2")
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := join.Ask(t.Context(), d.address, token, join.Question{CSR: string(csr)}); err == nil {
				admitted.Add(1)
			}
		})
	}
	all.Wait()
	if n := admitted.Load(); n != 1 {
		t.Errorf("%d were admitted", n)
	}
}

// TestRefused: what is wrong with a token is not told, and who goes on trying is not listened to.
func TestRefused(t *testing.T) {
	d := newDesk(t)
	good := d.invite(t, time.Hour)
	wrong, unknown, path := good, good, good
	wrong.Secret, unknown.ID, path.ID = "x", "aaaaaaaa", "../../aa"
	for what, token := range map[string]join.Token{"wrong": wrong, "unknown": unknown, "path": path, "expired": d.invite(t, -time.Second)} {
		if _, err := join.Ask(t.Context(), d.address, token, join.Question{}); !errors.Is(err, join.ErrRefused) {
			t.Errorf("%s: %v", what, err)
		}
	}
	revoked := d.invite(t, time.Hour) // the expired one is gone by now
	if err := d.dir.Revoke(revoked.ID); err != nil {
		t.Error(err)
	}
	if err := d.dir.Revoke(revoked.ID); !errors.Is(err, join.ErrNoInvitation) {
		t.Errorf("revoked twice: %v", err)
	}
	if _, err := join.Ask(t.Context(), d.address, revoked, join.Question{}); !errors.Is(err, join.ErrRefused) {
		t.Errorf("revoked: %v", err)
	}
	if _, err := join.Ask(t.Context(), d.address, good, join.Question{}); err == nil || !strings.Contains(err.Error(), "wait a minute") {
		t.Errorf("after five wrong ones: %v", err)
	}
}

// TestNothingIsSentToStrangers: a server of another authority never sees the token.
func TestNothingIsSentToStrangers(t *testing.T) {
	d := newDesk(t)
	token := d.invite(t, time.Hour)
	other, err := certs.NewCA("main", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	token.Pin = other.Pin()
	if _, err := join.Ask(t.Context(), d.address, token, join.Question{}); err == nil || !strings.Contains(err.Error(), "another cluster") {
		t.Errorf("%v", err)
	}
	if d.asked.Load() != 0 {
		t.Error("a request was sent")
	}
}

// TestFailureKeepsTheInvitation: what could not be admitted may come again.
func TestFailureKeepsTheInvitation(t *testing.T) {
	d := newDesk(t)
	d.fails.Store(true)
	token := d.invite(t, time.Hour)
	csr, _, err := certs.Request("pg2")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := join.Ask(t.Context(), d.address, token, join.Question{CSR: string(csr)}); err == nil || !strings.Contains(err.Error(), "no authority") {
		t.Errorf("%v", err)
	}
	d.fails.Store(false)
	if _, err := join.Ask(t.Context(), d.address, token, join.Question{CSR: string(csr)}); err != nil {
		t.Error(err)
	}
}

func TestToken(t *testing.T) {
	d := newDesk(t)
	token := d.invite(t, time.Hour)
	if back, err := join.ParseToken(" " + token.String() + "\n"); err != nil || back != token {
		t.Errorf("%v, %v", back, err)
	}
	for _, bad := range []string{"", "pg2", token.String() + ".x", strings.Replace(token.String(), token.ID, "../etc/x", 1), token.String()[:len(token.String())-1]} {
		if _, err := join.ParseToken(bad); !errors.Is(err, join.ErrToken) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	text, err := os.ReadFile(filepath.Join(string(d.dir), token.ID+".json"))
	if err != nil || strings.Contains(string(text), token.Secret) {
		t.Errorf("the file has the secret (%v)", err)
	}
}

type desk struct {
	dir     join.Dir
	address string
	pin     certs.Pin
	fails   atomic.Bool
	asked   atomic.Int32
}

// newDesk serves as a member does, of a cluster with an authority of its own.
func newDesk(t *testing.T) *desk {
	t.Helper()
	ca, err := certs.NewCA("main", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	pair, err := ca.Issue("pg1", nil, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	files := certs.In(t.TempDir())
	if err := files.Write(ca.Cert, pair); err != nil {
		t.Fatal(err)
	}
	d := &desk{dir: join.Dir(filepath.Join(t.TempDir(), "invitations")), pin: ca.Pin()}
	h := &join.Desk{Cluster: "main", Dir: d.dir, Log: slog.New(slog.DiscardHandler)}
	h.Admit = func(_ context.Context, csr []byte, a *join.Answer) error {
		if d.fails.Load() {
			return errors.New("no authority")
		}
		cert, err := ca.Sign(csr, a.Member, []string{a.Address}, time.Now())
		a.Certificate, a.Authorities, a.Secret, a.Token = string(cert), string(ca.Cert), "secret", "token"
		return err
	}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { d.asked.Add(1); h.ServeHTTP(w, r) }))
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	if s.TLS, err = certs.OpenTLS(files); err != nil {
		t.Fatal(err)
	}
	s.StartTLS()
	t.Cleanup(s.Close)
	d.address = s.Listener.Addr().String()
	return d
}

func (d *desk) invite(t *testing.T, good time.Duration) join.Token {
	t.Helper()
	token, err := d.dir.Invite(join.Invitation{Member: "pg2", Address: "10.0.0.2", File: "name: pg2"}, d.pin, time.Now(), good)
	if err != nil {
		t.Fatal(err)
	}
	return token
}
