package api

import (
	"fmt"
	"strings"

	"standfast/cluster"
)

// Commit says what an acknowledged commit is worth now.
type Commit struct {
	Durability cluster.Durability `json:"durability"`
	Rule       cluster.Rule       `json:"rule"`
	Hosts      int                `json:"hosts"`    // hosts that have each acknowledged commit, the primary counted
	OutOf      int                `json:"out_of"`   // hosts that count, the primary counted
	Survives   int                `json:"survives"` // hosts that may be lost, any of them, without losing a commit
	Spare      int                `json:"spare"`    // hosts that may still fail before writing waits; below 0: it waits now
	Text       string             `json:"text"`     // the same in words
}

// Describe puts a commit rule into fields and words; attached says which members take the primary's stream now, votes how many of those that
// are heard may fail before they are no majority: with four members there may be copies to spare when there are no votes.
func Describe(d cluster.Durability, r cluster.Rule, attached func(name string) bool, votes int) Commit {
	c := Commit{Durability: d, Rule: r, Hosts: r.K + 1, OutOf: len(r.Of) + 1, Survives: r.K, Spare: -r.K}
	for _, n := range r.Of {
		if attached(n) {
			c.Spare++
		}
	}
	if c.Spare > 0 {
		c.Spare = min(c.Spare, max(votes, 0))
	}
	switch {
	case d == cluster.Async:
		c.Hosts, c.Survives = 1, 0
		c.Text = "commits wait for no copy (async): what the standbys lag behind is lost with the primary's host"
	case r.K == 0:
		c.Text = "each commit is on the primary's host alone; if that host is lost, so is what no standby has yet"
	case c.Spare < 0 && len(r.Of) == 0:
		c.Text = "writing waits for the first standby: no commit can be acknowledged before it is there"
	case c.Spare < 0:
		c.Text = fmt.Sprintf("writing waits: each commit needs %d of %s, and %d %s attached",
			r.K, strings.Join(r.Of, ", "), c.Spare+r.K, plural(c.Spare+r.K, "is", "are"))
	case c.Spare == 0:
		c.Text = fmt.Sprintf("each commit is on %d of %d hosts; if one more host fails, writing waits", c.Hosts, c.OutOf)
	default:
		c.Text = fmt.Sprintf("each commit is on %d of %d hosts; %s more %s may fail",
			c.Hosts, c.OutOf, count(c.Spare), plural(c.Spare, "host", "hosts"))
	}
	return c
}

// plural picks the word that goes with n.
func plural(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}

// count writes small numbers as words, as prose does.
func count(n int) string {
	if words := [...]string{"no", "one", "two", "three", "four", "five", "six"}; n >= 0 && n < len(words) {
		return words[n]
	}
	return fmt.Sprint(n)
}
