package api

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestTokensDiffer(t *testing.T) {
	one, id := NewToken()
	two, _ := NewToken()
	gotID, hash := HashToken(one)
	if one == two || gotID != id || !IsGrant(id) || !grantID.MatchString(id) || !grantHash.MatchString(hash) {
		t.Errorf("%s, %s: %s %s", one, two, gotID, hash)
	}
	if _, other := HashToken(two); other == hash {
		t.Error("two tokens have one hash")
	}
	for _, bad := range []string{"", "secret", id, id + ".", "pg2." + strings.Repeat("a", 52)} {
		if gotID, hash := HashToken(bad); gotID != "" || hash != "" {
			t.Errorf("%q has an ID", bad)
		}
	}
}

// book keeps grants in memory.
type book struct{ all map[string]Grant }

func (b *book) Grants(context.Context) (out []Grant, err error) {
	for _, g := range b.all {
		g.Hash = ""
		out = append(out, g)
	}
	return out, nil
}
func (b *book) AddGrant(_ context.Context, g Grant) error { b.all[g.ID] = g; return nil }
func (b *book) RevokeGrant(_ context.Context, id string) error {
	if _, ok := b.all[id]; !ok {
		return Errorf(NotFound, "there is no token %s", id)
	}
	delete(b.all, id)
	return nil
}

// TestAccess: what each role may do, and may not. Nobody but the cluster's own token makes tokens.
func TestAccess(t *testing.T) {
	token, id := NewToken()
	_, hash := HashToken(token)
	grant := func(change string) string {
		body, err := json.Marshal(Grant{ID: id, Operator: "bert", Role: Read, Hash: hash, Expires: time.Now().Add(time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		if change == "" {
			return string(body)
		}
		old, with, _ := strings.Cut(change, "=>")
		return strings.Replace(string(body), old, with, 1)
	}
	ops := &operator{}
	c, log := changer(sample("pg2"), ops)
	b := &book{map[string]Grant{}}
	c.grants = b
	who := Operator{}
	c.tokens = func(token string) (Operator, bool) { return who, token == "secret" }
	for _, try := range []struct {
		access        Access
		request, body string
		code          int
		answer        string
	}{
		{Read, "GET /config", "", 200, "lease"},
		{Read, "GET /tokens", "", 200, "[]"},
		{Read, "POST /switchover", "", 403, "the token of carl may only read"},
		{Read, "PATCH /config", "{}", 403, "may only read"},
		{Read, "POST /tokens", grant(""), 403, "with the cluster's own token"},
		{Read, "GET /support", "", 403, "may only read"},
		{Operate, "GET /support", "", 404, "nothing for a supporter"},
		{Read, "DELETE /slots", `{"name":"x"}`, 403, "may only read"},
		{Operate, "DELETE /slots", `{"name":"x","member":"pg2"}`, 200, "dropped"},
		{Operate, "DELETE /slots", `{}`, 400, "which slot"},
		{Operate, "DELETE /slots", `{"name":"x","member":"pg9"}`, 404, "no member pg9"},
		{Operate, "POST /switchover", "", 200, "switched over"},
		{Operate, "POST /tokens", grant(""), 403, "with the cluster's own token"},
		{Operate, "DELETE /tokens", `{"id":"` + id + `"}`, 403, "with the cluster's own token"},
		{"", "POST /switchover", "", 403, "may only read"},
		{Admin, "POST /switchover", "", 200, "switched over"},
		{Admin, "POST /tokens", grant("bert=>b t"), 400, "can't name somebody"},
		{Admin, "POST /tokens", grant(`"read"=>"admin"`), 400, "read or operate"},
		{Admin, "POST /tokens", grant(hash + "=>abc"), 400, "id and hash"},
		{Admin, "POST /tokens", grant(id + "=>op-../state"), 400, "id and hash"},
		{Admin, "POST /tokens", fmt.Sprintf(`{"id":"%s","operator":"bert","role":"read","hash":"%s","expires":"2020-01-01T00:00:00Z"}`, id, hash), 400, "is over"},
		{Admin, "POST /tokens", grant(""), 200, "created"},
		{Admin, "GET /tokens", "", 200, `"operator":"bert","role":"read","by":"carl"`},
		{Admin, "DELETE /tokens", `{"id":"../state"}`, 404, "there is no token"},
		{Admin, "DELETE /tokens", `{"id":"` + id + `"}`, 200, "revoked"},
		{Admin, "DELETE /tokens", `{"id":"` + id + `"}`, 404, "there is no token"},
	} {
		who = Operator{"carl", try.access}
		method, path, _ := strings.Cut(try.request, " ")
		if w := send(c, method, path, try.body); w.Code != try.code || !strings.Contains(w.Body.String(), try.answer) {
			t.Errorf("%s of %q: %d %s", try.request, try.access, w.Code, w.Body)
		}
	}
	if said := log.String(); strings.Contains(said, hash) || !strings.Contains(said, "id "+id+", for bert, role read") || !strings.Contains(said, "operator=carl") {
		t.Errorf("the log: %s", said)
	}
	c.grants = nil
	who = Operator{"carl", Admin}
	for _, request := range []string{"GET /tokens", "POST /tokens", "DELETE /tokens"} {
		method, path, _ := strings.Cut(request, " ")
		body := ""
		if method == "POST" {
			body = grant("")
		}
		if w := send(c, method, path, body); w.Code != 404 {
			t.Errorf("%s without grants: %d %s", request, w.Code, w.Body)
		}
	}
}
