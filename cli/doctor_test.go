package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"standfast/doctor"
)

// night is what somebody reads at three in the morning.
var night = doctor.Report{
	Cluster: "main", Checks: 89, Members: []string{"pg1", "pg2", "pg3"}, Took: 1400 * time.Millisecond,
	Findings: []doctor.Finding{
		{Check: "agent-down", Severity: doctor.Critical, Members: []string{"pg3"}, Text: "its host does not answer: it is off, cut off, or behind a firewall",
			Evidence: []string{"10.0.0.13:8443: no answer in time: is the host up, and no firewall in between? ping it, then systemctl status standfast there", "no port of it answers pg1, pg2"},
			Fix:      []string{"ping -c 3 10.0.0.13", "switch it on or mend the network; it comes back by itself"}},
		{Check: "next-loss", Severity: doctor.Warning, Text: "if one more host fails, writing stops until one is back", Evidence: []string{"each commit is on 2 of 3 hosts; if one more host fails, writing waits"},
			Fix: []string{"bring the missing standbys back: what else is told here says which, and why"}},
		{Check: "settings-differ", Severity: doctor.Warning, Text: "work_mem differs between the hosts: after a failover PostgreSQL behaves otherwise", Evidence: []string{"a", "b", "c", "d", "e"},
			Fix: []string{`sudo -u postgres psql -h /var/lib/standfast/run -d postgres -c "alter system reset work_mem, and more that is longer than a line"`}},
		{Check: "watchdog", Severity: doctor.Notice, Members: []string{"pg1", "pg2"}, Text: "no watchdog resets the host when even the guard hangs", Fix: []string{"sudo modprobe softdog"}},
	},
	Unknown: []doctor.Gap{{Member: "pg3", What: "its host, its disks, its PostgreSQL", Why: "no answer in time"}},
}

// TestReport compares the report with testdata/report; UPDATE_REPORT=1 rewrites them, and then they want to be looked at.
func TestReport(t *testing.T) {
	for width, name := range map[int]string{80: "doctor.80.txt", 100: "doctor.100.txt"} {
		var b bytes.Buffer
		writeReport(&b, style{width: width}, night, false)
		file := filepath.Join("testdata", "report", name)
		if os.Getenv("UPDATE_REPORT") != "" {
			if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if b.String() != string(want) {
			t.Errorf("at %d columns:\n%s\nwant\n%s", width, b.String(), want)
		}
		for line := range strings.Lines(b.String()) {
			command := strings.Contains(line, "    do  sudo") // is to be copied whole
			if n := utf8.RuneCountInString(strings.TrimRight(line, "\n")); n > width-1 && !command {
				t.Errorf("at %d columns a line has %d: %s", width, n, line)
			}
		}
	}
}
