package postgres_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"standfast/postgres"
)

// TestKillAllEndsOrphans kills the postmaster while a client keeps committing, and sees that what is left of the server
// goes on until Kill, and is gone after KillAll.
func TestKillAllEndsOrphans(t *testing.T) {
	w := newWorld(t, "pg1")
	a := w.nodes["pg1"]
	ctx := bounded(t)
	must(t, a.Init(ctx))
	a.exec(t, "set synchronous_commit = local; create table t (n int)")
	conn := a.connect(t)
	_, err := conn.Exec(ctx, "set synchronous_commit = local")
	must(t, err)
	busy := make(chan error, 1)
	go func() { // never waits for its client, as one who pipelines, so it does not notice that its postmaster is gone
		_, err := conn.Exec(ctx, "do $$ begin loop insert into t values (1); commit; end loop; end $$")
		busy <- err
	}()
	eventually(t, "the client commits", func() bool { return a.value(t, "select (count(*) > 0)::text from t") == "true" })
	exited := a.Exited()
	must(t, syscall.Kill(postmasterPID(t, a), syscall.SIGKILL))
	begun := time.Now()
	select {
	case <-exited:
		t.Logf("the postmaster's death was seen within %s", time.Since(begun))
	case <-ctx.Done():
		t.Fatal("the postmaster's death was not seen")
	}
	select {
	case err := <-busy:
		t.Fatalf("the backend ended with its postmaster, which this test rests on: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
	if running, err := a.Running(); err != nil || !running {
		t.Fatalf("orphans are not seen: %v, %v", running, err)
	}
	begun = time.Now()
	must(t, a.Kill(ctx))
	t.Logf("killing the orphans took %s", time.Since(begun))
	if err := <-busy; err == nil {
		t.Fatal("an endless statement ended by itself")
	}
	must(t, a.KillAll(ctx))
	t.Logf("until they had ended it took %s", time.Since(begun))
	if running, err := a.Running(); err != nil || running {
		t.Fatalf("after KillAll: running %v, %v", running, err)
	}
	must(t, a.KillAll(ctx))
	must(t, a.StartStandby(ctx))
	select {
	case <-a.Exited():
		t.Fatal("Exited was not renewed")
	default:
	}
}

func postmasterPID(t *testing.T, n *node) int {
	t.Helper()
	b, err := os.ReadFile(n.cfg.DataDir + "/postmaster.pid")
	must(t, err)
	pid, err := strconv.Atoi(strings.SplitN(string(b), "\n", 2)[0])
	must(t, err)
	return pid
}

// TestAdoptsWhatAnotherProcessStarted starts a server from a process that dies, and takes it over.
func TestAdoptsWhatAnotherProcessStarted(t *testing.T) {
	w := newWorld(t, "pg1")
	a := w.nodes["pg1"]
	ctx := bounded(t)
	if got, err := a.Adopt(ctx); err != nil || got {
		t.Fatalf("adopted nothing: %v, %v", got, err)
	}
	must(t, a.Init(ctx))
	must(t, a.Stop(ctx, postgres.Fast))
	if got, err := a.Adopt(ctx); err != nil || got {
		t.Fatalf("adopted a stopped server: %v, %v", got, err)
	}
	text, err := json.Marshal(a.cfg)
	must(t, err)
	self, err := os.Executable()
	must(t, err)
	starter := exec.Command(self)
	starter.Env = append(os.Environ(), starterEnv+"="+string(text))
	out, err := starter.CombinedOutput()
	if err != nil {
		t.Fatalf("the starter: %v: %s", err, out)
	}
	if running, err := a.Running(); err != nil || !running {
		t.Fatalf("the server died with its starter: %v, %v", running, err)
	}
	if got, err := a.Adopt(ctx); err != nil || !got {
		t.Fatalf("not adopted: %v, %v", got, err)
	}
	exited := a.Exited()
	eventually(t, "the adopted server answers", func() bool { return a.Ping(ctx) == nil })
	if o := a.observe(t); !o.Postgres.Recovery {
		t.Fatal("started as a primary")
	}
	must(t, a.Stop(ctx, postgres.Immediate))
	select {
	case <-exited:
	default:
		t.Fatal("stopped, and its exit was not seen")
	}
}

// TestAdoptRefusesAnotherStart starts PostgreSQL the plain way.
func TestAdoptRefusesAnotherStart(t *testing.T) {
	w := newWorld(t, "pg1")
	a := w.nodes["pg1"]
	ctx := bounded(t)
	must(t, a.Init(ctx))
	must(t, a.Stop(ctx, postgres.Fast))
	plain := exec.Command(w.binDir+"/postgres", "-D", a.cfg.DataDir, "-c", "unix_socket_directories=", "-c", "listen_addresses=", "-c", "port="+strconv.Itoa(freePort(t)))
	plain.SysProcAttr = &syscall.SysProcAttr{Credential: w.runAs}
	must(t, plain.Start())
	done := make(chan error, 1)
	go func() { done <- plain.Wait() }()
	defer func() { <-done }()
	defer a.KillAll(ctx)
	eventually(t, "the plain server runs", func() bool {
		got, err := a.Adopt(ctx)
		return got && errors.Is(err, postgres.ErrForeignStart)
	})
}

// TestStartTellsWhyItFailed sees PostgreSQL's own words in the error.
func TestStartTellsWhyItFailed(t *testing.T) {
	w := newWorld(t, "pg1")
	a := w.nodes["pg1"]
	ctx := bounded(t)
	must(t, a.Init(ctx))
	must(t, a.Stop(ctx, postgres.Fast))
	cfg := a.cfg
	cfg.Parameters = map[string]string{"shared_preload_libraries": "no_such_library"}
	a.SetConfig(cfg)
	err := a.StartStandby(ctx)
	if err == nil || !strings.Contains(err.Error(), "no_such_library") {
		t.Fatalf("got %v", err)
	}
	if running, err := a.Running(); err != nil || running {
		t.Fatalf("after a failed start: %v, %v", running, err)
	}
}

// TestCloseLeavesTheServer lets go of a server and finds it running.
func TestCloseLeavesTheServer(t *testing.T) {
	w := newWorld(t, "pg1")
	a := w.nodes["pg1"]
	ctx := bounded(t)
	must(t, a.Init(ctx))
	must(t, a.Close(ctx))
	other := postgres.New(a.cfg)
	defer other.Close(context.Background())
	if got, err := other.Adopt(ctx); err != nil || !got {
		t.Fatalf("the server was closed too: %v, %v", got, err)
	}
	must(t, other.Stop(ctx, postgres.Fast))
}
