package notify

import (
	"fmt"
	"strings"
	"time"

	"standfast/api"
)

const (
	mostLines = 20              // events in one message of a chat
	longest   = 600             // characters of one event there
	gathering = 2 * time.Second // a failover brings several
)

// marks stand before an event, for the eye.
var marks = map[api.Severity]string{api.Info: "🟢", api.Warning: "🟠", api.Critical: "🔴"}

// Chat is a message for people, a line for each event, in the markup that Mattermost and Slack have in common.
func Chat(events []api.Event) string {
	var lines []string
	for _, e := range events {
		lines = append(lines, fmt.Sprintf("%s %s: %s (%s, %s)", marks[e.Severity], harmless(e.Cluster), harmless(e.Text), harmless(e.Member), e.At.UTC().Format("2006-01-02 15:04:05 UTC")))
	}
	return strings.Join(lines, "\n")
}

// quiet takes from a text what a chat would take for markup: links and mentions in Slack's way ("Formatting text for app surfaces"),
// which Mattermost shows alike, and @all, which would wake everybody.
var quiet = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", "@", "@\u200b", "\n", " ", "\r", " ")

func harmless(text string) string {
	if r := []rune(text); len(r) > longest {
		text = string(r[:longest]) + "…"
	}
	return quiet.Replace(text)
}
