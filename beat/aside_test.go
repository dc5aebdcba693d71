package beat

import (
	"bytes"
	"crypto/hmac"
	"strings"
	"testing"
	"time"
)

// TestAside: what is told arrives, from whom it says, and no bit of it can be changed.
func TestAside(t *testing.T) {
	n := newNetwork(t)
	heard := make(chan string, 16)
	n.told = func(from string, body []byte) { heard <- from + ": " + string(body) }
	a, b := n.start("a", 20*time.Millisecond), n.start("b", 20*time.Millisecond)
	sent := make(chan []byte, 16)
	b.tap.set(func(w *wireTap) {
		w.record = func(d []byte) {
			if isAside(d) {
				sent <- d
			}
		}
	})
	if err := b.Tell([]byte("something")); err != nil {
		t.Fatal(err)
	}
	select {
	case got := <-heard:
		if got != "b: something" {
			t.Errorf("heard %q", got)
		}
	case <-time.After(5 * time.Second):
		t.Fatalf("never heard: %+v", a.Stats())
	}
	seal, datagram := newSealer(key), <-sent
	for i := range datagram {
		changed := bytes.Clone(datagram)
		changed[i] ^= 1
		if _, _, err := seal.openAside(changed); err == nil && isAside(changed) {
			t.Errorf("byte %d can be changed", i)
		}
		if _, err := seal.open(changed); err == nil {
			t.Errorf("with byte %d changed it passes for a beat", i)
		}
	}
	if err := b.Tell([]byte(strings.Repeat("x", MaxAside+1))); err == nil {
		t.Error("too much is told without an error")
	}
}

// FuzzDatagram: nothing that passes the seal, however made, panics or tells of a name or a body that is not in it. Whoever has the key
// may be a member of another release.
func FuzzDatagram(f *testing.F) {
	f.Add([]byte(asideMagic + "\x01b something"))
	f.Add([]byte(asideMagic + "\xff"))
	f.Add([]byte(magic + "\x00\x28" + strings.Repeat("\x00", headerSize) + `{"f":"a","rq":"x"}`))
	f.Add([]byte(magic + "\xff\xff" + strings.Repeat("\x00", headerSize)))
	f.Fuzz(func(t *testing.T, signed []byte) {
		seal := newSealer(key)
		datagram := append(bytes.Clone(signed), seal.of(signed)...)
		if isAside(datagram) {
			from, body, err := seal.openAside(datagram)
			if err == nil && !bytes.HasSuffix(signed, append([]byte(from), body...)) {
				t.Fatalf("%q tells %q of %q", signed, body, from)
			}
			return
		}
		_, _ = seal.open(datagram)
		if _, err := seal.open(signed); err == nil && !hmac.Equal(signed[max(0, len(signed)-macSize):], seal.of(signed[:max(0, len(signed)-macSize)])) {
			t.Fatalf("%q passes unsealed", signed)
		}
	})
}
