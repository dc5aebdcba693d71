package postgres

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestLogIsBounded though its writer never opens it again, as a postmaster doesn't, and without losing what was written
// before and after.
func TestLogIsBounded(t *testing.T) {
	c := Config{LogFile: filepath.Join(t.TempDir(), "postgresql.log")}
	if err := c.boundLog(1); err != nil {
		t.Fatalf("without a log: %v", err)
	}
	w, err := c.openLog()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for round := range 3 {
		text := strings.Repeat(fmt.Sprintf("line of round %d\n", round), 100)
		if _, err := w.WriteString(text); err != nil {
			t.Fatal(err)
		}
		if err := c.boundLog(int64(len(text)) + 1); err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(c.LogFile); err != nil || string(b) != text {
			t.Fatalf("below the bound: %d bytes, %v", len(b), err)
		}
		if err := c.boundLog(int64(len(text))); err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(c.LogFile); err != nil || len(b) != 0 {
			t.Errorf("begun anew: %d bytes, %v", len(b), err)
		}
		if b, err := os.ReadFile(c.LogFile + ".1"); err != nil || !bytes.Equal(b, []byte(text)) {
			t.Errorf("the old one: %d bytes, %v", len(b), err)
		}
	}
}

// TestLogIsEmptiedWithoutRoomForACopy: here something else has the old one's name.
func TestLogIsEmptiedWithoutRoomForACopy(t *testing.T) {
	c := Config{LogFile: filepath.Join(t.TempDir(), "postgresql.log")}
	if err := os.WriteFile(c.LogFile, make([]byte, 100), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(c.LogFile+".1", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := c.boundLog(50); err == nil {
		t.Error("no error")
	}
	if st, err := os.Stat(c.LogFile); err != nil || st.Size() != 0 {
		t.Errorf("not emptied: %v, %v", st, err)
	}
}
