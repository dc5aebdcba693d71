package feed

import (
	"reflect"
	"testing"

	"pgregory.net/rapid"
)

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := Message{Kind: Kind(rapid.Byte().Draw(t, "kind")), Seq: rapid.Uint64().Draw(t, "seq"),
			Deadline: rapid.Int64().Draw(t, "deadline"), Fires: rapid.Uint32().Draw(t, "fires"),
			Data: rapid.StringN(0, -1, 300).Draw(t, "data"), Cgroup: rapid.StringN(0, -1, 300).Draw(t, "cgroup")}
		for range rapid.IntRange(0, 3).Draw(t, "addresses") {
			ip := rapid.SliceOfN(rapid.Byte(), 4, 16).Draw(t, "ip")
			want.Addresses = append(want.Addresses, Address{rapid.Int32().Draw(t, "index"), rapid.Byte().Draw(t, "bits"), ip})
		}
		b := want.Append(nil)
		b = append(b, rapid.SliceOf(rapid.Byte()).Draw(t, "of a later release")...)
		got, err := Parse(b)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("got %+v, %v\nwant %+v", got, err, want)
		}
	})
}

func TestCutShort(t *testing.T) {
	m := Message{Kind: Feed, Data: "/data", Addresses: []Address{{1, 32, []byte{1, 2, 3, 4}}}}
	b := m.Append(nil)
	for n := range b {
		if _, err := Parse(b[:n]); err == nil {
			t.Errorf("accepted cut to %d bytes", n)
		}
	}
}

func TestAnyBytes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		Parse(rapid.SliceOf(rapid.Byte()).Draw(t, "bytes")) // must not panic
	})
}
