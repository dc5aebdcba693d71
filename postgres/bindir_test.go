package postgres_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"standfast/postgres"
)

func TestFindBinDir(t *testing.T) {
	fake := func(says string) string {
		dir := t.TempDir()
		must(t, os.WriteFile(filepath.Join(dir, "postgres"), []byte("#!/bin/sh\necho '"+says+"'\n"), 0o755))
		return dir
	}
	good := fake("postgres (PostgreSQL) 17.2 (Somewhere 17.2-1)")
	if dir, v, err := postgres.FindBinDir(good); err != nil || dir != good || v != 17 {
		t.Errorf("got %s, %d, %v", dir, v, err)
	}
	for want, part := range map[string]string{
		fake("postgres (PostgreSQL) 9.6.24"): "install a version from 14 to 18",
		fake("postgres (PostgreSQL) 99.1"):   "install a version from 14 to 18",
		t.TempDir():                          "no such file",
		"13":                                 "a version from 14 to 18",
		"nonsense":                           "want a directory",
	} {
		if dir, v, err := postgres.FindBinDir(want); err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("FindBinDir(%q) = %s, %d, %v; want an error with %q", want, dir, v, err, part)
		}
	}
}

func TestParseSource(t *testing.T) {
	for in, want := range map[string]postgres.Source{
		"10.0.0.1:5432": {Host: "10.0.0.1", Port: 5432},
		"[fd00::1]:99":  {Host: "fd00::1", Port: 99},
	} {
		if got, err := postgres.ParseSource(in); err != nil || got.Host != want.Host || got.Port != want.Port {
			t.Errorf("ParseSource(%q) = %v, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "host", "host:", ":5432", "host:0", "host:70000", "host:x"} {
		if got, err := postgres.ParseSource(in); err == nil {
			t.Errorf("ParseSource(%q) = %v, want an error", in, got)
		}
	}
}
