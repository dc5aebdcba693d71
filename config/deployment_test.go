package config_test

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"standfast/config"
)

const site = `cluster: main
members:
  - {name: pg1, address: 10.0.0.11}
  - {name: pg2, address: 10.0.0.12, ssh: "root@192.168.1.12:2222"}
  - {name: pg3, address: 10.0.0.13}
vip: [{address: 10.0.0.50}]
ssh: {user: admin}
applications: [{role: app, from: [10.0.5.0/24]}]
bootstrap:
  detection: fast        # quick
  postgresql:
    parameters: {seq_page_cost: 1e0}
`

func TestDeploymentSample(t *testing.T) {
	d, err := config.ParseDeployment("cluster.sample.yml", config.DeploymentSample)
	if err != nil {
		t.Fatal(err)
	}
	want := config.DefaultDeployment()
	if d.Ports != want.Ports || d.Hooks != want.Hooks || d.Watchdog != want.Watchdog || d.Log != want.Log || d.Bootstrap.Detection != want.Bootstrap.Detection {
		t.Errorf("the sample's shared parts are not the defaults: %+v", d)
	}
	for _, typ := range []reflect.Type{reflect.TypeFor[config.Deployment](), reflect.TypeFor[config.Host](), reflect.TypeFor[config.SSH](), reflect.TypeFor[config.Repository](), reflect.TypeFor[config.Application]()} {
		for i := range typ.NumField() {
			key, _, _ := strings.Cut(typ.Field(i).Tag.Get("yaml"), ",")
			if key != "" && !strings.Contains(string(config.DeploymentSample), key+":") {
				t.Errorf("the sample does not show %s of %v", key, typ)
			}
		}
	}
}

// TestDeploymentMakesMembersFiles: what a member reads is what the deployment has checked.
func TestDeploymentMakesMembersFiles(t *testing.T) {
	d, err := config.ParseDeployment("/srv/cluster.yml", []byte(site))
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range d.Members {
		text, err := d.RenderNode(h.Name)
		if err != nil {
			t.Fatal(err)
		}
		n, err := config.ParseNode(h.Name, text, nil, nil)
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if want := d.Node(h.Name); !reflect.DeepEqual(n, want) {
			t.Errorf("%s reads\n%+v, want\n%+v\nfrom\n%s", h.Name, n, want, text)
		}
		if n.Bootstrap.PostgreSQL.Parameters["seq_page_cost"] != "1e0" {
			t.Errorf("a parameter's spelling has changed: %v", n.Bootstrap.PostgreSQL.Parameters)
		}
		for _, line := range []string{`host "app" "app" 10.0.5.0/24 scram-sha-256`, `host "app" "app" 10.0.0.12/32 scram-sha-256`, `host "app" "app" 10.0.0.50/32 scram-sha-256`} {
			if !slices.Contains(n.Bootstrap.PostgreSQL.HBA, line) {
				t.Errorf("no line %s in %q", line, n.Bootstrap.PostgreSQL.HBA)
			}
		}
	}
	if d.Secrets != "/srv/standfast-main" {
		t.Errorf("secrets in %s", d.Secrets)
	}
	for i, want := range []string{"admin 10.0.0.11:22", "root 192.168.1.12:2222", "admin 10.0.0.13:22"} {
		if user, at := d.Way(d.Members[i]); user+" "+at != want {
			t.Errorf("the way to %s is %s %s, want %s", d.Members[i].Name, user, at, want)
		}
	}
}

// TestDeploymentInAnyForm: a section is copied from wherever it stands.
func TestDeploymentInAnyForm(t *testing.T) {
	for _, text := range []string{
		`{cluster: main, members: [{name: pg1, address: 10.0.0.11}], vip: [{address: 10.0.0.50}], routing: haproxy, address: keepalived}`,
		`{cluster: main, members: [{name: pg1, address: 10.0.0.11}], vip: [{address: 10.0.0.50}], bootstrap: {lease: 5s, postgresql: {hba: ["host a b all md5"]}}, applications: [{role: app}]}`,
		"  cluster: main\n  members: [{name: pg1, address: 10.0.0.11}]\n  bootstrap:\n    lease: 5s\n    postgresql:\n      hba:\n      - host a b all md5\n  # a note\n  vip:\n  - address: 10.0.0.50\n  applications:\n    - role: app\n",
	} {
		d, err := config.ParseDeployment("cluster.yml", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		made, err := d.RenderNode("pg1")
		if err != nil {
			t.Fatal(err)
		}
		n, err := config.ParseNode("pg1", made, nil, nil)
		if err != nil {
			t.Fatalf("%v\n%s", err, made)
		}
		if want := d.Node("pg1"); !reflect.DeepEqual(n, want) {
			t.Errorf("reads\n%+v, want\n%+v\nfrom\n%s", n, want, made)
		}
	}
}

func TestDeploymentMistakes(t *testing.T) {
	for change, want := range map[string]string{
		"cluster: main=cluster: Main":                                `cluster.yml: line 1, column 1: cluster: "Main" can't name a cluster`,
		"name: pg3=nmae: pg3":                                        `cluster.yml: line 5, column 6: unknown key "nmae" in members[3]: did you mean "name"?`,
		"address: 10.0.0.50=address: 10.0.0.12":                      `cluster.yml: line 6, column 8: vip[1].address: 10.0.0.12 is pg2's already`,
		"detection: fast=detection: quick":                           `cluster.yml: line 10, column 3: bootstrap.detection: "quick" is neither fast`,
		"10.0.5.0/24=10.0.5.7/24":                                    `cluster.yml: line 8, column 28: applications[1].from: "10.0.5.7/24" is not a network`,
		"role: app=role: postgres":                                   `applications[1].role: "postgres" is taken`,
		"ssh: {user: admin}=ssh: {usr: admin}":                       `line 7, column 7: unknown key "usr" in ssh: did you mean "user"?`,
		"ssh: {user: admin}=postgresql: 9":                           `line 7, column 1: postgresql: version 9 is not supported`,
		"ssh: {user: admin}=repository: {source: pgdg, uri: mirror}": `line 7, column 28: repository.uri: "mirror" is not an address`,
		"ssh: {user: admin}=repository: {source: debian}":            `line 7, column 14: repository.source: `,
		"ssh: {user: admin}=repository: {uri: 'http://mirror/pgdg'}": `repository: uri and key are those of a mirror of PGDG's`,
		"ssh: {user: admin}=packages: [pgbackrest, '; reboot']":      `packages: "; reboot" can't be a package`,
		"ssh: {user: admin}=routing: nginx":                          `line 7, column 1: routing: `,
		"vip: [{address: 10.0.0.50}]=address: keepalived":            `address: there is no floating address that Keepalived could hold`,
		"10.0.0.13}\nvip: [{address: 10.0.0.50}]=three.example}\nvip: [{address: 10.0.0.50}]\naddress: keepalived": `members[3].address: "three.example" is a name, and Keepalived wants a number`,
		"bootstrap:=routing: haproxy\nbootstrap:\n  router: {fast_path: true}":                                     `bootstrap.router.fast_path: goes with routing: builtin`,
		"address: 10.0.0.13=address: 10.0.0.12":                                                                    `members[3].address: is pg2's too`,
		"applications: [{role=applications: [{rol":                                                                 `unknown key "rol" in applications[1]`,
	} {
		from, to, _ := strings.Cut(change, "=")
		text := strings.Replace(site, from, to, 1)
		if text == site {
			t.Fatalf("%q changes nothing", change)
		}
		if _, err := config.ParseDeployment("cluster.yml", []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", change, err, want)
		}
	}
}
