package beat

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"standfast/cluster"
)

var key = []byte("0123456789abcdef0123456789abcdef")

func drawBeat(t *rapid.T) cluster.Beat {
	names := rapid.SliceOfNDistinct(rapid.StringMatching(`[a-z][a-z0-9_]{0,12}`), 0, 7, rapid.ID[string])
	list := func(label string) []string {
		if l := names.Draw(t, label); len(l) > 0 {
			return l
		}
		return nil
	}
	flag := func(label string) bool { return rapid.Bool().Draw(t, label) }
	num := func(label string) uint64 { return rapid.Uint64().Draw(t, label) }
	return cluster.Beat{
		From: rapid.StringMatching(`[a-z][a-z0-9_]{0,62}`).Draw(t, "from"), Incarnation: num("incarnation"), Seq: num("seq"),
		Term: cluster.Term(num("term")), Promised: cluster.Term(num("promised")), Admitted: cluster.Term(num("admitted")),
		Attached: cluster.Term(num("attached")),
		Position: cluster.Position{Timeline: cluster.Timeline(rapid.Uint32().Draw(t, "timeline")), LSN: cluster.LSN(num("lsn"))},
		Replayed: cluster.LSN(num("replayed")), Data: rapid.SampledFrom([]cluster.DataState{"", cluster.NoData, cluster.DataReady, cluster.DataPartial}).Draw(t, "data"), Up: flag("up"), Recovery: flag("recovery"), Readable: flag("readable"), Holding: flag("holding"), Addresses: list("addresses"),
		Suspects: list("suspects"), Hears: list("hears"), NeedsOut: flag("needs out"), Draining: flag("draining"),
		PendingRestart: flag("restart"), Sessions: rapid.Int32().Draw(t, "sessions"), StallMS: rapid.Uint32().Draw(t, "stall"),
		Note: rapid.StringMatching(`[a-z ]{0,40}`).Draw(t, "note"),
	}
}

func TestPacketRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := packet{drawBeat(t), time.Duration(rapid.Int64().Draw(t, "clock")),
			echo{rapid.Uint64().Draw(t, "echoed"), time.Duration(rapid.Int64().Draw(t, "echoed clock")), time.Duration(rapid.Int64().Draw(t, "kept"))}}
		body, err := encode(want.beat)
		if err != nil {
			t.Fatal(err)
		}
		got, err := newSealer(key).open(newSealer(key).seal(nil, want, body))
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("got %+v, %v\nwant %+v", got, err, want)
		}
	})
}

// Every bit counts, and so does the key.
func TestPacketForged(t *testing.T) {
	body, err := encode(cluster.Beat{From: "pg1", Term: 3})
	if err != nil {
		t.Fatal(err)
	}
	good := newSealer(key).seal(nil, packet{beat: cluster.Beat{Incarnation: 1, Seq: 1}}, body)
	if _, err := newSealer([]byte("another key of the same length..")).open(good); err == nil {
		t.Error("accepted under another key")
	}
	for i := range 8 * len(good) {
		bad := bytes.Clone(good)
		bad[i/8] ^= 1 << (i % 8)
		if _, err := newSealer(key).open(bad); err == nil {
			t.Fatalf("accepted with bit %d flipped", i)
		}
	}
	for n := range good {
		if _, err := newSealer(key).open(good[:n]); err == nil {
			t.Fatalf("accepted cut to %d bytes", n)
		}
	}
}

// What a later release adds, to the header or to the body, is skipped.
func TestPacketOfLaterRelease(t *testing.T) {
	s := newSealer(key)
	body, err := json.Marshal(map[string]any{"f": "pg1", "t": 7, "zz": map[string]int{"new": 1}})
	if err != nil {
		t.Fatal(err)
	}
	b := s.seal(nil, packet{beat: cluster.Beat{Incarnation: 5, Seq: 6}, clock: 7}, body)
	b = b[:len(b)-macSize]
	longer := append(bytes.Clone(b[:prefixSize+headerSize]), "a longer header."...)
	longer[len(magic)+1] = headerSize + 16
	longer = append(longer, b[prefixSize+headerSize:]...)
	longer = append(longer, s.of(longer)...)
	p, err := s.open(longer)
	if err != nil || p.beat.From != "pg1" || p.beat.Term != 7 || p.beat.Seq != 6 || p.clock != 7 {
		t.Fatalf("%+v, %v", p, err)
	}
}

// An older release does not tell how long it kept what it echoes.
func TestPacketOfOlderRelease(t *testing.T) {
	s := newSealer(key)
	body, err := encode(cluster.Beat{From: "pg1", Term: 7})
	if err != nil {
		t.Fatal(err)
	}
	b := s.seal(nil, packet{beat: cluster.Beat{Incarnation: 5, Seq: 6}, echo: echo{1, 2, 3}}, body)
	shorter := append(bytes.Clone(b[:prefixSize+leastSize]), b[prefixSize+headerSize:len(b)-macSize]...)
	shorter[len(magic)+1] = leastSize
	shorter = append(shorter, s.of(shorter)...)
	p, err := s.open(shorter)
	if err != nil || p.beat.From != "pg1" || p.beat.Seq != 6 || p.echo != (echo{1, 2, -1}) {
		t.Fatalf("%+v, %v", p, err)
	}
}

func TestPacketFitsMTU(t *testing.T) {
	name := func(i int) string { return fmt.Sprintf("pg%d_%s", i, strings.Repeat("n", 59)) } // 63 bytes, the longest
	all := ^uint64(0)
	b := cluster.Beat{From: name(0), Incarnation: all, Seq: all, Term: 1 << 40, Promised: 1 << 40, Admitted: 1 << 40, Attached: 1 << 40,
		Position: cluster.Position{Timeline: 1 << 31, LSN: cluster.LSN(all)}, Replayed: cluster.LSN(all),
		Up: true, Recovery: true, Readable: true, NeedsOut: true, Draining: true, PendingRestart: true,
		Sessions: 1 << 30, StallMS: 1 << 31, Note: strings.Repeat("kopiert ü ", 200)}
	for i := 1; i <= 6; i++ {
		b.Hears = append(b.Hears, name(i))
	}
	body, err := encode(b)
	if err != nil {
		t.Fatal(err)
	}
	got := newSealer(key).seal(nil, packet{beat: b}, body)
	if len(got) > maxPacket {
		t.Fatalf("%d bytes", len(got))
	}
	p, err := newSealer(key).open(got)
	if err != nil || !strings.HasPrefix(b.Note, p.beat.Note) || p.beat.Note == "" || !reflect.DeepEqual(p.beat.Hears, b.Hears) {
		t.Fatalf("%+v, %v", p, err)
	}
}

func TestSameMeaning(t *testing.T) {
	base := cluster.Beat{From: "a", Incarnation: 1, Term: 3, Hears: []string{"b", "c"}, Position: cluster.Position{Timeline: 1, LSN: 5}}
	for want, changes := range map[bool][]func(*cluster.Beat){
		true: {
			func(b *cluster.Beat) { b.Seq++ },
			func(b *cluster.Beat) { b.Position.LSN++ },
			func(b *cluster.Beat) { b.Replayed++ },
			func(b *cluster.Beat) { b.Sessions++ },
			func(b *cluster.Beat) { b.StallMS++ },
			func(b *cluster.Beat) { b.Hears = []string{"c", "b"} },
		},
		false: {
			func(b *cluster.Beat) { b.Incarnation++ },
			func(b *cluster.Beat) { b.Term++ },
			func(b *cluster.Beat) { b.Promised++ },
			func(b *cluster.Beat) { b.Admitted++ },
			func(b *cluster.Beat) { b.Attached++ },
			func(b *cluster.Beat) { b.Position.Timeline++ },
			func(b *cluster.Beat) { b.Up = true },
			func(b *cluster.Beat) { b.Recovery = true },
			func(b *cluster.Beat) { b.Readable = true },
			func(b *cluster.Beat) { b.Suspects = []string{"c"} },
			func(b *cluster.Beat) { b.Hears = []string{"b"} },
			func(b *cluster.Beat) { b.NeedsOut = true },
			func(b *cluster.Beat) { b.Draining = true },
			func(b *cluster.Beat) { b.PendingRestart = true },
			func(b *cluster.Beat) { b.Note = "x" },
		},
	} {
		for i, change := range changes {
			b := base
			change(&b)
			if got := sameMeaning(base, b); got != want {
				t.Errorf("change %d: same meaning %v, want %v", i, got, want)
			}
		}
	}
	if base.Position.LSN != 5 || base.Hears[0] != "b" {
		t.Error("comparing changed the beat")
	}
}
