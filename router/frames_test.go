package router

import (
	"encoding/binary"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
	"pgregory.net/rapid"
)

// However the server's bytes are cut into pieces, the frames are those of the messages.
func TestFramesFollowAnyPieces(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var stream []byte
		ends := map[int]byte{0: 0} // where a message ends, and its kind
		wantKey := ""
		add := func(m pgproto3.BackendMessage, kind byte) {
			var err error
			if stream, err = m.Encode(stream); err != nil {
				t.Fatal(err)
			}
			ends[len(stream)] = kind
		}
		for range rapid.IntRange(1, 12).Draw(t, "messages") {
			switch rapid.IntRange(0, 3).Draw(t, "kind") {
			case 0:
				add(&pgproto3.DataRow{Values: [][]byte{rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "row")}}, 'D')
			case 1:
				add(&pgproto3.ReadyForQuery{TxStatus: 'T'}, 'Z')
			case 2:
				add(&pgproto3.BindComplete{}, '2')
			case 3:
				secret := rapid.SliceOfN(rapid.Byte(), 4, 256).Draw(t, "secret")
				add(&pgproto3.BackendKeyData{ProcessID: 9, SecretKey: secret}, 'K')
				wantKey = string(binary.BigEndian.AppendUint32(nil, 9)) + string(secret)
			}
		}
		var f frames
		key := ""
		for at := 0; at < len(stream); {
			n := rapid.IntRange(1, len(stream)-at).Draw(t, "piece")
			if k := f.feed(stream[at : at+n]); k != "" {
				key = string(k)
			}
			at += n
			kind, end := ends[at]
			if f.between() != end {
				t.Fatalf("at byte %d: between messages is %v, want %v", at, f.between(), end)
			}
			if kind == 'Z' && !f.unasked() {
				t.Fatal("ReadyForQuery went unnoticed")
			}
			f.ready = false
		}
		if key != wantKey {
			t.Fatalf("key %x, want %x", key, wantKey)
		}
	})
}

func TestFramesGiveUpOnNonsense(t *testing.T) {
	for _, p := range []string{"Z\x00\x00\x00\x03", "D\xff\xff\xff\xff", "K\x00\x00\x10\x00"} {
		var f frames
		f.feed([]byte(p))
		if !f.broken || f.unasked() {
			t.Errorf("%q was taken for a message", p)
		}
	}
}
