package probe

import (
	"context"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// TestMain lets this program also be the probe on one of a test's hosts.
func TestMain(m *testing.M) {
	if os.Getenv("PROBE_TEST_ASKED") != "" {
		if Main(context.Background(), os.Stdin, os.Stdout) != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}
