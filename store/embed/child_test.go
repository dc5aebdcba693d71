package embed

import (
	"slices"
	"strings"
	"testing"
)

// TestTailKeepsTheReason: what etcd gives up with is told though a trace of any length follows it, and without one its last words.
func TestTailKeepsTheReason(t *testing.T) {
	for said, want := range map[string]string{
		"starting\npanic: failed to create WAL\n\ngoroutine 1 [running]:\n" + strings.Repeat("main.main()\n", 1000): ": failed to create WAL",
		"open /x: no such file\n": ": open /x: no such file",
		"":                        "",
	} {
		words := &tail{}
		for part := range slices.Chunk([]byte(said), 7) { // a pipe knows no lines
			if n, err := words.Write(part); err != nil || n != len(part) {
				t.Fatal(n, err)
			}
		}
		if got := words.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
