package cli

import (
	"fmt"
	"io"

	"standfast/config"
	"standfast/doctor"
	"standfast/doctor/collect"
)

type checkCmd struct {
	LagWarning          string `help:"Bytes that a standby may be behind." default:"16MB" placeholder:"16MB"`
	LagCritical         string `help:"The same." default:"64MB" placeholder:"64MB"`
	ConnectionsWarning  int    `help:"Percent of a server's connections in use." default:"80" placeholder:"80"`
	ConnectionsCritical int    `help:"The same." default:"95" placeholder:"95"`
	DiskWarning         int    `help:"Percent of a disk that is free." default:"20" placeholder:"20"`
	DiskCritical        int    `help:"The same." default:"10" placeholder:"10"`
	StatusOnly          bool   `help:"Judge what the status tells, and neither connections nor disks; needs no token."`
}

func (checkCmd) Help() string {
	return `One line and an exit code, as Nagios, Icinga and their like want it: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN. Any host will do, and one is enough: it tells of the whole cluster. CRITICAL is that clients suffer or data is at risk; a member that is away while the others serve is a WARNING. What to do is for standfast doctor to say.

Examples:

    sudo -u postgres standfast check
    standfast check --status-only
    standfast check --lag-critical 256MB --disk-warning 15`
}

func (c *checkCmd) Run(a *app) error {
	t, err := c.thresholds()
	if err != nil {
		return unknown(a.stdout, err)
	}
	o := collect.Options{Brief: true}
	if c.StatusOnly {
		o.Refused = "--status-only"
	}
	cl, k, err := a.examine(a.ctx, o)
	if err != nil {
		return unknown(a.stdout, err)
	}
	defer cl.Close()
	v := doctor.Judge(k, t)
	fmt.Fprintln(a.stdout, v.Line())
	return plugin(v.State)
}

// plugin ends with a state's own code, and nothing more to say.
func plugin(s doctor.State) error {
	if s == doctor.StateOK {
		return nil
	}
	return &coded{code: Code(s)}
}

// unknown is the line of a plugin that could not look: what it exits with then must not be taken for a state of the cluster.
func unknown(w io.Writer, err error) error {
	fmt.Fprintln(w, doctor.Verdict{State: doctor.StateUnknown, Text: err.Error()}.Line())
	return plugin(doctor.StateUnknown)
}

func (c *checkCmd) thresholds() (doctor.Thresholds, error) {
	t := doctor.Thresholds{ConnectionsWarning: c.ConnectionsWarning, ConnectionsCritical: c.ConnectionsCritical, DiskWarning: c.DiskWarning, DiskCritical: c.DiskCritical, StatusOnly: c.StatusOnly}
	for flag, q := range map[string]struct {
		text string
		to   *int64
	}{"--lag-warning": {c.LagWarning, &t.LagWarning}, "--lag-critical": {c.LagCritical, &t.LagCritical}} {
		z, err := config.ParseSize(q.text)
		if err != nil {
			return t, fmt.Errorf("%s: %w", flag, err)
		}
		*q.to = int64(z)
	}
	for flag, n := range map[string]int{"--connections-warning": c.ConnectionsWarning, "--connections-critical": c.ConnectionsCritical, "--disk-warning": c.DiskWarning, "--disk-critical": c.DiskCritical} {
		if n < 0 || n > 100 {
			return t, fmt.Errorf("%s %d: it is a percentage", flag, n)
		}
	}
	return t, nil
}
