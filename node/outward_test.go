package node

import (
	"context"
	"strings"
	"testing"
	"time"

	"standfast/api"
	"standfast/config"
	"standfast/notify"
	"standfast/recovery"
)

// TestWhoCanNotBeToldIsShown, without what is secret in the address; and the settings known last are in force before a majority answers.
func TestWhoCanNotBeToldIsShown(t *testing.T) {
	dir := t.TempDir()
	if err := (recovery.Known{Cluster: "main", Config: "notify: {chat: 'http://127.0.0.1:1/hooks/s3cret', at_least: info}\n"}).Save(dir); err != nil {
		t.Fatal(err)
	}
	n := &Node{cfg: config.Node{Name: "pg1", Cluster: "main", StateDir: dir}, log: quiet}
	n.openOutward()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- n.outward.Run(ctx) }()
	defer func() { cancel(); <-ended }()
	if told, warnings := n.toldOutside(); len(told) != 1 || len(warnings) != 0 {
		t.Errorf("before: %+v %q", told, warnings)
	}
	n.outward.Tell(api.Event{ID: "a", At: time.Now(), Text: "something", Severity: api.Info})
	var warnings []string
	for deadline := time.Now().Add(20 * time.Second); len(warnings) == 0 && time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		_, warnings = n.toldOutside()
	}
	if len(warnings) != 1 || !strings.HasPrefix(warnings[0], "pg1 can't tell the chat (http://127.0.0.1:1/***) of events since ") || !strings.Contains(warnings[0], "connection refused") || strings.Contains(warnings[0], "s3cret") {
		t.Errorf("warnings: %q", warnings)
	}
	n.outward.Set(notify.Settings{})
	if told, warnings := n.toldOutside(); len(told) != 0 || len(warnings) != 0 {
		t.Errorf("nobody is to be told: %+v %q", told, warnings)
	}
}
