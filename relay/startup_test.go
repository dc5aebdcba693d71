package relay

import (
	"bytes"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestRefusesStrangers(t *testing.T) {
	r := open(t, nil)
	for name, c := range map[string]struct {
		send []byte
		want string
	}{
		"another user":        {startup("user", "postgres", "replication", "true", "application_name", "pg2"), `user "postgres"`},
		"another database":    {startup("user", User, "database", "app", "application_name", "pg2"), `database "app"`},
		"no database":         {startup("user", User, "application_name", "pg2"), `database ""`},
		"half replication":    {startup("user", User, "database", "postgres", "replication", "", "application_name", "pg2"), `replication=""`},
		"another's slots":     {startup("user", User, "database", "postgres", "application_name", "pg3"), `application_name is "pg3"`},
		"slots, no primary":   {startup("user", User, "database", "postgres", "application_name", "pg2"), "C57P03\x00Mstandfast relay: this member follows no primary now"},
		"logical replication": {startup("user", User, "replication", "database", "application_name", "pg2"), `replication="database"`},
		"another member":      {startup("user", User, "replication", "1", "application_name", "pg3"), `application_name is "pg3"`},
		"a cancel request":    {[]byte{0, 0, 0, 16, 4, 210, 22, 46, 0, 0, 0, 1, 0, 0, 0, 2}, "cancel"},
		"protocol 2":          {[]byte{0, 0, 0, 9, 0, 2, 0, 0, 0}, "protocol 2.0"},
		"a torn message":      {[]byte{0, 0, 0, 12, 0, 3, 0, 0, 'u', 's', 'e', 'r'}, "malformed"},
		"a huge message":      {[]byte{0, 1, 0, 0, 0, 3, 0, 0}, "65536 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.Dial("unix", r.Path())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			write(t, conn, c.send)
			conn.SetReadDeadline(time.Now().Add(5 * time.Second))
			got, _ := io.ReadAll(conn)
			if !bytes.HasPrefix(got, []byte("E")) || !strings.Contains(string(got), "SFATAL") || !strings.Contains(string(got), c.want) {
				t.Fatalf("answered %q, want a FATAL with %q", got, c.want)
			}
			if r.Status().Held {
				t.Fatal("it is held")
			}
		})
	}
}

func TestDeclinesEncryption(t *testing.T) {
	r := open(t, nil)
	conn, err := net.Dial("unix", r.Path())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	write(t, conn, sslRequest)
	expect(t, conn, []byte("N"))
	write(t, conn, hello)
	until(t, r, "held", held)
}

func TestOnlyOwnSlot(t *testing.T) {
	for _, cmd := range []string{
		`START_REPLICATION SLOT "pg3" 0/3000000 TIMELINE 1`,
		`START_REPLICATION 0/3000000 TIMELINE 1`,
		`start_replication slot pg3 physical 0/0`,
	} {
		r := open(t, nil)
		recv := connect(t, r)
		p := listenPrimary(t)
		if err := r.Attach(1, 1, p.addr()); err != nil {
			t.Fatal(err)
		}
		prim := p.accept(t)
		expect(t, prim, hello)
		write(t, recv, query("IDENTIFY_SYSTEM"))
		expect(t, prim, query("IDENTIFY_SYSTEM"))
		write(t, recv, query(cmd))
		recv.SetReadDeadline(time.Now().Add(5 * time.Second))
		if got, _ := io.ReadAll(recv); !strings.Contains(string(got), `primary_slot_name to "pg2"`) {
			t.Errorf("%s was answered %q", cmd, got)
		}
		if got, _ := io.ReadAll(prim); len(got) != 0 {
			t.Errorf("%s: the primary was sent %q", cmd, got)
		}
	}
}

// Whatever arrives, in whatever pieces, is refused or understood; nothing panics.
func TestStartupAnyBytes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := rapid.SliceOf(rapid.Byte()).Draw(t, "bytes")
		if rapid.Bool().Draw(t, "version 3") && len(b) >= 8 {
			copy(b, []byte{0, 0, 0, byte(len(b)), 0, 3, 0, 0})
		}
		msg, err := readStartup(struct {
			io.Reader
			io.Writer
		}{bytes.NewReader(b), io.Discard})
		if err != nil {
			return
		}
		if _, err := checkStartup(msg, "pg2"); err == nil {
			t.Fatalf("accepted %q", b)
		}
	})
}

func TestParametersRoundTrip(t *testing.T) {
	word := rapid.StringMatching(`[a-z]{1,8}`)
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.MapOf(word, rapid.StringMatching(`[a-z ]{0,8}`)).Draw(t, "parameters")
		var pairs []string
		for k, v := range want {
			pairs = append(pairs, k, v)
		}
		got, err := parameters(startup(pairs...)[8:])
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != len(want) {
			t.Fatalf("got %q, want %q", got, want)
		}
		for k, v := range want {
			if got[k] != v {
				t.Fatalf("got %q, want %q", got, want)
			}
		}
	})
}
