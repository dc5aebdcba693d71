package probe_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"testing"

	"standfast/deploy/probe"
)

func ask(t *testing.T, r probe.Request) probe.Answer {
	t.Helper()
	question, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := probe.Main(t.Context(), bytes.NewReader(question), &out); err != nil {
		t.Fatal(err)
	}
	var a probe.Answer
	if err := json.Unmarshal(out.Bytes(), &a); err != nil {
		t.Fatal(err)
	}
	return a
}

func TestLook(t *testing.T) {
	f := ask(t, probe.Request{Look: &probe.Look{Names: []string{"localhost"}, Addresses: []string{"127.0.90.10"}}}).Facts
	if f == nil || f.CPUs < 1 || f.Memory == 0 || f.Free["/usr"] == 0 || len(f.Names["localhost"]) == 0 || f.VIPs["127.0.90.10"].Interface != "lo" {
		t.Errorf("%+v", f)
	}
}

// TestPortsStayOpen until the question's end of input, and are then gone.
func TestPortsStayOpen(t *testing.T) {
	ends := []probe.Endpoint{{Network: "tcp", Address: "127.0.90.10:5000"}, {Network: "udp", Address: "127.0.90.10:8301"}}
	question, err := json.Marshal(probe.Request{Listen: ends})
	if err != nil {
		t.Fatal(err)
	}
	in, feed := io.Pipe()
	answer, out := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- probe.Main(t.Context(), in, out) }()
	if _, err := feed.Write(append(question, '\n')); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(answer).ReadBytes('\n')
	if err != nil || string(line) != "{}\n" {
		t.Fatalf("answers %q, %v", line, err)
	}
	for _, e := range ends {
		if why := ask(t, probe.Request{Dial: ends}).Dial[e.String()]; why != "" {
			t.Errorf("%s: %s", e, why)
		}
	}
	feed.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if why := ask(t, probe.Request{Dial: ends[:1]}).Dial[ends[0].String()]; why == "" {
		t.Error("the port is open still")
	}
}

func TestEmpty(t *testing.T) {
	dir := t.TempDir()
	file := func(path string) {
		t.Helper()
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if probe.Empty(dir) {
		t.Error("what can't be looked at is not empty")
	}
	for _, f := range []string{"base/1/1259", "base/5/2619_fsm", "base/5/pg_filenode.map", "pg_tblspc/.keep"} {
		file(f)
	}
	if err := os.Remove(filepath.Join(dir, "pg_tblspc/.keep")); err != nil {
		t.Fatal(err)
	}
	if !probe.Empty(dir) {
		t.Error("what initdb makes is empty")
	}
	file("base/5/16385")
	if probe.Empty(dir) {
		t.Error("a table is there")
	}
	if err := os.Remove(filepath.Join(dir, "base/5/16385")); err != nil {
		t.Fatal(err)
	}
	file("base/16384/1259")
	if probe.Empty(dir) {
		t.Error("a database is there")
	}
}
