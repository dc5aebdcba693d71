package doctor_test

import (
	"regexp"
	"strings"
	"testing"

	"standfast/api"
	"standfast/cluster"
	"standfast/doctor"
)

var bounds = doctor.Thresholds{LagWarning: 16 << 20, LagCritical: 64 << 20, ConnectionsWarning: 80, ConnectionsCritical: 95, DiskWarning: 20, DiskCritical: 10}

func TestVerdicts(t *testing.T) {
	for name, q := range map[string]struct {
		plant func(c *doctor.Case)
		state doctor.State
		says  string
	}{
		"well":                {func(*doctor.Case) {}, doctor.StateOK, "main: pg1 is primary in term 3; each commit is on 2 of 3 hosts; one more host may fail"},
		"a standby is away":   {func(c *doctor.Case) { silence(c, "pg3", true); spare(c, 1) }, doctor.StateWarning, "standfast does not run there; if one more host fails, writing stops"},
		"nobody answers":      {func(c *doctor.Case) { clear(c.Statuses); clear(c.Facts); c.Silent["pg1"] = "refused" }, doctor.StateCritical, "no member answers at all"},
		"no primary":          {func(c *doctor.Case) { each(c, func(st *api.Status) { st.Primary, st.Phase = "", cluster.Electing }) }, doctor.StateCritical, "nobody takes writes"},
		"lag":                 {func(c *doctor.Case) { each(c, func(st *api.Status) { *st.Members[1].Lag = 20 << 20 }) }, doctor.StateWarning, "pg2 is 20.0 MB behind"},
		"great lag":           {func(c *doctor.Case) { each(c, func(st *api.Status) { *st.Members[1].Lag = 90 << 20 }) }, doctor.StateCritical, "pg2 is 90.0 MB behind"},
		"disk":                {func(c *doctor.Case) { c.Facts["pg2"].Disks[0].Free = 15 * gb }, doctor.StateWarning, "pg2 has 15 % of a disk left"},
		"connections":         {func(c *doctor.Case) { pg(c, "pg1").Clients.Used = 95 }, doctor.StateCritical, "100 % of its connections"},
		"paused":              {func(c *doctor.Case) { each(c, func(st *api.Status) { st.Paused = true }) }, doctor.StateWarning, "paused"},
		"no token":            {func(c *doctor.Case) { c.Refused = "permission denied"; clear(c.Facts) }, doctor.StateUnknown, "permission denied"},
		"one does not tell":   {func(c *doctor.Case) { c.Facts["pg2"].Postgres = nil }, doctor.StateUnknown, "pg2 does not tell"},
		"a fault comes first": {func(c *doctor.Case) { c.Facts["pg2"].Postgres = nil; pg(c, "pg1").Clients.Used = 80 }, doctor.StateWarning, "84 % of its connections in use; pg2 does not tell"},
		"a bar in a warning":  {func(c *doctor.Case) { each(c, func(st *api.Status) { st.Warnings = []string{"a|b"} }) }, doctor.StateWarning, "a/b"},
	} {
		c := healthy()
		q.plant(c)
		v := doctor.Judge(c, bounds)
		if v.State != q.state || !strings.Contains(v.Line(), q.says) || strings.Count(v.Line(), "\n")+strings.Count(v.Line(), "|") > 1 {
			t.Errorf("%s: %s, want %s with %q", name, v.Line(), q.state, q.says)
		}
	}
}

// perfdata is the form that the guidelines ask for.
var perfdata = regexp.MustCompile(`^[a-z_0-9]+=-?[0-9.]+(%|B)?(;[0-9.:]*){0,4}$`)

func TestPerformanceData(t *testing.T) {
	v := doctor.Judge(healthy(), bounds)
	for _, p := range v.Perf {
		if !perfdata.MatchString(p) {
			t.Errorf("%q is no performance data", p)
		}
	}
	want := "members=3;;;0;3 spare=1 lag_pg2=0B;16777216;67108864;0 lag_pg3=0B;16777216;67108864;0 disk_free_pg1=60%;20:;10:;0;100 connections_pg1=21%;80;95;0;100"
	if got := strings.Join(v.Perf[:6], " "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	few := bounds
	few.StatusOnly = true
	if v := doctor.Judge(healthy(), few); v.State != doctor.StateOK || len(v.Perf) != 4 {
		t.Errorf("with the status alone: %s", v.Line())
	}
}
