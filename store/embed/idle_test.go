package embed_test

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"standfast/store/etcd"
	"standfast/store/storetest"
)

// BenchmarkIdle measures what a member costs while nothing happens: three members for 20 s, each with a client that
// watches, and checks for a majority once a second. Run it with -bench Idle -benchtime 1x. PSS counts the
// pages of the executable, which the three share here, by a third each; RSS is what a member alone on its host takes.
func BenchmarkIdle(b *testing.B) {
	const duration = 20 * time.Second
	e := storetest.Start(b, 3)
	for i := range e.Nodes {
		s, err := etcd.Open(etcd.Config{Endpoints: append(e.Endpoints()[i:], e.Endpoints()[:i]...), TLS: e.TLS})
		if err != nil {
			b.Fatal(err)
		}
		defer s.Close()
		<-s.Watch(b.Context(), "/standfast/")
	}
	s, err := etcd.Open(etcd.Config{Endpoints: e.Endpoints(), TLS: e.TLS})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	time.Sleep(5 * time.Second) // what starting costs is not the question
	for b.Loop() {
		before, self := cpu(b, e), ticks(b, os.Getpid())
		for range int(duration / time.Second) {
			time.Sleep(time.Second)
			if err := s.Check(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
		after := cpu(b, e)
		share := func(ticks float64) float64 { return ticks / 100 / duration.Seconds() * 100 }
		for i, n := range e.Nodes {
			b.Logf("%s: %.2f %% of a core, PSS %.1f MB, RSS %.1f MB, data %d MB", n.Name, share(after[i]-before[i]),
				resident(b, n.Child.Pid(), "Pss:"), resident(b, n.Child.Pid(), "Rss:"), usage(b, n.DataDir)>>20)
		}
		b.Logf("the four clients in this process together: %.2f %% of a core", share(ticks(b, os.Getpid())-self))
	}
}

func cpu(b *testing.B, e *storetest.Etcd) (all []float64) {
	for _, n := range e.Nodes {
		all = append(all, ticks(b, n.Child.Pid()))
	}
	return all
}

// ticks is the CPU time that the process has used, in ticks of 10 ms (proc(5), fields 14 and 15).
func ticks(b *testing.B, pid int) float64 {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')'):]))
	user, err1 := strconv.ParseFloat(fields[12], 64)
	system, err2 := strconv.ParseFloat(fields[13], 64)
	if err1 != nil || err2 != nil {
		b.Fatal(err1, err2)
	}
	return user + system
}

// resident is a line of the process's memory, MB (proc(5), smaps_rollup).
func resident(b *testing.B, pid int, which string) float64 {
	rollup, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(rollup)) {
		if kb, ok := strings.CutPrefix(line, which); ok {
			n, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(kb), "kB")), 64)
			if err != nil {
				b.Fatal(err)
			}
			return n / 1024
		}
	}
	b.Fatal("no ", which, " in smaps_rollup")
	return 0
}
