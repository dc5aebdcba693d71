package postgres_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"standfast/postgres"
)

// starterEnv makes this test binary start a server and die, as an agent would: its value is the configuration.
const starterEnv = "STANDFAST_TEST_START"

func TestMain(m *testing.M) {
	if text := os.Getenv(starterEnv); text != "" {
		if err := startAndDie(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

func startAndDie(text string) error {
	var cfg postgres.Config
	if err := json.Unmarshal([]byte(text), &cfg); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return postgres.New(cfg).StartStandby(ctx)
}
