package node

import (
	"testing"
	"time"

	"standfast/api"
	"standfast/store"
)

func TestGranted(t *testing.T) {
	token, id := api.NewToken()
	_, hash := api.HashToken(token)
	other, otherID := api.NewToken()
	now := time.Now()
	all := map[string]store.Grant{id: {ID: id, Operator: "anna", Role: "operate", Hash: hash, Expires: now.Add(time.Minute).UnixMilli()}}
	if o, ok := granted(all, token, now); !ok || o != (api.Operator{Name: "anna", Access: api.Operate}) {
		t.Errorf("anna: %+v, %v", o, ok)
	}
	for what, try := range map[string]struct {
		token string
		at    time.Time
	}{
		"over": {token, now.Add(time.Minute)}, "another": {other, now}, "another's secret": {id + other[len(otherID):], now},
		"none": {"", now}, "the ID alone": {id, now}, "cut": {token[:len(token)-1], now},
	} {
		if o, ok := granted(all, try.token, try.at); ok {
			t.Errorf("%s: %+v", what, o)
		}
	}
	if _, ok := granted(nil, token, now); ok {
		t.Error("good though nothing is agreed")
	}
}
