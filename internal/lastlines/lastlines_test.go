package lastlines_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"standfast/internal/lastlines"
)

func TestTheEndIsKept(t *testing.T) {
	b := lastlines.New(20)
	if b.Text() != "" {
		t.Errorf("nothing was written, and it has %q", b.Text())
	}
	for i := range 100 {
		fmt.Fprintf(b, "line %d\n", i)
		got := b.Text()
		if len(got) > 20 || !strings.HasSuffix(got, fmt.Sprintf("line %d\n", i)) || !strings.HasPrefix(got, "line ") {
			t.Fatalf("after line %d: %q", i, got)
		}
	}
	if got := b.Text(); got != "line 98\nline 99\n" {
		t.Errorf("kept %q", got)
	}
	fmt.Fprint(b, "0123456789012345678\n") // exactly as much as there is room for
	if got := b.Text(); got != "0123456789012345678\n" {
		t.Errorf("kept %q", got)
	}
}

func TestManyWrite(t *testing.T) {
	b := lastlines.New(1000)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 500 {
				fmt.Fprint(b, "a whole line\n")
				_ = b.Text()
			}
		})
	}
	wg.Wait()
	for line := range strings.Lines(b.Text()) {
		if line != "a whole line\n" {
			t.Fatalf("torn: %q", line)
		}
	}
}
