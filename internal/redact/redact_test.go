package redact

import (
	"strings"
	"testing"
)

func TestText(t *testing.T) {
	for _, c := range []struct{ in, keep string }{
		{"host=pg1 password=hunter2 dbname=app", "host=pg1 password=*** dbname=app"},
		{"host=pg1 password='hun ter2' dbname=app", "password=*** dbname=app"},
		{"postgres://app:hunter2@pg1:5432/app", "postgres://app:***@pg1:5432/app"},
		{"ALTER ROLE app PASSWORD 'hunter2';", "PASSWORD '***';"},
		{"create role a password 'hun''ter2' login", "password '***' login"},
		{"ALTER ROLE app PASSWORD 'hunter2", "PASSWORD '***'"},
		{"Authorization: Bearer hunter2hunter2", "Bearer ***"},
		{`{"token": "hunter2", "name": "x"}`, `"token": ***, "name": "x"`},
		{"notify.webhook.bearer_token: a -> hunter2", "notify.webhook.bearer_token: ***"},
		{"PGPASSWORD=hunter2 psql", "PGPASSWORD=*** psql"},
		{"notify: {chat: https://chat.example.org/x/hunter2, at_least: info}", ", at_least: info}"},
		{`{"notify":{"webhook":"https://u@h/?hunter2","x":1}}`, `","x":1}}`},
		{"post to https://chat.example.org/hooks/hunter2 failed", "https://chat.example.org/hooks/*** failed"},
		{"SCRAM-SHA-256$4096:hunter2$x:y", "***"},
		{"-----BEGIN EC PRIVATE KEY-----\nhunter2\n-----END EC PRIVATE KEY-----\nafter", "***\nafter"},
	} {
		got := Text(c.in)
		if strings.Contains(got, "hunter2") || strings.Contains(got, "ter2") || !strings.Contains(got, c.keep) {
			t.Errorf("%q: got %q, want %q in it", c.in, got, c.keep)
		}
	}
}

// TestTextLeavesTheRest: what is no secret is what a reader needs.
func TestTextLeavesTheRest(t *testing.T) {
	for _, s := range []string{
		`FATAL:  password authentication failed for user "app"`, "pg1: 3 sessions, lag 12 kB", "detection: balanced → fast",
		"token_file is not readable", "password_encryption = scram-sha-256",
	} {
		if got := Text(s); got != s {
			t.Errorf("%q became %q", s, got)
		}
	}
}
