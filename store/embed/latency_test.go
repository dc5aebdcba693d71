package embed_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"standfast/store/storetest"
)

// BenchmarkWrite measures one write at a time through three members, as an election makes it, and how long it takes to
// arrive at a watch.
func BenchmarkWrite(b *testing.B) {
	e := storetest.Start(b, 3)
	s := open(b, e)
	c := s.Watch(b.Context(), "/standfast/b/")
	<-c
	var written, seen []time.Duration
	for b.Loop() {
		started := time.Now()
		if _, err := s.Put(b.Context(), "/standfast/b/k", fmt.Append(nil, started)); err != nil {
			b.Fatal(err)
		}
		written = append(written, time.Since(started))
		<-c
		seen = append(seen, time.Since(started))
	}
	for name, d := range map[string][]time.Duration{"written": written, "seen": seen} {
		slices.Sort(d)
		b.ReportMetric(float64(d[len(d)/2].Microseconds())/1000, name+"-median-ms")
		b.ReportMetric(float64(d[len(d)*99/100].Microseconds())/1000, name+"-p99-ms")
	}
}
