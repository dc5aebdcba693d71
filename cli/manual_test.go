package cli

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestManual: each command has a page that groff reads without a word, with every flag on it.
func TestManual(t *testing.T) {
	dir := t.TempDir()
	var said bytes.Buffer
	if code := Run([]string{"manual", dir}, strings.NewReader(""), &said, &said); code != 0 {
		t.Fatalf("it exits with %d: %s", code, &said)
	}
	for page, wants := range map[string][]string{
		"standfast.1":               {`\-\-config`, ".B switchover", ".BR standfast\\-deploy (1)", "Exit codes: 0 done"},
		"standfast-deploy.1":        {`\-\-dry\-run`, `standfast deploy \-f cluster.yml`, ".SH NAME\nstandfast\\-deploy \\- make"},
		"standfast-config-set.1":    {`\-\-dry\-run`, ".BR standfast\\-config (1)"},
		"standfast-switchover.1":    {`\-\-to`},
		"standfast-node-stop.1":     {`\-\-now`},
		"standfast-config-sample.1": {".SH SYNOPSIS"},
		"standfast-completion.1":    {".SH ARGUMENTS", "bash"},
		"standfast-node-start.1":    {"Start this host's member."},
		"standfast-config.1":        {".SH COMMANDS"},
		"standfast-playground.1":    {`\-\-floating`},
		"standfast-config-show.1":   {".SH SYNOPSIS"},
		"standfast-validate.1":      {`\-\-failover`},
		"standfast-history.1":       {`\-\-term`},
		"standfast-status.1":        {`\-\-watch`},
		"standfast-version.1":       {".SH SYNOPSIS"},
		"standfast-pause.1":         {`\-\-for`},
		"standfast-reclone.1":       {".SH ARGUMENTS"},
		"standfast-restart.1":       {`\-\-pending`},
		"standfast-plan.1":          {`\-\-sample`},
		"standfast-promote.1":       {`\-\-accept\-loss`},
		"standfast-failover.1":      {".SH OPTIONS"},
		"standfast-resume.1":        {".SH OPTIONS"},
		"standfast-run.1":           {`\-\-set`},
		"standfast-init.1":          {`\-\-witness`},
		"standfast-node.1":          {".B stop"},
		"standfast-bundle.1":        {`\-\-mirror`, `tar \-xf`},
		"standfast-config-edit.1":   {".SH SYNOPSIS"},
	} {
		text, err := os.ReadFile(filepath.Join(dir, page))
		if err != nil {
			t.Error(err)
		}
		for _, want := range wants {
			if !strings.Contains(string(text), want) {
				t.Errorf("%s does not say %q:\n%s", page, want, text)
			}
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "standfast-manual.1")); err == nil {
		t.Error("a hidden command has a page")
	}
	groff, err := exec.LookPath("groff")
	if err != nil {
		t.Skip("the pages' language is not checked: there is no groff here")
	}
	pages, err := filepath.Glob(filepath.Join(dir, "*.1"))
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(groff, append([]string{"-k", "-man", "-Tutf8", "-ww", "-z"}, pages...)...).CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("groff: %v\n%s", err, out)
	}
}
