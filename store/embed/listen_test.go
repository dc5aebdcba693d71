package embed

import "testing"

// TestListensWhereTold, and tells the others the address that they reach it at.
func TestListensWhereTold(t *testing.T) {
	for listen, want := range map[string][2]string{
		"":        {"db1.example:2380", "db1.example:2379"},
		"0.0.0.0": {"0.0.0.0:2380", "0.0.0.0:2379"},
		"::":      {"[::]:2380", "[::]:2379"},
	} {
		e, err := Config{PeerURL: "https://db1.example:2380", ClientURL: "https://db1.example:2379", Listen: listen}.etcd()
		if err != nil {
			t.Fatal(err)
		}
		if got := [2]string{e.ListenPeerUrls[0].Host, e.ListenClientUrls[0].Host}; got != want {
			t.Errorf("listen %q: bound to %v, want %v", listen, got, want)
		}
		if got := e.AdvertisePeerUrls[0].Host; got != "db1.example:2380" {
			t.Errorf("listen %q: the others are told %s", listen, got)
		}
	}
}
