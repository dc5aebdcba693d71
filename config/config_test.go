package config_test

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"standfast/cluster"
	"standfast/config"
)

const three = `
cluster: main
name: pg2
members:
  - {name: pg1, address: 10.0.0.11}
  - {name: pg2, address: 10.0.0.12, location: room 2, ports: {postgres: 6432}}
  - {name: pg3, address: 10.0.0.13, priority: 0}
ports: {health: 8009}
`

func parse(t *testing.T, text string, more ...string) config.Node {
	t.Helper()
	n, err := config.ParseNode("standfast.yml", []byte(text), nil, more)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestSampleIsAllDefaults(t *testing.T) {
	n := parse(t, string(config.Sample))
	min := parse(t, `{cluster: main, name: pg1, members: [{name: pg1, address: 10.0.0.11},
		{name: pg2, address: 10.0.0.12, location: room 2}, {name: pg3, address: 10.0.0.13, priority: 50}]}`)
	// An empty list or map that is written down is the same as none.
	n.Etcd.Endpoints, n.VIP, n.Bootstrap.PostgreSQL = nil, nil, config.PostgreSQL{}
	if !reflect.DeepEqual(n, min) {
		t.Errorf("the sample differs from the defaults:\n%+v\n%+v", n, min)
	}
}

// TestSampleNamesEveryKey takes each key out of reach: a key that the sample forgets is one that nobody finds.
func TestSampleNamesEveryKey(t *testing.T) {
	for _, typ := range []reflect.Type{
		reflect.TypeFor[config.Node](), reflect.TypeFor[config.Cluster](), reflect.TypeFor[config.Ports](), reflect.TypeFor[config.Etcd](),
		reflect.TypeFor[config.Postgres](), reflect.TypeFor[config.Log](), reflect.TypeFor[config.Member](), reflect.TypeFor[config.Router](),
		reflect.TypeFor[config.PostgreSQL](), reflect.TypeFor[config.VIP](), reflect.TypeFor[config.Hooks](),
	} {
		for i := range typ.NumField() {
			key, _, _ := strings.Cut(typ.Field(i).Tag.Get("yaml"), ",")
			if key != "paused_until" && key != "drained" && !strings.Contains(string(config.Sample), key+":") {
				t.Errorf("sample.yml does not show %s of %v", key, typ)
			}
		}
	}
}

func TestMembersTakePortsAndDefaults(t *testing.T) {
	n := parse(t, three)
	want := cluster.Member{
		Name: "pg2", Kind: cluster.Data, Priority: 100, Location: "room 2", Postgres: "10.0.0.12:6432", Write: "10.0.0.12:5000", Read: "10.0.0.12:5001",
		API: "10.0.0.12:8009", Admin: "10.0.0.12:8443", Beat: "10.0.0.12:8301", EtcdPeer: "10.0.0.12:2380", Etcd: "10.0.0.12:2379",
	}
	if got := n.Member(); got != want {
		t.Errorf("Member() = %+v\nwant       %+v", got, want)
	}
	if p := n.Founders()[2].Priority; p != 0 {
		t.Errorf("priority 0 became %d", p)
	}
	if n.ListenAt(n.Self().Ports.Postgres) != "10.0.0.12:6432" || n.Postgres.DataDir != "/var/lib/standfast/data" {
		t.Errorf("listen %s, data %s", n.ListenAt(n.Self().Ports.Postgres), n.Postgres.DataDir)
	}
}

func TestDefaultsFollowTheMembers(t *testing.T) {
	list := func(data, witnesses int) string {
		var b strings.Builder
		b.WriteString("cluster: main\nname: a1\nmembers:\n")
		for i := range data + witnesses {
			kind := "data"
			if i >= data {
				kind = "witness"
			}
			b.WriteString("  - {name: a" + string(rune('1'+i)) + ", address: 10.0.0." + string(rune('1'+i)) + ", kind: " + kind + "}\n")
		}
		return b.String()
	}
	for _, c := range []struct {
		data, witnesses, copies int
		single                  bool
	}{{3, 0, 1, false}, {5, 0, 2, false}, {2, 1, 1, true}, {2, 0, 1, false}, {1, 0, 1, true}} {
		b := parse(t, list(c.data, c.witnesses)).Bootstrap
		if b.Copies != c.copies || b.AllowSingleCopy != c.single {
			t.Errorf("%d data, %d witnesses: copies %d, allow_single_copy %v", c.data, c.witnesses, b.Copies, b.AllowSingleCopy)
		}
	}
	said := parse(t, list(2, 1)+"bootstrap: {allow_single_copy: false}\n").Bootstrap
	if said.AllowSingleCopy {
		t.Error("what the file says must win over the default")
	}
	if vm := parse(t, list(3, 0)+"bootstrap: {detection: vm}\n").Bootstrap; time.Duration(vm.Lease) != 6*time.Second {
		t.Errorf("with detection vm the lease defaults to %v, want 6s", vm.Lease)
	}
}

// Each wrong document gives exactly these lines: the place, what is wrong, and what to do.
func TestErrors(t *testing.T) {
	base := "cluster: main\nname: pg1\nmembers:\n  - {name: pg1, address: 10.0.0.11}\n  - {name: pg2, address: 10.0.0.12}\n"
	for name, c := range map[string]struct{ text, want string }{
		"typo": {base + "prots: {health: 1}\n", `f: line 6, column 1: unknown key "prots": did you mean "ports"?`},
		"two typos": {base + "ports:\n  helth: 1\n  beet: 2\n", `f: line 7, column 3: unknown key "helth" in ports: did you mean "health"?
f: line 8, column 3: unknown key "beet" in ports: did you mean "beat"?`},
		"in a list":     {"members:\n  - {nmae: pg1}\n", `f: line 2, column 6: unknown key "nmae" in members[1]: did you mean "name"?`},
		"far off":       {base + "log: {xyzzy: 1}\n", `f: line 6, column 7: unknown key "xyzzy" in log: known here are level, format`},
		"type":          {base + "ports: {health: abc}\n", `f: line 6, column 17: want a whole number, not "abc"`},
		"bool":          {base + "bootstrap: {allow_single_copy: 3}\n", `f: line 6, column 32: want true or false, not "3"`},
		"duration":      {base + "bootstrap:\n  lease: 3\n", `f: "3" is not a time; write a number with its unit, such as 700ms, 10s, 2m or 1h`},
		"list for map":  {base + "ports: [1]\n", `f: line 6, column 8: want keys and values here, not a list`},
		"tab":           {"cluster: main\n\tname: pg1\n", `f: line 2, column 1: a tab can't indent here; use blanks`},
		"unclosed":      {"name: [pg1\n", `f: line 1, column 7: a [ is not closed by a ]`},
		"indented":      {"cluster: main\n  name: pg1\n", `f: line 1, column 10: a second ": " in one value; indent the line like its neighbours, or put the value in quotes`},
		"text for list": {"members: pg1\n", `f: line 1, column 10: want a list here, such as [a, b]`},
		"slot": {base + "bootstrap: {postgresql: {replication_clients: [{name: pg1}]}}\n",
			`f: line 6, column 26: bootstrap.postgresql.replication_clients: "pg1" is a member's name, and so its slot's; choose another`},
		"dotted": {base + "bootstrap:\n  postgresql:\n    parameters:\n      fsync: on\n      my.own.x: 1\n",
			`f: line 10, column 7: bootstrap.postgresql.parameters.my.own.x: is not a parameter's name; see "select name from pg_settings"`},
		"not a map":     {"hello\n", `f: line 1, column 1: want keys and values, such as "name: pg1"`},
		"two documents": {base + "---\n" + base, `f: holds 2 documents separated by ---; leave one`},
		"duplicate":     {base + "name: pg2\n", `f: line 6, column 1: key "name" is there twice, first in line 2; leave one`},
		"unlisted": {strings.Replace(base, "name: pg1\n", "name: pg11\n", 1),
			`f: line 2, column 1: name: "pg11" is not under members (did you mean "pg1"?); add it there or correct the name`},
		"everything at once": {"cluster: Main\nname: pg1\nstate_dir: here\nlog: {level: inof}\nmembers:\n  - {name: pg1, address: a, ports: {read: 5000}}\n  - {name: pg1, address: a}\nbootstrap: {durability: quorm, copies: 3}\n",
			`f: line 1, column 1: cluster: "Main" can't name a cluster; use up to 40 of a-z, 0-9 and _, such as "main"
f: line 6, column 37: members[1].ports.read: 5000 is write's already; choose another
f: line 7, column 6: members[2].name: "pg1" is there twice; give each member a name of its own
f: line 7, column 17: members[2].address: is pg1's too; members on one address need ports of their own
f: line 3, column 1: state_dir: "here" is not a full path; begin it with /
f: postgres.data_dir: "here/data" is not a full path; begin it with /
f: line 4, column 7: log.level: "inof" is not known: did you mean "info"?
f: line 8, column 13: bootstrap.durability: "quorm" is not known: did you mean "quorum"?`},
		"too many copies": {base + "bootstrap: {copies: 2}\n", `f: line 6, column 13: bootstrap.copies: 2 copies beside the primary need 3 data members, and there are 2; write fewer, or add members`},
		"floating addresses": {base + "vip:\n  - {address: 10.0.0.50/24}\n  - {address: 10.0.0.12}\n  - {address: 10.0.0.51, follows: standbye, prefix: 33}\n  - {address: 10.0.0.51}\n",
			`f: line 7, column 6: vip[1].address: "10.0.0.50/24" can't be a floating address; write an unused one of the hosts' subnet, such as 10.0.1.50, without a port or /24
f: line 8, column 6: vip[2].address: 10.0.0.12 is pg2's already; choose one that nobody has
f: line 9, column 26: vip[3].follows: "standbye" is not known: did you mean "standby"?
f: line 9, column 45: vip[3].prefix: 33 is no length of a prefix; leave it out, or write 1 to 32
f: line 10, column 6: vip[4].address: 10.0.0.51 is another floating address's already; choose one that nobody has`},
		"fast, no vip": {base + "bootstrap: {router: {fast_path: true}}\n", `f: line 6, column 22: bootstrap.router.fast_path: leads connections to a floating address, and there is none; write one under vip, or leave it false`},
		"hooks":        {base + "hooks: {timeout: 0}\n", `f: line 6, column 9: hooks.timeout: must be more than 0; write 10s`},
		"root":         {base + "postgres: {run_as: root}\n", `f: line 6, column 12: postgres.run_as: PostgreSQL refuses to run as root; write postgres`},
		"etcd":         {base + "etcd: {endpoints: ['10.0.0.1:2379']}\n", `f: line 6, column 8: etcd.endpoints: "10.0.0.1:2379" is not an etcd's address; write https://host:2379`},
	} {
		_, err := config.ParseNode("f", []byte(c.text), nil, nil)
		if err == nil || err.Error() != c.want {
			t.Errorf("%s:\n%v\nwant:\n%s", name, err, c.want)
		}
	}
}

func TestFloatingAddresses(t *testing.T) {
	n := parse(t, three+"vip: [{address: 10.0.0.50}, {address: '2001:db8::50', follows: standby, interface: eth1, prefix: 64}]\nhooks: {on_role_change: echo}\n")
	want := []config.VIP{{Address: "10.0.0.50", Follows: config.FollowsPrimary},
		{Address: "2001:db8::50", Follows: config.FollowsStandby, Interface: "eth1", Prefix: 64}}
	if !reflect.DeepEqual(n.VIP, want) || n.Hooks != (config.Hooks{OnRoleChange: "echo", Timeout: config.Duration(10 * time.Second)}) {
		t.Errorf("%+v %+v", n.VIP, n.Hooks)
	}
}

// TestWrongOverrideIsNotTheFiles: a value that was set over the file's is said to be wrong where it was set, and the file's own
// mistakes stay at their lines.
func TestWrongOverrideIsNotTheFiles(t *testing.T) {
	file := three + "log:\n  level: info\nhooks: {timeout: 0}\n"
	const own = "f: line 11, column 9: hooks.timeout: must be more than 0; write 10s"
	for _, c := range []struct {
		env, set []string
		want     string
	}{
		{nil, []string{"log.level=debg"}, `--set log.level=debg: log.level: "debg" is not known: did you mean "debug"?`},
		{nil, []string{"log={level: debg}"}, `--set log={level: debg}: log.level: "debg" is not known: did you mean "debug"?`},
		{[]string{"STANDFAST_LOG_LEVEL=debg"}, nil, `the environment's STANDFAST_LOG_LEVEL: log.level: "debg" is not known: did you mean "debug"?`},
		{[]string{"STANDFAST_LOG_LEVEL=warn"}, []string{"log.level=debg"}, `--set log.level=debg: log.level: "debg" is not known: did you mean "debug"?`},
	} {
		_, err := config.ParseNode("f", []byte(file), c.env, c.set)
		if err == nil {
			t.Errorf("%v %v is taken", c.env, c.set)
			continue
		}
		lines := strings.Split(err.Error(), "\n")
		slices.Sort(lines)
		want := []string{c.want, own}
		slices.Sort(want)
		if !slices.Equal(lines, want) {
			t.Errorf("%v %v:\n%v\nwant:\n%s", c.env, c.set, err, strings.Join(want, "\n"))
		}
	}
}

func TestOverrides(t *testing.T) {
	env := []string{"STANDFAST_PORTS_READ=5051", "STANDFAST_LOG_LEVEL=warn", "STANDFAST_CONFIG=/elsewhere", "PATH=/bin"}
	n, err := config.ParseNode("f", []byte(three), env, []string{"log.level=debug", "bootstrap.detection=fast"})
	if err != nil {
		t.Fatal(err)
	}
	if n.Self().Ports.Read != 5051 || n.Log.Level != "debug" || n.Bootstrap.Detection != "fast" || n.Self().Ports.Health != 8009 {
		t.Errorf("flags over environment over file: %+v", n)
	}
	for set, want := range map[string]string{
		"log.levl=debug": `--set log.levl=debug: unknown key "levl" in log: did you mean "level"?`,
		"log.level":      "--set log.level: write it as key=value, such as log.level=debug",
	} {
		if _, err := config.ParseNode("f", []byte(three), nil, []string{set}); err == nil || err.Error() != want {
			t.Errorf("--set %s: %v, want %s", set, err, want)
		}
	}
}
