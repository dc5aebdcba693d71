// Package redact takes secrets out of text that leaves a host or is kept: passwords in connection strings, tokens in headers, values of
// keys that name a secret. It errs on the side of taking out too much.
package redact

import "regexp"

const mask = "***"

var secrets = []struct {
	pattern *regexp.Regexp
	with    string
}{
	// -----BEGIN ... PRIVATE KEY-----, to its end or the text's
	{regexp.MustCompile(`(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|$)`), mask},
	// scheme://user:password@host
	{regexp.MustCompile(`([a-zA-Z][a-zA-Z0-9+.-]*://[^\s:/@'"]+:)[^\s@'"]+@`), "${1}" + mask + "@"},
	// webhook: https://host/hooks/x, chat=https://host/x, "chat":"https://host/x", and the paths that chats give to incoming webhooks
	{regexp.MustCompile(`(?i)(\b(?:webhook|chat)["']?\s*(?:=|:)\s*["']?https?://)[^\s"',}]+`), "${1}" + mask},
	{regexp.MustCompile(`(https?://[^\s/"']+/(?:hooks|services|api/webhooks)/)[^\s"',}]+`), "${1}" + mask},
	// SCRAM verifiers and md5 hashes as PostgreSQL stores them
	{regexp.MustCompile(`SCRAM-SHA-256\$[^\s'"]+`), mask},
	{regexp.MustCompile(`\bmd5[0-9a-f]{32}\b`), mask},
	// Authorization: Bearer x, Basic x
	{regexp.MustCompile(`(?i)\b(bearer|basic)(\s+)[A-Za-z0-9._~+/=-]{6,}`), "${1}${2}" + mask},
	// PASSWORD 'x' in SQL, quotes doubled inside
	{regexp.MustCompile(`(?i)(\bpassword\s+(?:e|u&)?)'(?:[^']|'')*('|$)`), "${1}'" + mask + "'"},
	// password=x, "token": "x", secret: x; also my_password, api-key, PGPASSWORD
	{regexp.MustCompile(`(?i)([a-z0-9_.-]*(?:password|passwd|passphrase|secret|token|api[_-]?key|private[_-]?key|access[_-]?key)["']?\s*(?:=>|=|:)\s*)("(?:[^"\\]|\\.)*"|'(?:[^']|'')*'|[^\s,;'"&)}\]]+)(?:\s+(?:->|→)\s+\S+)?`), "${1}" + mask},
}

// Text is s without its secrets.
func Text(s string) string {
	for _, r := range secrets {
		s = r.pattern.ReplaceAllString(s, r.with)
	}
	return s
}
