package survey_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"standfast/config"
	"standfast/deploy/plan"
	"standfast/deploy/probe"
	"standfast/deploy/survey"
)

const file = `cluster: main
members:
  - {name: pg1, address: 10.0.0.11}
  - {name: pg2, address: 10.0.0.12}
  - {name: pg3, address: 10.0.0.13}
`

// server is one that can be taken over.
func server(standby bool) probe.Existing {
	return probe.Existing{
		Data: "/var/lib/postgresql/17/main", Unit: "postgresql@17-main.service", Owner: "postgres", Port: 5432, Sockets: "/var/run/postgresql",
		HBA: "# a comment\nlocal all postgres peer\nhost app app 10.0.0.0/8 scram-sha-256\n", Ident: "# nothing\n",
		Says: probe.Says{
			Version: 170004, Standby: standby, System: "7", Config: "/etc/postgresql/17/main/postgresql.conf", Listen: "*", WALLevel: "replica", Senders: 10, Slots: 10,
			Hints: true, Superuser: true, Settings: map[string]string{"work_mem": "5MB", "listen_addresses": "*", "port": "5432", "archive_command": ""},
		},
	}
}

func look(t *testing.T, text string, said map[string][]probe.Existing) survey.Survey {
	t.Helper()
	d, err := config.ParseDeployment("cluster.yml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return survey.Look(d, said)
}

func TestOneServer(t *testing.T) {
	s := look(t, file, map[string][]probe.Existing{"pg2": {server(false)}})
	if s.Failed() || s.Plan.Primary != "pg2" || len(s.Plan.Standbys) != 0 || !slices.Equal(s.Plan.New, []string{"pg1", "pg3"}) || s.Plan.Units["pg2"] == "" {
		t.Errorf("%+v", s)
	}
	in := s.Inherited
	if in.PostgreSQL != 17 || in.DataDir != "/var/lib/postgresql/17/main" || len(in.HBA) != 2 || len(in.Ident) != 0 || !maps.Equal(in.Parameters, map[string]string{"work_mem": "5MB"}) {
		t.Errorf("inherits %+v", in)
	}
}

func TestStreaming(t *testing.T) {
	primary := server(false)
	primary.Says.Streams = []probe.Stream{{Name: "walreceiver", Address: "10.0.0.12", Slot: "old_2"}, {Name: "pg3", Slot: "old_3"}, {Name: "archive", Address: "10.0.0.99", Slot: "archive"}}
	s := look(t, file, map[string][]probe.Existing{"pg1": {primary}, "pg2": {server(true)}, "pg3": {server(true)}})
	if !s.Failed() || !slices.Equal(s.Plan.Standbys, []string{"pg2", "pg3"}) || !slices.Equal(s.Plan.Slots, []string{"old_2", "old_3"}) {
		t.Errorf("%+v", s)
	}
	d, err := config.ParseDeployment("cluster.yml", []byte(file))
	if err != nil {
		t.Fatal(err)
	}
	// With the primary a majority: one standby comes before it.
	if early := s.Plan.Early(d); !slices.Equal(early, []string{"pg2"}) {
		t.Errorf("%v are taken over before the primary", early)
	}
	order := strings.Join(s.Plan.Steps(d), "\n")
	if strings.Index(order, "\npg2: ") > strings.Index(order, "\npg1: ") || strings.Index(order, "\npg3: ") < strings.Index(order, "\npg1: ") {
		t.Errorf("in this order:\n%s", order)
	}
	if !slices.ContainsFunc(s.Findings, func(f plan.Finding) bool {
		return f.Level == plan.Warn && strings.Contains(f.Text, `"archive" at 10.0.0.99`)
	}) {
		t.Errorf("who is no member is not told of: %+v", s.Findings)
	}
}

// TestRefused: each thing that is in the way is named, with its remedy, and nothing else is.
func TestRefused(t *testing.T) {
	for what, c := range map[string]struct {
		change func(all map[string][]probe.Existing)
		text   string // of cluster.yml
		want   string
	}{
		"nobody":        {func(all map[string][]probe.Existing) { clear(all) }, file, "no member has a running primary on port 5432"},
		"another port":  {nil, file + "ports: {postgres: 5433}\n", "no member has a running primary on port 5433"},
		"two primaries": {func(all map[string][]probe.Existing) { all["pg2"] = []probe.Existing{server(false)} }, file, "pg1 and pg2 each run a primary of their own"},
		"a foreign standby": {func(all map[string][]probe.Existing) {
			e := server(true)
			e.Says.System = "8"
			all["pg2"] = []probe.Existing{e}
		}, file, "follows another cluster"},
		"data elsewhere": {func(all map[string][]probe.Existing) {
			e := server(true)
			e.Data = "/srv"
			all["pg2"] = []probe.Existing{e}
		}, file, "its data is in /srv"},
		"by hand": {func(all map[string][]probe.Existing) {
			e := server(true)
			e.Unit = ""
			all["pg2"] = []probe.Existing{e}
		}, file, "was started by hand"},
		"mute":              {edit(func(e *probe.Existing) { e.Error = "psql: no" }), file, "can't be asked: psql: no"},
		"loopback":          {edit(func(e *probe.Existing) { e.Says.Listen = "localhost" }), file, "where the other members do not reach it"},
		"another address":   {edit(func(e *probe.Existing) { e.Says.Listen = "localhost, 192.168.0.1" }), file, "where the other members do not reach it"},
		"minimal":           {edit(func(e *probe.Existing) { e.Says.WALLevel = "minimal" }), file, "is minimal"},
		"senders":           {edit(func(e *probe.Existing) { e.Says.Senders = 3 }), file, "is 3"},
		"slots":             {edit(func(e *probe.Existing) { e.Says.Slots = 1 }), file, "is 1"},
		"user":              {edit(func(e *probe.Existing) { e.Owner = "dba" }), file, "its data belongs to dba"},
		"superuser":         {edit(func(e *probe.Existing) { e.Says.Superuser = false }), file, "there is no superuser postgres"},
		"old":               {edit(func(e *probe.Existing) { e.Says.Version = 130010 }), file, "PostgreSQL 13 is not supported"},
		"another version":   {nil, file + "postgresql: 16\n", "cluster.yml says 16"},
		"another directory": {nil, file + "data_dir: /srv/pg\n", "cluster.yml says /srv/pg"},
		"never primary":     {nil, strings.Replace(file, "0.11}", "0.11, priority: 0}", 1), "is never to be primary"},
		"included lines":    {edit(func(e *probe.Existing) { e.HBA += "include more.conf\n" }), file, "reads another file"},
		"a list in a file":  {edit(func(e *probe.Existing) { e.HBA += "host @names all all md5\n" }), file, "reads another file"},
		"certificates":      {edit(func(e *probe.Existing) { e.HBA += "hostssl all all all cert\n" }), file, "checks clients' certificates"},
		"a long line":       {edit(func(e *probe.Existing) { e.HBA += "host all all \\\n all md5\n" }), file, "goes on in the next line"},
		"no lines":          {edit(func(e *probe.Existing) { e.HBA = "# none\n" }), file, "has no line"},
		"repmgr":            {edit(func(e *probe.Existing) { e.Manager = "repmgrd" }), file, "repmgrd runs there"},
		"locked":            {edit(func(e *probe.Existing) { e.Locked = "/etc/postgresql/17/main" }), file, "postgres may not write to /etc/postgresql/17/main"},
		"a witness":         {nil, strings.Replace(file, "0.11}", "0.11, kind: witness}", 1), "is a witness, and PostgreSQL runs there"},
	} {
		t.Run(what, func(t *testing.T) {
			all := map[string][]probe.Existing{"pg1": {server(false)}}
			if c.change != nil {
				c.change(all)
			}
			s := look(t, c.text, all)
			var said []string
			for _, f := range s.Findings {
				if f.Level == plan.Fail {
					said = append(said, f.Text)
				}
			}
			if len(said) == 0 || !strings.Contains(strings.Join(said, "\n"), c.want) || len(said) > 3 {
				t.Errorf("says %q, want %q", said, c.want)
			}
		})
	}
}

func edit(change func(e *probe.Existing)) func(map[string][]probe.Existing) {
	return func(all map[string][]probe.Existing) { change(&all["pg1"][0]) }
}
