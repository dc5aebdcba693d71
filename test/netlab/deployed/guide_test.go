//go:build e2e

package deployed_test

import (
	"path/filepath"
	"testing"
	"time"

	"standfast/test/netlab/deployed"
)

func blocks(t *testing.T, page string) []deployed.Block {
	t.Helper()
	all, err := deployed.Blocks(filepath.Join("..", "..", "..", "docs", page))
	ok(t, err)
	return all
}

// guideFile is cluster.yml as the guide has it.
func guideFile(t *testing.T) string {
	t.Helper()
	for _, b := range blocks(t, "GUIDE.md") {
		if b.File == "cluster.yml" {
			return deployed.Here(b.Text)
		}
	}
	t.Fatal("the guide has no cluster.yml")
	return ""
}

// guide runs the pages' commands word by word. The cluster was made with the guide's own cluster.yml.
func guide(t *testing.T) {
	for _, page := range deployed.Pages {
		for _, b := range blocks(t, page) {
			switch {
			case b.Why != "":
				t.Logf("%s is not run: %s\n%s", b, b.Why, b.Text)
			case b.On != "":
				word(t, b)
			}
		}
	}
}

func word(t *testing.T, b deployed.Block) {
	t.Helper()
	began := time.Now()
	var said string
	var err error
	if b.On == "admin" {
		said, err = admin.Shell(all, deployed.Here(b.Text))
	} else {
		said, err = admin.Lab.Host(b.On).Shell(all, deployed.Here(b.Text))
	}
	t.Logf("%s, on %s, took %s\n%s%s", b, b.On, time.Since(began).Round(time.Millisecond), b.Text, said)
	if err != nil {
		t.Errorf("%s: %v", b, err)
	}
}
