package config_test

import (
	"slices"
	"strings"
	"testing"

	"standfast/config"
)

func TestInherit(t *testing.T) {
	const text = `# ours
cluster: main
members:
  - {name: pg1, address: 10.0.0.11} # the old server
  - {name: pg2, address: 10.0.0.12}
  - {name: pg3, address: 10.0.0.13}
bootstrap:
  lease: 4s # long
  postgresql:
    parameters:
      work_mem: 8MB
    hba:
      - host all all 10.9.0.0/16 scram-sha-256
`
	in := config.Inherited{
		PostgreSQL: 17, DataDir: "/var/lib/postgresql/17/main",
		Parameters: map[string]string{"work_mem": "4MB", "shared_preload_libraries": "pg_stat_statements, auto_explain", "pg_stat_statements.max": "900", "log_line_prefix": `%m '%q"\ `},
		HBA:        []string{"host app app 10.0.0.0/8 md5"}, Ident: []string{`m "a b" c`},
	}
	out, err := config.Inherit("cluster.yml", []byte(text), in)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"# ours", "# the old server", "# long"} {
		if !strings.Contains(string(out), line) {
			t.Errorf("%q is gone from\n%s", line, out)
		}
	}
	d, err := config.ParseDeployment("cluster.yml", out)
	if err != nil {
		t.Fatal(err)
	}
	n := d.Node("pg2")
	p := n.Bootstrap.PostgreSQL
	if n.Postgres.DataDir != in.DataDir || n.Postgres.BinDir != "17" || p.Parameters["work_mem"] != "8MB" || p.Parameters["pg_stat_statements.max"] != "900" ||
		string(p.Parameters["log_line_prefix"]) != in.Parameters["log_line_prefix"] || !slices.Equal(p.HBA, []string{in.HBA[0], "host all all 10.9.0.0/16 scram-sha-256"}) || !slices.Equal(p.Ident, in.Ident) {
		t.Errorf("%+v", n)
	}
	rendered, err := d.RenderNode("pg2")
	if err != nil {
		t.Fatal(err)
	}
	back, err := config.ParseNode("standfast.yml", rendered, nil, nil)
	if err != nil || back.Postgres != n.Postgres {
		t.Errorf("rendered as %+v, want %+v: %v", back.Postgres, n.Postgres, err)
	}
	again, err := config.Inherit("cluster.yml", out, in)
	if err != nil || string(again) != string(out) {
		t.Errorf("inherited twice:\n%s\n%v", again, err)
	}
}

// TestInheritWithinBraces: what is written in braces takes what is inherited in braces.
func TestInheritWithinBraces(t *testing.T) {
	const members = "cluster: main\nmembers:\n  - {name: pg1, address: 10.0.0.11}\n"
	for _, text := range []string{"bootstrap: {lease: 6s}\n", "bootstrap: {lease: 6s, postgresql: {parameters: {work_mem: 7MB}}} # small\n", "bootstrap:\n  postgresql: {parameters: {work_mem: 7MB}}\n", "bootstrap: {}\n"} {
		out, err := config.Inherit("cluster.yml", []byte(members+text), config.Inherited{
			PostgreSQL: 17, DataDir: "/srv/pg", Parameters: map[string]string{"log_line_prefix": "%m [%p] %q%u@%d ", "wal_level": "logical", "a.b": "x, y: {z}", "DateStyle": "ISO, MDY"}, HBA: []string{"local all,replication all peer", "host all all 10.0.0.0/8 md5"},
		})
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		d, err := config.ParseDeployment("cluster.yml", out)
		if p := d.Bootstrap.PostgreSQL; err != nil || p.Parameters["log_line_prefix"] != "%m [%p] %q%u@%d " || p.Parameters["a.b"] != "x, y: {z}" || p.Parameters["DateStyle"] != "ISO, MDY" || len(p.HBA) != 2 || p.HBA[0] != "local all,replication all peer" {
			t.Errorf("%s became\n%s\n%v", text, out, err)
		}
	}
}
