package probe

import (
	"path/filepath"
	"testing"
)

// TestLock: the second is told who has it, and has it when the first has ended.
func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	take := func(who string) (string, func()) {
		var a Answer
		open := a.lock(who, path)
		return a.Lock, func() {
			for _, c := range open {
				if err := c.Close(); err != nil {
					t.Error(err)
				}
			}
		}
	}
	said, end := take("ann, a longer name")
	if said != "" {
		t.Fatal(said)
	}
	if said, none := take("ben"); said != "ann, a longer name" {
		t.Errorf("it says %q", said)
	} else {
		none()
	}
	end()
	said, end = take("ben")
	if said != "" {
		t.Error(said)
	}
	if said, _ := take("ann"); said != "ben" {
		t.Errorf("it says %q", said)
	}
	end()
}
