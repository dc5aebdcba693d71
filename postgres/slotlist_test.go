package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"standfast/postgres"
)

// TestListAndDropSlots: all slots are told, with who receives; a stranger's goes, one in use and a member's stay.
func TestListAndDropSlots(t *testing.T) {
	w := newWorld(t, "pg1", "pg2")
	a := w.nodes["pg1"]
	a.cfg.Members = []string{"pg1", "pg2"}
	a.SetConfig(a.cfg)
	ctx := bounded(t)
	must(t, a.Init(ctx))
	must(t, a.EnsureSlots(ctx, []string{"pg1", "pg2"}))
	a.exec(t, "select pg_create_physical_replication_slot('theirs', true)")
	a.exec(t, "select pg_create_physical_replication_slot('nothing')")
	a.exec(t, "select pg_switch_wal()")

	find := func(name string) postgres.ListedSlot {
		t.Helper()
		all, err := a.ListSlots(ctx)
		must(t, err)
		i := slices.IndexFunc(all, func(l postgres.ListedSlot) bool { return l.Name == name })
		if i < 0 {
			return postgres.ListedSlot{}
		}
		return all[i]
	}
	if s := find("theirs"); s.Type != "physical" || s.Active || s.Restart == 0 || s.Held <= 0 || s.Status != "reserved" || s.Temporary {
		t.Errorf("a stranger's: %+v", s)
	}
	if s := find("nothing"); s.Restart != 0 || s.Held != 0 {
		t.Errorf("one that keeps nothing: %+v", s)
	}
	if s := find("pg2"); s.Restart == 0 {
		t.Errorf("a member's: %+v", s)
	}

	rctx, cancel := context.WithCancel(ctx)
	defer cancel()
	dir := filepath.Join(t.TempDir(), "wal")
	must(t, exec.Command("mkdir", "-m", "777", dir).Run())
	receive := exec.CommandContext(rctx, filepath.Join(w.binDir, "pg_receivewal"), "-D", dir, "--slot=theirs", "--no-loop",
		"-d", fmt.Sprintf("host=%s port=%d user=postgres application_name=copier", a.cfg.SocketDir, a.cfg.Port))
	receive.WaitDelay = time.Second
	must(t, receive.Start())
	eventually(t, "somebody receives", func() bool { return find("theirs").Active })
	if s := find("theirs"); s.Client != "copier" { // over a socket: no address
		t.Errorf("who receives: %+v", s)
	}
	if err := a.DropStranger(ctx, "theirs"); !errors.Is(err, postgres.ErrSlotInUse) {
		t.Errorf("one in use: %v", err)
	}
	cancel()
	_ = receive.Wait() // it was killed
	eventually(t, "nobody receives", func() bool { return !find("theirs").Active })
	if err := a.DropStranger(ctx, "pg2"); err == nil || !strings.Contains(err.Error(), "it is the member pg2's") || find("pg2").Name == "" {
		t.Errorf("a member's: %v", err)
	}
	must(t, a.DropStranger(ctx, "theirs"))
	if s := find("theirs"); s.Name != "" {
		t.Errorf("dropped, and there: %+v", s)
	}
	must(t, a.DropStranger(ctx, "theirs")) // somebody was faster
}
