package packaging_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"standfast/packaging"

	"github.com/goccy/go-yaml"
)

// TestPackageHoldsWhatDeploymentsInstall: nfpm.yaml names every file that a deployment installs, with the same place, and nothing that
// is not there.
func TestPackageHoldsWhatDeploymentsInstall(t *testing.T) {
	text, err := os.ReadFile("nfpm.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var spec struct {
		Scripts  map[string]string
		Contents []struct{ Src, Dst, Type, Packager string }
	}
	if err := yaml.Unmarshal(text, &spec); err != nil {
		t.Fatal(err)
	}
	var sources []string
	for _, s := range spec.Scripts {
		sources = append(sources, s)
	}
	installed := map[string]string{} // by place
	for _, c := range spec.Contents {
		sources, installed[c.Dst] = append(sources, c.Src), c.Src
		if strings.HasPrefix(c.Dst, "/etc/") && c.Type != "config|noreplace" {
			t.Errorf("%s is the administrator's to change, and the package overwrites it", c.Dst)
		}
	}
	for _, f := range packaging.Files() {
		if installed[f.Path] != "packaging/root"+f.Path {
			t.Errorf("the package installs %q as %s", installed[f.Path], f.Path)
		}
	}
	if installed[packaging.Binary] == "" {
		t.Errorf("the package has no %s", packaging.Binary)
	}
	for _, s := range sources {
		if strings.HasPrefix(s, "bin/") {
			continue // made by make packages
		}
		if found, err := filepath.Glob(filepath.Join("..", s)); err != nil || len(found) == 0 {
			t.Errorf("there is no %s (%v)", s, err)
		}
	}
}

// maintain runs a maintainer script where systemd knows the active units, and returns what it did there and said.
func maintain(t *testing.T, script string, active []string, args ...string) (did []string, said string, err error) {
	t.Helper()
	dir := t.TempDir()
	log := filepath.Join(dir, "log")
	tools := map[string]string{
		"systemctl": fmt.Sprintf("echo \"$*\" >>%s\ncase $1 in is-active) case ' %s ' in *\" $3 \"*) ;; *) exit 3 ;; esac ;; esac", log, strings.Join(active, " ")),
		"udevadm":   "",
		"getent":    "",
		"useradd":   "echo useradd >>" + log,
	}
	for name, text := range tools {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// Everywhere as on a host that systemd has booted.
	text, err := os.ReadFile(filepath.Join("scripts", script))
	if err != nil {
		t.Fatal(err)
	}
	booted := strings.ReplaceAll(string(text), "[ -d /run/systemd/system ]", "[ -d "+dir+" ]")
	if booted == string(text) {
		t.Fatalf("%s does not ask whether systemd runs", script)
	}
	cmd := exec.Command("/bin/sh", append([]string{"-c", booted, script}, args...)...)
	cmd.Env = []string{"PATH=" + dir + ":/usr/bin:/bin"}
	out, err := cmd.CombinedOutput()
	lines, _ := os.ReadFile(log) // not there: nothing was done
	return strings.Split(strings.TrimSpace(string(lines)), "\n"), string(out), err
}

// TestMaintainerScripts: what dpkg and rpm ask for at an installation, an upgrade, a removal. Nothing but the agent is ever started
// again, and nothing is ever stopped.
func TestMaintainerScripts(t *testing.T) {
	const agent, server = "standfast.service", "standfast-postgres.service"
	restart, disable := "try-restart "+agent, "--quiet disable "+agent
	for what, c := range map[string]struct {
		script  string
		args    []string
		active  []string
		does    string // one of restart and disable, or nothing
		refuses string
	}{
		"installed by dpkg":            {"postinstall.sh", []string{"configure", ""}, nil, "", ""},
		"installed by rpm":             {"postinstall.sh", []string{"1"}, nil, "", ""},
		"upgraded by dpkg":             {"postinstall.sh", []string{"configure", "1.0"}, []string{agent, server}, restart, ""},
		"upgraded by rpm":              {"postinstall.sh", []string{"2"}, []string{agent, server}, restart, ""},
		"removal given up":             {"postinstall.sh", []string{"abort-remove"}, []string{agent}, "", ""},
		"before an upgrade by dpkg":    {"preremove.sh", []string{"upgrade", "1.1"}, []string{agent, server}, "", ""},
		"before an upgrade by rpm":     {"preremove.sh", []string{"1"}, []string{agent, server}, "", ""},
		"removed by dpkg":              {"preremove.sh", []string{"remove"}, nil, disable, ""},
		"removed by rpm":               {"preremove.sh", []string{"0"}, nil, disable, ""},
		"removed while a member runs":  {"preremove.sh", []string{"remove"}, []string{agent, server}, "", "standfast node stop"},
		"removed while its server is":  {"preremove.sh", []string{"0"}, []string{server}, "", server + " runs"},
		"after a removal":              {"postremove.sh", []string{"remove"}, nil, "", ""},
		"after an upgrade by rpm":      {"postremove.sh", []string{"1"}, []string{agent}, "", ""},
		"purged":                       {"postremove.sh", []string{"purge"}, nil, "", ""},
		"upgraded while it is stopped": {"postinstall.sh", []string{"configure", "1.0"}, nil, restart, ""}, // try-restart starts nothing
	} {
		did, said, err := maintain(t, c.script, c.active, c.args...)
		if (err != nil) != (c.refuses != "") || !strings.Contains(said, c.refuses) {
			t.Errorf("%s: %v: %s", what, err, said)
		}
		harmless := func(s string) bool {
			return s == "" || s == "daemon-reload" || strings.HasPrefix(s, "is-active") || s == c.does
		}
		if !slices.ContainsFunc(did, func(s string) bool { return c.does == "" || s == c.does }) || slices.ContainsFunc(did, func(s string) bool { return !harmless(s) }) {
			t.Errorf("%s: it does %q, want %q", what, did, c.does)
		}
	}
}

// TestScriptsTakeNothingAway: whatever is asked of them.
func TestScriptsTakeNothingAway(t *testing.T) {
	scripts, err := filepath.Glob("scripts/*.sh")
	if err != nil || len(scripts) != 3 {
		t.Fatalf("%v, %v", scripts, err)
	}
	for _, s := range scripts {
		text, err := os.ReadFile(s)
		if err != nil {
			t.Fatal(err)
		}
		for _, bad := range []string{"rm ", "rmdir", "systemctl stop", "systemctl restart", "userdel", "kill"} {
			if strings.Contains(string(text), bad) {
				t.Errorf("%s has %q", s, bad)
			}
		}
	}
}
