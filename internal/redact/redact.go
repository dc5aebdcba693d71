// Package redact takes secrets out of text that leaves a host or is kept. It knows the cluster's own secrets word for word, and the forms in
// which others usually stand: connection strings, SQL, YAML, environments, keys. What looks like one is removed; that a reader lacks a
// word is no harm.
package redact

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
)

// Removed stands where a secret stood.
const Removed = "[removed]"

// leastSecret is the shortest word that is taken for a secret by itself: shorter ones would be found in everything.
const leastSecret = 8

// Redactor removes secrets. The zero value knows the usual forms only.
type Redactor struct{ known []string }

// New returns a Redactor that also removes these secrets, each line of them, wherever they stand.
func New(secrets ...string) Redactor {
	var r Redactor
	for _, s := range secrets {
		for line := range strings.Lines(s) {
			if line = strings.TrimSpace(line); len(line) >= leastSecret && !strings.HasPrefix(line, "-----") {
				r.known = append(r.known, line)
			}
		}
	}
	slices.SortFunc(r.known, func(a, b string) int { return cmp.Compare(len(b), len(a)) }) // one may be a part of another
	return r
}

// secretName is what names a secret, at the end of a key's name: token_file is a path, and no secret.
const secretName = `(?:password|passwd|passphrase|secret|token|credentials?|(?:api|access|private|secret|account|sas|encryption)[_-]?key|cipher[_-]?pass|pwd)`

// form is how secrets stand in texts.
type form struct {
	in    func(low string) bool // whether it may begin in a line, in lower case: matching is slow, and most lines have nothing
	match *regexp.Regexp
	keep  string
	lines int // how many further lines it may span
}

// spanned is how many lines a quoted secret may go on for.
const spanned = 20

func has(words ...string) func(string) bool {
	return func(low string) bool {
		return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(low, w) })
	}
}

// names are parts of secretName, one of them in each of its words.
var names = []string{"passw", "passphrase", "secret", "token", "credential", "key", "cipher", "pwd"}

// named reports whether a name stands in a text so that what is before and after it is as is asked.
func named(low string, as func(before, after string) bool) bool {
	for _, n := range names {
		for at := 0; ; {
			i := strings.Index(low[at:], n)
			if i < 0 {
				break
			}
			if as(low[:at+i], low[at+i+len(n):]) {
				return true
			}
			at += i + len(n)
		}
	}
	return false
}

// assigned: what follows a name, but for the rest of the word, a quote and blanks, is = or :, or the line ends.
func assigned(low string) bool {
	return named(low, func(_, after string) bool {
		after = strings.TrimLeft(after, "abcdefghijklmnopqrstuvwxyz_-")
		after = strings.TrimLeft(after, " \t\r\n\"'")
		return after == "" || after[0] == '=' || after[0] == ':'
	})
}

// option: the word with a name in it begins with a dash.
func option(low string) bool {
	return named(low, func(before, _ string) bool {
		rest := strings.TrimRight(before, "abcdefghijklmnopqrstuvwxyz0123456789")
		return strings.HasSuffix(rest, "-")
	})
}

var forms = []form{
	{has("ldapbindpasswd", "radiussecrets"), regexp.MustCompile(`(?im)(ldapbindpasswd|radiussecrets)(\s*=).*$`), "$1$2" + Removed, 0}, // the end of a line of pg_hba.conf, in quotes of any kind
	{has("scram-sha"), regexp.MustCompile(`SCRAM-SHA-256\$[^\s"',]+`), Removed, 0},
	{has("md5"), regexp.MustCompile(`\bmd5[0-9a-f]{32}\b`), Removed, 0},
	{has("bearer", "basic"), regexp.MustCompile(`(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{6,}`), "$1 " + Removed, 0},
	{has("://"), regexp.MustCompile(`([a-z][a-z0-9+.-]*://[^\s:/@"']*):[^\s@"']+@`), "$1:" + Removed + "@", 0},
	{has("webhook", "chat"), regexp.MustCompile(`(?i)(\b(?:webhook|chat)["']?\s*(?:=|:)\s*["']?https?://)[^\s"',}]+`), "${1}" + Removed, 0},
	{has("/hooks/", "/services/", "/api/webhooks/"), regexp.MustCompile(`(?i)(https?://[^\s/"']+/(?:hooks|services|api/webhooks)/)[^\s"',}]+`), "${1}" + Removed, 0}, // the paths that chats give to incoming webhooks
	{has("password"), regexp.MustCompile(`(?i)(password\s+(?:=\s*)?)((?:E|U&)?'(?:[^']|'')*(?:'|\z)|"[^"]*(?:"|\z))`), "${1}" + Removed, spanned},
	{assigned, regexp.MustCompile(`(?i)(` + secretName + `["']?\s*(?:=>|=|:)\s*)(\\"(?:[^"\\]|\\[^"])*\\"|"(?:[^"\\]|\\.)*"|'(?:[^']|'')*'|[^\s"',;&}\])]+)(?:[ \t]+(?:->|→)[ \t]+\S+)?`), "${1}" + Removed, spanned},
	{option, regexp.MustCompile(`(?i)(--?[a-z0-9-]*` + secretName + `\s+)("[^"]*"|'[^']*'|[^\s"'-][^\s"']*)`), "${1}" + Removed, 0},
}

// privateKey is a block of PEM (RFC 7468), or the rest of one that is cut off.
var privateKey = regexp.MustCompile(`(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\z)`)

// replace removes what has the form. Only lines with one of its words are matched, with those that it may span.
func (f form) replace(text string) string {
	low := strings.ToLower(text)
	if len(low) != len(text) || !f.in(low) { // a letter whose lower case has another length: no line can be told from the other text
		if len(low) == len(text) {
			return text
		}
		return f.match.ReplaceAllString(text, f.keep)
	}
	var b strings.Builder
	begin, at, left := 0, 0, -1 // left: lines that still belong to the piece from begin; -1: there is none
	for line := range strings.Lines(low) {
		switch suspect := f.in(line); {
		case suspect && left < 0:
			b.WriteString(text[begin:at])
			begin, left = at, f.lines
		case suspect:
			left = f.lines
		case left == 0:
			b.WriteString(f.match.ReplaceAllString(text[begin:at], f.keep))
			begin, left = at, -1
		case left > 0:
			left--
		}
		at += len(line)
	}
	if left >= 0 {
		return b.String() + f.match.ReplaceAllString(text[begin:], f.keep)
	}
	return b.String() + text[begin:]
}

// Text removes what has the usual forms of a secret.
func Text(text string) string { return Redactor{}.Text(text) }

// Text removes what is a secret from a text.
func (r Redactor) Text(text string) string {
	for _, s := range r.known {
		text = strings.ReplaceAll(text, s, Removed)
	}
	if strings.Contains(text, "PRIVATE KEY-----") {
		text = privateKey.ReplaceAllString(text, Removed)
	}
	for _, f := range forms {
		text = f.replace(text)
	}
	return text
}

// JSON is Text for each string of a document, and removes the values of keys that name a secret. Keys come out sorted. What can't be read is not
// given at all.
func (r Redactor) JSON(text []byte) string {
	var doc any
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&doc); err != nil {
		return "\"left out: it can't be read as JSON, so its secrets can't be found\"\n"
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(r.values(doc)); err != nil {
		return "\"left out: it can't be written again\"\n"
	}
	return b.String()
}

func (r Redactor) values(v any) any {
	switch v := v.(type) {
	case string:
		return r.Text(v)
	case []any:
		for i := range v {
			v[i] = r.values(v[i])
		}
	case map[string]any:
		for key, value := range v {
			if s, ok := value.(string); ok && s != "" && (secretKey.MatchString(key) || command.MatchString(key)) {
				v[key] = Removed
				continue
			}
			v[key] = r.values(value)
		}
	}
	return v
}

// statements are the lines of PostgreSQL's log that hold what clients have sent, or rows of theirs.
var statements = regexp.MustCompile(`(?:(?:STATEMENT|DETAIL|QUERY|CONTEXT|HINT):  |LOG:  (?:duration: .*? )?(?:statement|execute [^:]*|parse [^:]*|bind [^:]*|AUDIT): )`)

// mayState is in every line that statements matches.
var mayState = has("STATEMENT:", "DETAIL:", "QUERY:", "CONTEXT:", "HINT:", "statement: ", "execute ", "parse ", "bind ", "AUDIT: ")

// Log is Text for PostgreSQL's log: clients' statements and rows are taken out as well, with the lines that continue them.
func (r Redactor) Log(text string) string {
	var b strings.Builder
	dropping := true // what lines at the beginning continue is not known
	for line := range strings.Lines(text) {
		continued := strings.HasPrefix(line, "\t")
		var at []int
		if mayState(line) {
			at = statements.FindStringIndex(line)
		}
		switch {
		case continued && dropping:
			continue
		case !continued && at != nil:
			dropping = true
			b.WriteString(line[:at[1]] + Removed + "\n")
			continue
		case !continued:
			dropping = false
		}
		b.WriteString(line)
	}
	return r.Text(b.String())
}

// command are keys whose values are commands or connection strings, in which a secret may have any form.
var command = regexp.MustCompile(`(?i)(_command|conninfo|^on_[a-z_]+|^command|^chat|^webhook)$`)

var secretKey = regexp.MustCompile(`(?i)` + secretName + `$`)

// YAML removes secrets from a configuration: by the names of the keys, commands whole, comments with what they hold, then as Text does. What
// can't be read is not given at all.
func (r Redactor) YAML(text []byte) string {
	var doc yaml.MapSlice
	if err := yaml.UnmarshalWithOptions(text, &doc, yaml.UseOrderedMap()); err != nil {
		return "# left out: it can't be read as YAML, so its secrets can't be found\n"
	}
	out, err := yaml.Marshal(walk(doc))
	if err != nil {
		return "# left out: it can't be written again\n"
	}
	return r.Text(string(out))
}

func walk(v any) any {
	switch v := v.(type) {
	case yaml.MapSlice:
		for i, item := range v {
			name := fmt.Sprint(item.Key)
			custom := strings.Contains(name, ".") // a parameter of the site's own
			if _, deeper := item.Value.(yaml.MapSlice); !deeper && (secretKey.MatchString(name) || command.MatchString(name) || custom) {
				if text := fmt.Sprint(item.Value); text != "" && item.Value != nil {
					v[i].Value = Removed
				}
				continue
			}
			v[i].Value = walk(item.Value)
		}
		return v
	case []any:
		for i := range v {
			v[i] = walk(v[i])
		}
		return v
	}
	return v
}

// settingLine is a line of postgresql.conf.
var settingLine = regexp.MustCompile(`(?m)^(\s*#?\s*)([A-Za-z_][A-Za-z0-9_$.]*)(\s*=?\s*)(.*)$`)

// Settings is Text for postgresql.conf: commands, connection strings and parameters of the site's own are taken out whole, in comments too.
func (r Redactor) Settings(text string) string {
	text = settingLine.ReplaceAllStringFunc(text, func(line string) string {
		g := settingLine.FindStringSubmatch(line)
		if command.MatchString(g[2]) || secretKey.MatchString(g[2]) || strings.Contains(g[2], ".") && strings.Contains(g[3], "=") {
			return g[1] + g[2] + g[3] + Removed
		}
		return line
	})
	return r.Text(text)
}
