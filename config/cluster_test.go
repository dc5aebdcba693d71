package config_test

import (
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"standfast/cluster"
	"standfast/config"

	"pgregory.net/rapid"
)

func cluster1(t *testing.T, text string) config.Cluster {
	t.Helper()
	c, err := config.ParseCluster("config", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestSettings(t *testing.T) {
	until := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	c := cluster1(t, "detection: fast\npaused_until: 2026-05-01T12:00:00Z\n")
	want := cluster.Settings{
		Durability: cluster.Quorum, Copies: 1, Detect: 700 * time.Millisecond, Lease: 3 * time.Second,
		AgentGrace: 3 * time.Second, GuardDelay: time.Second, AntiFlap: time.Minute, Paused: true,
	}
	if got := c.SettingsAt(until.Add(-time.Second)); got != want {
		t.Errorf("SettingsAt = %+v\nwant         %+v", got, want)
	}
	if c.Paused(until) {
		t.Error("a pause must end at its time")
	}
}

func TestRenderIsReadBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := config.DefaultCluster()
		c.Durability = rapid.SampledFrom([]cluster.Durability{cluster.Quorum, cluster.Async}).Draw(t, "durability")
		c.Detection = rapid.SampledFrom([]config.Detection{"fast", "balanced", "1500ms"}).Draw(t, "detection")
		c.AntiFlap = config.Duration(rapid.Int64Range(0, int64(48*time.Hour)).Draw(t, "anti_flap"))
		c.Router.ReadMaxLagBytes = config.Size(rapid.Int64Range(0, 1<<50).Draw(t, "bytes"))
		c.Notify = config.Notify{AtLeast: "info", Webhook: "https://u:p@h/x?y=z#f", Chat: "http://h:1/hooks/abc", Command: config.Text(rapid.StringMatching(`[ -~]{0,20}`).Draw(t, "command")), Syslog: true, Timeout: 1}
		c.PostgreSQL.Parameters = map[string]config.Text{}
		value := rapid.OneOf(rapid.StringMatching(`[ -~]{0,20}`), rapid.SampledFrom([]string{
			"? !", "? a", "0.90", "1e3", "0017", "0o17", "0x1F", "on", "yes", "null", "~", "1_000", "2026-01-02", "- a", "a: b", "a #b", ".5", "1.", "-1",
			"+3", "NaN", ".inf", "0b1", "a, b", "\"x\"", "1:30",
		}))
		for _, v := range rapid.SliceOfN(value, 0, 5).Draw(t, "values") {
			c.PostgreSQL.Parameters["my.p"+string(rune('a'+len(c.PostgreSQL.Parameters)))] = config.Text(v)
		}
		c.PostgreSQL.HBA = []string{"# " + rapid.StringMatching(`[ -~]{0,20}`).Draw(t, "hba")}
		c.PostgreSQL.Ident = []string{}
		c.PostgreSQL.Slots = []config.Slot{{Name: rapid.StringMatching(`[a-r0-9_]{1,9}`).Draw(t, "slot"), Database: rapid.StringMatching(`[A-Za-z][A-Za-z0-9-]{0,9}`).Draw(t, "database"), Plugin: "pgoutput"}}
		c.PostgreSQL.ReplicationClients = []config.ReplicationClient{{Name: "s" + rapid.StringMatching(`[t-z0-9_]{1,9}`).Draw(t, "client"), Role: rapid.StringMatching(`[A-Za-z][A-Za-z0-9-]{0,9}`).Draw(t, "role")}}
		text, err := c.Render()
		if err != nil {
			t.Fatal(err)
		}
		back, err := config.ParseCluster("config", text)
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if !reflect.DeepEqual(c, back) {
			t.Fatalf("%+v\nbecame\n%+v\nthrough\n%s", c, back, text)
		}
	})
}

func TestParameterTextIsKept(t *testing.T) {
	c := cluster1(t, "postgresql:\n  parameters:\n    a1: 0.90\n    a2: 1e3\n    a3: on\n    a4: 'x, y'\n    a5: 0017\n    a6: yes # comment\n    pg_stat_statements.max: 500\n    a7: \"\"\n")
	for k, want := range map[string]config.Text{"a1": "0.90", "a2": "1e3", "a3": "on", "a4": "x, y", "a5": "0017", "a6": "yes", "pg_stat_statements.max": "500", "a7": ""} {
		if got := c.PostgreSQL.Parameters[k]; got != want {
			t.Errorf("%s = %q, want %q", k, got, want)
		}
	}
}

var place = regexp.MustCompile(`^config: (line \d+, column \d+: )?`)

func TestClusterErrors(t *testing.T) {
	for text, want := range map[string]string{
		"detection: fats":                        `detection: "fats" is neither fast, balanced nor vm, nor a time such as 1500ms`,
		"detection: 100ms":                       `detection: 100ms is shorter than three heartbeats; write at least 300ms`,
		"detection: vm\nlease: 3s":               `lease: 3s is shorter than the detection time of 5s, so sessions would be cut before anyone suspects a failure; write 6s`,
		"copies: 0":                              `copies: 0 under durability quorum means that a commit may be lost with its host; set allow_single_copy: true if that is meant, or copies: 1`,
		"postgresql: {parameters: {port: 5433}}": `postgresql.parameters.port: is set by Standfast: it follows the member's file; change ports.postgres there`,
		"postgresql: {parameters: {Synchronous_Commit: local}}":                                             `postgresql.parameters.Synchronous_Commit: local is refused: commits would be acknowledged before a standby has them on disk; leave it at on, or set durability: async`,
		"postgresql: {parameters: {fsync: off}}":                                                            `postgresql.parameters.fsync: off is refused: an acknowledged commit would be lost with a host's power`,
		"postgresql: {hba: ['allow all']}":                                                                  `postgresql.hba: line 1, "allow all", does not begin with local, host or hostssl; see pg_hba.conf in PostgreSQL's manual`,
		"postgresql: {ident: [site alice]}":                                                                 `postgresql.ident: line 1, "site alice", needs a map's name, a system user and a database user`,
		"router: {fast_path: true, max_sessions: 9}":                                                        `router.fast_path: goes past the router, which could not keep max_sessions then; leave one of the two out (PostgreSQL's max_connections holds either way)`,
		"router: {read_max_lag_bytes: 16}":                                                                  `"16" is not a size; write a whole number with its unit, such as 64kB, 16MB or 1GB`,
		"postgresql: {slots: [{name: A-b, database: d, plugin: p}]}":                                        `postgresql.slots: slot 1: the name "A-b" may hold a-z, 0-9 and _ only, at most 63`,
		"postgresql: {slots: [{name: standfast_x, database: d, plugin: p}]}":                                `postgresql.slots: slot 1: names that begin with standfast are Standfast's own; choose another than "standfast_x"`,
		"postgresql: {slots: [{name: a, plugin: p}]}":                                                       `postgresql.slots: slot 1, "a", needs a database and a plugin, such as {name: a, database: app, plugin: pgoutput}`,
		"postgresql: {slots: [{name: a, database: d, plugin: p}], parameters: {wal_level: replica}}":        `postgresql.parameters.wal_level: replica: the slots under postgresql.slots need logical; write that, or leave it out`,
		"postgresql: {slots: [{name: a, database: d, plugin: p}], parameters: {hot_standby_feedback: off}}": `postgresql.parameters.hot_standby_feedback: off: the slots under postgresql.slots can't be kept on standbys without it; leave it out`,
		"postgresql: {replication_clients: [{name: Bar-man}]}":                                              `postgresql.replication_clients: client 1: the name "Bar-man" may hold a-z, 0-9 and _ only, at most 63: it is that of a replication slot`,
		"postgresql: {replication_clients: [{name: standfast_x}]}":                                          `postgresql.replication_clients: client 1: names that begin with standfast are Standfast's own; choose another than "standfast_x"`,
		"postgresql: {replication_clients: [{name: a}, {name: a, role: b}]}":                                `postgresql.replication_clients: client 2: there is another slot "a" here or under postgresql.slots; choose another name`,
		"contacts: [a, '']":                         `contacts: entry 2 is empty or has several lines; write each as "Anna Example, on call, +49 30 123456"`,
		"notify: {at_least: warn}":                  `notify.at_least: "warn" is not known: did you mean "warning"?`,
		"notify: {chat: 'chat.example.org/s3cret'}": `notify.chat: can't be posted to; write an address such as https://chat.example.org/hooks/abc`,
		"notify: {webhook: 'https://h/s3cret x'}":   `notify.webhook: can't be posted to; write an address such as https://alerts.example.org/standfast`,
		"notify: {webhook: 'ftp://h/s3cret'}":       `notify.webhook: can't be posted to; write an address such as https://alerts.example.org/standfast`,
		"notify: {webhook: 'https://h/***'}":        `notify.webhook: is the address as it is shown, without what is secret in it; write the address itself`,
		"notify: {timeout: 0s}":                     `notify.timeout: must be more than 0; write 10s`,
		"notify: {command: \"a\\nb\"}":              `notify.command: runs over several lines; write them into a script, and its path here`,
		"postgresql: {replication_clients: [{name: a, role: standfast_replication}]}": `postgresql.replication_clients: client 1: the role "standfast_replication" is not the site's to use; choose another`,
	} {
		_, err := config.ParseCluster("config", []byte(text))
		if err == nil || place.ReplaceAllString(err.Error(), "") != want { // places have tests of their own
			t.Errorf("%s:\n%v\nwant\n%s", text, err, want)
		}
	}
}

func TestDiff(t *testing.T) {
	a := cluster1(t, "durability: quorum\npostgresql: {parameters: {work_mem: 4MB}}\n")
	b := cluster1(t, "durability: async\npostgresql: {parameters: {max_connections: 300}, ident: [site alice bob]}\n")
	var got []string
	for _, c := range config.Diff(a, b) {
		got = append(got, c.String())
	}
	want := []string{
		"durability: quorum → async", `postgresql.ident: (none) → ["site alice bob"]`,
		"postgresql.parameters.max_connections: (none) → 300", "postgresql.parameters.work_mem: 4MB → (none)",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if d := config.Diff(a, a); len(d) != 0 {
		t.Errorf("no change shows %v", d)
	}
}

func TestSet(t *testing.T) {
	text := "# ours\ndurability: quorum # safe\nrouter:\n  wait: 5s\npostgresql:\n  parameters:\n    work_mem: 4MB\n"
	for _, c := range []struct{ key, value, want string }{
		{"durability", "async", "# ours\ndurability: async # safe\nrouter:\n  wait: 5s\npostgresql:\n  parameters:\n    work_mem: 4MB\n"},
		{"router.wait", "7s", "# ours\ndurability: quorum # safe\nrouter:\n  wait: 7s\npostgresql:\n  parameters:\n    work_mem: 4MB\n"},
		{"router.max_waiting", "5", "# ours\ndurability: quorum # safe\nrouter:\n  wait: 5s\n  max_waiting: 5\npostgresql:\n  parameters:\n    work_mem: 4MB\n"},
		{"postgresql.parameters.pg_stat_statements.max", "500", "# ours\ndurability: quorum # safe\nrouter:\n  wait: 5s\npostgresql:\n  parameters:\n    work_mem: 4MB\n    pg_stat_statements.max: 500\n"},
		{"router.wait", "", "# ours\ndurability: quorum # safe\npostgresql:\n  parameters:\n    work_mem: 4MB\n"},
		{"postgresql.ident", "[site alice bob, site carol dan]", "# ours\ndurability: quorum # safe\nrouter:\n  wait: 5s\npostgresql:\n  parameters:\n    work_mem: 4MB\n  ident:\n  - site alice bob\n  - site carol dan\n"},
		{"postgresql.slots", "[{name: cdc, database: app, plugin: pgoutput}]", "# ours\ndurability: quorum # safe\nrouter:\n  wait: 5s\npostgresql:\n  parameters:\n    work_mem: 4MB\n  slots:\n  - database: app\n    name: cdc\n    plugin: pgoutput\n"},
		{"allow_single_copy", "true", "# ours\ndurability: quorum # safe\nrouter:\n  wait: 5s\npostgresql:\n  parameters:\n    work_mem: 4MB\nallow_single_copy: true\n"},
	} {
		got, err := config.Set([]byte(text), c.key, c.value)
		if err != nil || string(got) != c.want {
			t.Errorf("set %s=%s: %v\n%s\nwant\n%s", c.key, c.value, err, got, c.want)
		}
	}
	if got, err := config.Set(nil, "router.wait", "7s"); err != nil || string(got) != "router:\n  wait: 7s\n" {
		t.Errorf("into an empty document: %v\n%s", err, got)
	}
	for key, want := range map[string]string{
		"lease":                      `set lease: "1" is not a time; write a number with its unit, such as 700ms, 10s, 2m or 1h`,
		"shared_buffers":             `unknown key "shared_buffers": known are durability, copies, allow_single_copy, detection, lease, agent_grace, guard_delay, anti_flap, paused_until, drained, contacts, notify, router, postgresql; PostgreSQL's own go under postgresql.parameters, as in postgresql.parameters.work_mem`,
		"durabilty":                  `unknown key "durabilty": did you mean "durability"?`,
		"router":                     "router holds several keys; name one of wait, read_max_lag_bytes, max_sessions, max_waiting, log_sessions, fast_path",
		"lease.x":                    "lease holds a single value; there is nothing below it",
		"postgresql.parameters":      "postgresql.parameters holds several values; name one, such as postgresql.parameters.work_mem",
		"postgresql.parameters.port": "set postgresql.parameters.port: is set by Standfast: it follows the member's file; change ports.postgres there",
	} {
		if _, err := config.Set([]byte(text), key, "1"); err == nil || err.Error() != want {
			t.Errorf("set %s: %v\nwant %s", key, err, want)
		}
	}
}

func TestQuantities(t *testing.T) {
	for in, want := range map[string]string{"60s": "1m", "90s": "1m30s", "2h": "2h", "700ms": "700ms", "0": "0s"} {
		if d, err := config.ParseDuration(in); err != nil || d.String() != want {
			t.Errorf("%s: %v %v", in, d, err)
		}
	}
	for in, want := range map[string]string{"64MB": "64MB", "1024kB": "1MB", "0": "0", "5 GB": "5GB"} {
		if z, err := config.ParseSize(in); err != nil || z.String() != want {
			t.Errorf("%s: %v %v", in, z, err)
		}
	}
	for _, in := range []string{"16", "mb", "-1MB", "99999999999999TB", "1KB"} {
		if z, err := config.ParseSize(in); err == nil {
			t.Errorf("%s became %v", in, z)
		}
	}
}

// TestSecretsInAddressesAreNotShown: neither in a change, nor in the text that is shown, whose comments are kept.
func TestSecretsInAddressesAreNotShown(t *testing.T) {
	text := "# ours\nnotify:\n  chat: https://chat.example.org/hooks/s3cret # the team's\n  webhook: \"https://u:s3cret@h:8/a?k=s3cret\"\ncopies: 1\n"
	shown, err := config.Masked([]byte(text))
	want := "# ours\nnotify:\n  chat: \"https://chat.example.org/***\" # the team's\n  webhook: \"https://h:8/***\"\ncopies: 1\n"
	if err != nil || string(shown) != want {
		t.Errorf("%v\n%s\nwant\n%s", err, shown, want)
	}
	other := strings.ReplaceAll(text, "s3cret", "s3cr3t")
	var got []string
	for _, c := range config.Diff(cluster1(t, text), cluster1(t, other)) {
		got = append(got, c.String())
	}
	if want := []string{"notify.chat: https://chat.example.org/*** → https://chat.example.org/***", "notify.webhook: https://h:8/*** → https://h:8/***"}; !reflect.DeepEqual(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	for address, want := range map[config.Address]string{"https://u:p@h:8443/hooks/x?y#z": "https://h:8443/***", "https://h": "https://h/***", "not one": "***", "": ""} {
		if got := address.Masked(); got != want {
			t.Errorf("%s: %s, want %s", address, got, want)
		}
	}
	if same, err := config.Masked([]byte("copies: 1 # x\n")); err != nil || string(same) != "copies: 1 # x\n" {
		t.Errorf("nothing to hide: %v %s", err, same)
	}
}
