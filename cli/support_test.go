package cli_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"

	"standfast/config"
	"standfast/doctor/dossier"

	"github.com/rogpeppe/go-internal/testscript"
)

// hush is in every secret that is planted and is not one of the cluster's own.
const hush = "hUsH7"

// plant writes secrets of every kind where a supporter's archive takes its texts from, the cluster's own among them, and lists in the file
// secrets what must not be found: a line each.
func plant(ts *testscript.TestScript, neg bool, args []string) {
	words := []string{hush}
	for _, name := range []string{"pg1", "pg2", "pg3"} {
		file := ts.MkAbs(filepath.Join(name, "standfast.yml"))
		n, err := config.LoadNode(file, nil, nil)
		ts.Check(err)
		var own []string
		for _, path := range []string{n.TokenFile, n.SecretFile, filepath.Join(n.TLSDir, "tls.key")} {
			text, err := os.ReadFile(path)
			if err != nil {
				continue
			}
			for line := range strings.Lines(string(text)) {
				if line = strings.TrimSpace(line); len(line) >= 8 && !strings.HasPrefix(line, "-----") {
					own = append(own, line)
				}
			}
		}
		if len(own) < 2 {
			ts.Fatalf("%s: found no secrets of the cluster's own", name)
		}
		words = append(words, own...)
		words = append(words, "monitor-0123456789")
		write := func(path, text string) {
			ts.Check(os.MkdirAll(filepath.Dir(path), 0o700))
			ts.Check(os.WriteFile(path, []byte(text), 0o600))
		}
		write(filepath.Join(n.StateDir, "passwords", "standfast_monitor.password"), "monitor-0123456789\n")
		write(filepath.Join(n.StateDir, "log", "postgresql.log"), "\tvalues ('hUsH7')\n2026-05-01 03:00:00.000 UTC [7] LOG:  the log of "+name+"\n"+
			"2026-05-01 03:00:00.000 UTC [7] FATAL:  could not connect: host=pg9 password=hUsH7\n2026-05-01 03:00:00.000 UTC [7] STATEMENT:  alter role app\n\tpassword 'hUsH7'\n"+
			strings.Join(own, "\nx ")+"\nmonitor-0123456789\n")
		write(filepath.Join(n.StateDir, "log", "etcd.log"), `{"msg":"refused","authorization":"Bearer hUsH7.hUsH7"}`+"\n-----BEGIN EC PRIVATE KEY-----\nhUsH7\n")
		write(filepath.Join(n.Postgres.DataDir, "postgresql.auto.conf"), "primary_conninfo = 'host=pg9 user=x password=hUsH7'\narchive_command = 'put hUsH7'\nwork_mem = '4MB'\n")
		write(filepath.Join(n.Postgres.DataDir, "standfast_hba.conf"), "host all all all ldap ldapserver=l ldapbindpasswd=\"a hUsH7\"\n")
		text, err := os.ReadFile(file)
		ts.Check(err)
		write(file, string(text)+"hooks:\n  on_role_change: 'curl -u x:hUsH7 https://example.org' # hUsH7\n")
	}
	ts.Check(os.WriteFile(ts.MkAbs("secrets"), []byte(strings.Join(words, "\n")+"\n"), 0o600))
}

// support is what a member gives: its own, as a real one.
func (f *fake) support(n config.Node, file string) func(context.Context) any {
	return func(ctx context.Context) any {
		return dossier.Host{Node: n, File: file, Version: "1.0", Log: func() string {
			return "time=2026-05-01 level=INFO msg=\"the agent of " + n.Name + "\" error=\"connect postgres://x:hUsH7@pg9/y\"\n"
		}}.Collect(ctx)
	}
}
