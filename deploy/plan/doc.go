// Package plan is phase 0 of a deployment: it looks at every host that cluster.yml names, from the host itself and from the others,
// and says what is fine, what is unusual and what has to be mended first, each with its remedy. It changes nothing.
package plan

import (
	"context"
	"time"

	"standfast/config"
	"standfast/deploy/bundle"
	"standfast/deploy/probe"
)

// Host is a machine that answers questions.
type Host interface {
	// Ask asks one question and waits for the answer.
	Ask(ctx context.Context, r probe.Request) (probe.Answer, error)
	// Hold asks for ports to be opened, and keeps them open until release.
	Hold(ctx context.Context, r probe.Request) (a probe.Answer, release func() error, err error)
}

// Level says how bad a finding is.
type Level string

// The levels.
const (
	Pass Level = "pass"
	Warn Level = "warn" // unusual; a deployment goes on
	Fail Level = "fail" // a deployment is refused
)

// Finding is what was found of one thing.
type Finding struct {
	Level  Level  `json:"level"`
	Host   string `json:"host,omitempty"` // "": the cluster as a whole
	Check  string `json:"check"`
	Text   string `json:"text"`
	Remedy string `json:"remedy,omitempty"`
}

// Report is all that was found.
type Report struct {
	Findings []Finding              `json:"findings"`
	Facts    map[string]probe.Facts `json:"facts"`    // by member; of those that answered
	Postgres string                 `json:"postgres"` // the major version that the hosts have or get; "": they differ
}

// Failed reports whether anything is in the way.
func (r *Report) Failed() bool { return r.count(Fail) > 0 }

// Count is the number of findings of a level.
func (r *Report) Count(l Level) int { return r.count(l) }

func (r *Report) count(l Level) int {
	n := 0
	for _, f := range r.Findings {
		if f.Level == l {
			n++
		}
	}
	return n
}

func (r *Report) add(l Level, host, check, remedy, text string) {
	r.Findings = append(r.Findings, Finding{l, host, check, text, remedy})
}

// Site is what is looked at.
type Site struct {
	Deployment config.Deployment
	Hosts      map[string]Host  // by member
	Down       map[string]error // why the others can't be asked
	Bundle     *bundle.Bundle   // what packages come from; nil: the hosts' repositories
	CA         string           // SHA-256 of the authority's certificate that this deployment has made before, in hexadecimal; "": none
	Adopts     string           // the data directory of the servers that are taken over; "": none are
	Now        func() time.Time
}
