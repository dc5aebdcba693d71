package redact_test

import (
	"encoding/json"
	"strings"
	"testing"

	"standfast/internal/redact"
)

// hush is in every secret that is planted.
const hush = "hUsH7"

func TestSecretsGo(t *testing.T) {
	r := redact.New("cluster-token-hUsH7\n", "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEhUsH7hUsH7\n-----END EC PRIVATE KEY-----\n", "x")
	for _, text := range []string{
		"the token cluster-token-hUsH7 in the middle",
		"half a key MHcCAQEEhUsH7hUsH7 in a line",
		"-----BEGIN RSA PRIVATE KEY-----\nabchUsH7\ndefhUsH7\n-----END RSA PRIVATE KEY-----",
		"-----BEGIN PRIVATE KEY-----\nabchUsH7\ncut off",
		"host=pg1 user=app password=hUsH7 dbname=app",
		"host=pg1 password = 'hUsH7 with '' blanks' dbname=app",
		`hostssl all all all ldap ldapserver=x "ldapbindpasswd=two hUsH7"`, `host all all all radius radiussecrets="""a"",""hUsH7"""`,
		`{"primary_conninfo":"host=pg1 password=\"hUsH7 a\" user=x"}`,
		"postgres://app:hUsH7@pg1:5000/app", "https://user:p:hUsH7@example.org/",
		"ALTER ROLE app PASSWORD 'hUsH7'", "create role a login encrypted password E'hUsH7 ''x'",
		"rolpassword SCRAM-SHA-256$4096:hUsH7==$abc:def", "md5" + strings.Repeat("a7", 16) + "", // no hush in hexadecimal
		"Authorization: Bearer hUsH7.abc-def", "authorization: basic aHVzhUsH7==",
		"AWS_SECRET_ACCESS_KEY=hUsH7", "export PGPASSWORD=hUsH7", "repo1-cipher-pass=hUsH7", "azure-account-key: hUsH7", "SLACK_TOKEN: 'hUsH7'", `"api_key": "hUsH7"`, `"apiKey":"hUsH7\"more"`,
		"tool --password hUsH7 --host x", "tool --secret-key=hUsH7 x", `tool --token "hUsH7 x"`,
	} {
		if got := r.Text(text); strings.Contains(got, hush) || strings.Contains(got, "a7a7") {
			t.Errorf("%s\nbecame %s", text, got)
		}
	}
}

func TestTheRestStays(t *testing.T) {
	r := redact.New("x", "")
	for _, text := range []string{
		"token_file: /etc/standfast/token", "secret_file: /etc/standfast/secret", "password_encryption = scram-sha-256", "passwords were stored",
		"pg1: 10.0.0.11:8443: connection refused: is standfast running there?", `{"name":"pg1","lsn":"0/5000060","address":"https://10.0.0.11:2379"}`,
		"2026-05-01 03:00:00.000 UTC [1] LOG:  checkpoint complete", "max_connections: 100", `password authentication failed for user "app"`,
	} {
		if got := r.Text(text); got != text {
			t.Errorf("%s\nbecame %s", text, got)
		}
	}
}

func TestLog(t *testing.T) {
	text := "\tthe rest hUsH7 of a statement\n2026-05-01 03:00:00.000 UTC [7] LOG:  checkpoint complete\n" +
		"2026-05-01 03:00:01.000 UTC [7] ERROR:  duplicate key\n" +
		"2026-05-01 03:00:01.000 UTC [7] DETAIL:  Key (mail)=(hUsH7@example.org) already exists.\n" +
		"2026-05-01 03:00:01.000 UTC [7] STATEMENT:  insert into people\n\tvalues ('hUsH7')\n\tand more hUsH7\n" +
		"2026-05-01 03:00:02.000 UTC [7] LOG:  duration: 1.2 ms  statement: select 'hUsH7'\n" +
		"2026-05-01 03:00:02.000 UTC [7] LOG:  execute s1: select 'hUsH7'\n" +
		"2026-05-01 03:00:03.000 UTC [7] FATAL:  the end\n\tof it\n"
	got := redact.New().Log(text)
	if strings.Contains(got, hush) || !strings.Contains(got, "checkpoint complete") || !strings.Contains(got, "duplicate key") || !strings.Contains(got, "the end\n\tof it\n") {
		t.Error(got)
	}
}

func TestYAML(t *testing.T) {
	got := redact.New().YAML([]byte(`# password hUsH7 in a comment
token_file: /etc/standfast/token
hooks:
  on_role_change: 'curl -H "X-Key: hUsH7" https://example.org'
notify: {webhook: "hUsH7", chat: hUsH7, command: tell hUsH7}
bootstrap:
  postgresql:
    parameters:
      archive_command: |
        put --anything hUsH7
        %p
      work_mem: 4MB
      app.jwt: hUsH7
      primary_conninfo: host=a hUsH7
    hba:
    - host all all all ldap ldapbindpasswd=hUsH7
  password: hUsH7
  lease: 3s
`))
	if strings.Contains(got, hush) {
		t.Error(got)
	}
	for _, want := range []string{"token_file: /etc/standfast/token", "work_mem: 4MB", "lease: 3s", "archive_command: '[removed]'", "host all all all ldap"} {
		if !strings.Contains(strings.ReplaceAll(got, `"`, "'"), want) {
			t.Errorf("%q is gone:\n%s", want, got)
		}
	}
	if got := redact.New().YAML([]byte("a: [hUsH7")); strings.Contains(got, hush) {
		t.Error("what can't be read is given away")
	}
}

func TestSettings(t *testing.T) {
	got := redact.New().Settings("archive_command = 'put --anything hUsH7 %p'\n#primary_conninfo = 'host=a hUsH7'\napp.jwt = 'hUsH7'\nssl_passphrase_command 'echo hUsH7'\nwork_mem = '4MB' # enough\n# a word on archive\n")
	if strings.Contains(got, hush) || !strings.Contains(got, "work_mem = '4MB' # enough") || !strings.Contains(got, "# a word on archive") || !strings.Contains(got, "archive_command = [removed]") {
		t.Error(got)
	}
}

func TestWhatIsLeftOfIt(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"host=pg1 password=hUsH7 dbname=app", "host=pg1 password=[removed] dbname=app"},
		{"host=pg1 password='two hUsH7' dbname=app", "host=pg1 password=[removed] dbname=app"},
		{"postgres://app:hUsH7@pg1:5432/app", "postgres://app:[removed]@pg1:5432/app"},
		{"create role a password 'two''hUsH7' login", "create role a password [removed] login"},
		{"ALTER ROLE app PASSWORD 'cut off hUsH7", "ALTER ROLE app PASSWORD [removed]"},
		{"ALTER ROLE app PASSWORD U&'hUsH7';", "ALTER ROLE app PASSWORD [removed];"},
		{`{"token": "hUsH7", "name": "x"}`, `{"token": [removed], "name": "x"}`},
		{"notify.webhook.bearer_token: a -> hUsH7", "notify.webhook.bearer_token: [removed]"},
		{"notify: {chat: https://chat.example.org/x/hUsH7, at_least: info}", "notify: {chat: https://[removed], at_least: info}"},
		{`{"notify":{"webhook":"https://u@h/?hUsH7","x":1}}`, `{"notify":{"webhook":"https://[removed]","x":1}}`},
		{"post to https://chat.example.org/hooks/hUsH7 failed", "post to https://chat.example.org/hooks/[removed] failed"},
		{"password => 'hUsH7', x", "password => [removed], x"},
		{"PGPASSWORD=hUsH7 psql", "PGPASSWORD=[removed] psql"},
		{"-----BEGIN EC PRIVATE KEY-----\nhUsH7\n-----END EC PRIVATE KEY-----\nafter", "[removed]\nafter"},
		{"pg1: 3 sessions, lag 12 kB", "pg1: 3 sessions, lag 12 kB"}, {"detection: balanced → fast", "detection: balanced → fast"}, {"token_file is not readable", "token_file is not readable"},
	} {
		if got := redact.Text(c.in); got != c.want {
			t.Errorf("%q: got %q, want %q", c.in, got, c.want)
		}
	}
}

func TestLongTexts(t *testing.T) {
	const plain = "2026-05-01 03:00:00.000 UTC [7] LOG:  checkpoint complete: wrote 41 buffers\n"
	around := strings.Repeat(plain, 30)
	for _, secret := range []string{"PGPASSWORD=hUsH7\n", "alter role app password\n\n'a hUsH7\n b'\n", "x password='a\nhUsH7\nb' y\n", "password=hUsH7\n"} {
		for _, text := range []string{around + secret, secret + around, around + secret + around + secret + around, around + secret + secret + around, around + strings.TrimSpace(secret)} {
			got := redact.New().Text(text)
			if strings.Contains(got, hush) {
				t.Errorf("%q is left", secret)
			}
			if strings.Count(got, plain) < strings.Count(text, plain)-1 {
				t.Errorf("%q took lines of others with it", secret)
			}
		}
	}
	if got := redact.New().Text(around + "İ PASSWORD=hUsH7 " + around); strings.Contains(got, hush) { // its lower case is longer
		t.Error(got)
	}
}

func TestJSON(t *testing.T) {
	got := redact.New("a-secret-that-is-hUsH7").JSON([]byte(`{"n":12345678901234567890,"token":"hUsH7","token_file":"/etc/token","archive_command":"x hUsH7","more":[{"Password":"hUsH7","why":"host=a password=hUsH7"},"a-secret-that-is-hUsH7"],"<":null}`))
	if strings.Contains(got, hush) || !json.Valid([]byte(got)) {
		t.Error(got)
	}
	for _, want := range []string{"12345678901234567890", `"token_file": "/etc/token"`, `"<": null`} {
		if !strings.Contains(got, want) {
			t.Errorf("%s is gone:\n%s", want, got)
		}
	}
	if got := redact.New().JSON([]byte(`{"a":"hUsH7`)); strings.Contains(got, hush) {
		t.Error("what can't be read is given away")
	}
}
