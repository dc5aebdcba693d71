package cli

import (
	"encoding/json"
	"io"
	"time"

	"standfast/deploy"
	"standfast/deploy/plan"
)

// deployReport is a deployment for programs, such as Ansible.
type deployReport struct {
	Cluster  string         `json:"cluster"`
	Check    bool           `json:"check"`   // nothing was changed, only looked at
	Changed  bool           `json:"changed"` // something was, or with check would be
	Steps    []deployedStep `json:"steps"`
	Findings []plan.Finding `json:"findings,omitempty"` // of phase 0, those that are unusual or in the way
	Error    string         `json:"error,omitempty"`
	Seconds  float64        `json:"seconds"`
}

// deployedStep is a step or a checkpoint, and what became of it.
type deployedStep struct {
	Phase   int           `json:"phase"`
	Host    string        `json:"host,omitempty"`
	Step    string        `json:"step"`
	State   deploy.State  `json:"state"`
	Text    string        `json:"text,omitempty"`
	Error   string        `json:"error,omitempty"`
	Seconds float64       `json:"seconds"`
	Diff    []deploy.Diff `json:"diff,omitempty"`
}

// note keeps a step that has ended.
func (r *deployReport) note(e deploy.Event) {
	if e.State == deploy.Begins {
		return
	}
	s := deployedStep{Phase: e.Phase, Host: e.Host, Step: e.Step, State: e.State, Text: e.Text, Seconds: seconds(e.Took), Diff: e.Diff}
	if e.Err != nil {
		s.Error = e.Err.Error()
	}
	r.Steps = append(r.Steps, s)
	r.Changed = r.Changed || e.State == deploy.Did || e.State == deploy.Would
}

// looked keeps what of phase 0 is worth reading.
func (r *deployReport) looked(report *plan.Report) {
	for _, f := range report.Findings {
		if f.Level != plan.Pass {
			r.Findings = append(r.Findings, f)
		}
	}
}

func (r *deployReport) write(w io.Writer, err error, took time.Duration) error {
	if err != nil {
		r.Error = err.Error()
	}
	if r.Steps == nil {
		r.Steps = []deployedStep{}
	}
	r.Seconds = seconds(took)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(r)
}

func seconds(d time.Duration) float64 { return d.Round(time.Millisecond).Seconds() }
