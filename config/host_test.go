package config_test

import (
	"strings"
	"testing"

	"standfast/config"
)

const hostFile = `# pg1 of cluster main. Everything that is not said here has its default.
cluster: main
name: pg1
listen: 10.0.0.11
members:
  - name: pg1
    address: 10.0.0.11
  # behind the stairs
  - name: pg2
    address: 10.0.0.12
bootstrap:
  detection: fast
`

func TestForMember(t *testing.T) {
	out, err := config.ForMember([]byte(hostFile), "pg2")
	if err != nil {
		t.Fatal(err)
	}
	n, err := config.ParseNode("f", out, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if n.Name != "pg2" || n.ListenHost() != "10.0.0.12" || n.Bootstrap.Detection != "fast" || !strings.HasPrefix(string(out), "# pg2 of cluster main. Every") || !strings.Contains(string(out), "behind the stairs") {
		t.Errorf("%s", out)
	}
	if _, err := config.ForMember([]byte(hostFile), "pg3"); err == nil || !strings.Contains(err.Error(), "pg3") {
		t.Errorf("not a member: %v", err)
	}
	if _, err := config.ForMember(nil, "pg3"); err == nil {
		t.Error("of an empty file")
	}
}

func TestWithSettings(t *testing.T) {
	out, err := config.WithSettings("f", []byte(hostFile), []string{"state_dir=/srv/x", "log.level=debug", "bootstrap.detection=vm"})
	if err != nil {
		t.Fatal(err)
	}
	n, err := config.ParseNode("f", out, nil, nil)
	if err != nil || n.StateDir != "/srv/x" || n.Log.Level != "debug" || n.Bootstrap.Detection != "vm" || !strings.Contains(string(out), "behind the stairs") {
		t.Errorf("%v\n%s", err, out)
	}
	for set, want := range map[string]string{"state_dri=/x": "unknown key", "log": "key=value", "ports.health=99999": "not a port"} {
		if _, err := config.WithSettings("f", []byte(hostFile), []string{set}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", set, err)
		}
	}
}

// TestWithMembers: a survivor's file, and that of a host which is taken in again; comments and all other keys stay.
func TestWithMembers(t *testing.T) {
	text := []byte("# of cluster main\ncluster: main\nname: pg2\njoin: true # it was added\nmembers:\n  - {name: pg1, address: 10.0.0.11}\n  - name: pg2\n    address: 10.0.0.12\nlog: {level: debug}\n")
	n, err := config.ParseNode("a", text, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	out, err := config.WithMembers("a", text, []config.Member{n.Self()}, false)
	if err != nil {
		t.Fatal(err)
	}
	alone, err := config.ParseNode("a", out, nil, nil)
	if err != nil || len(alone.Members) != 1 || alone.Join || alone.Self().Address != "10.0.0.12" || alone.Log.Level != "debug" || !strings.HasPrefix(string(out), "# of cluster main\n") {
		t.Errorf("%v\n%s", err, out)
	}
	out, err = config.WithMembers("a", out, n.Members, true)
	both, perr := config.ParseNode("a", out, nil, nil)
	if err != nil || perr != nil || len(both.Members) != 2 || !both.Join || both.Members[0].Ports != n.Members[0].Ports {
		t.Errorf("%v, %v\n%s", err, perr, out)
	}
}
