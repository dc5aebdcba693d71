package doctor

import (
	"fmt"
	"slices"
	"time"

	"standfast/doctor/facts"
)

// Measures of disks. Those of PRODUCT.md's alerts.
const (
	diskWarn, diskCritical = 20, 7 // percent free
	inodesWarn             = 5     // percent free
	syncWarn               = 100 * time.Millisecond
	syncCritical           = time.Second
	forecast               = 24 * time.Hour
)

// diskFull: little is left on a file system of ours.
func diskFull(c *Case) []Finding {
	return c.each(func(name string, f *facts.Member) []Finding {
		var out []Finding
		for _, d := range f.Disks {
			left := percent(d.Free, d.Size)
			sev := when(left < diskCritical, left < diskWarn)
			if sev == "" || d.Size == 0 {
				continue
			}
			e := because("%s of %s left, %d %%", size(d.Free), size(d.Size), left)
			if p := f.Postgres; p != nil && slices.Contains(d.Holds, "WAL") {
				e = append(e, fmt.Sprintf("WAL takes %s of it", size(p.WAL.Size)))
			}
			out = append(out, one(sev, name, fmt.Sprintf("the disk with %s is %d %% full", list(d.Holds), 100-left), e,
				"sudo du -xh --max-depth=2 "+d.Path+" | sort -h | tail", "never delete files in pg_wal: look at slots (slot-holds-wal) and archiving (archive-fails) first")...)
		}
		return out
	})
}

// inodesFull: a file system has no room for more files.
func inodesFull(c *Case) []Finding {
	return c.each(func(name string, f *facts.Member) []Finding {
		var out []Finding
		for _, d := range f.Disks {
			if d.Inodes > 0 && percent(d.InodesFree, d.Inodes) < inodesWarn {
				out = append(out, one(Warning, name, fmt.Sprintf("the disk with %s has hardly room for more files", list(d.Holds)), because("%d of %d inodes left", d.InodesFree, d.Inodes), "df -i "+d.Path)...)
			}
		}
		return out
	})
}

// readOnly: a file system can't be written to.
func readOnly(c *Case) []Finding {
	return c.each(func(name string, f *facts.Member) []Finding {
		var out []Finding
		for _, d := range f.Disks {
			if d.ReadOnly {
				out = append(out, one(Critical, name, fmt.Sprintf("the disk with %s is read-only", list(d.Holds)), because("after an error a journal turns so by itself"), "sudo dmesg -T | grep -iE 'error|remount' | tail", "mend or replace the disk, mount it again, then the member comes back by itself")...)
			}
		}
		return out
	})
}

// slowDisk: a page takes long to get to the disk.
func slowDisk(c *Case) []Finding {
	return c.each(func(name string, f *facts.Member) []Finding {
		s := f.Sync
		if s == nil {
			return nil
		}
		if s.Error != "" {
			return one(Critical, name, "nothing can be written beside the WAL", []string{s.Error}, "df -h "+c.dir(), "sudo dmesg -T | tail")
		}
		sev := when(s.Median > syncCritical, s.Median > syncWarn)
		if sev == "" {
			return nil
		}
		return one(sev, name, "the disk with the WAL is slow: every commit waits for it", because("a page took %s to be synced (median of 3), %s at worst", span(s.Median), span(s.Worst)), "sudo iostat -x 1 3", "look for backups or other machines on the same disk")
	})
}

// walGrowth: WAL would fill the disk soon, at the pace of late.
func walGrowth(c *Case) []Finding {
	return c.each(func(name string, f *facts.Member) []Finding {
		p := f.Postgres
		if p == nil || p.WAL.Rate <= 0 {
			return nil
		}
		i := slices.IndexFunc(f.Disks, func(d facts.Disk) bool { return slices.Contains(d.Holds, "WAL") })
		if i < 0 {
			return nil
		}
		free := f.Disks[i].Free
		var why string
		switch held := unused(p); {
		case p.Archive.Mode != "off" && p.Archive.Failed > 0 && p.Archive.LastFailed.After(p.Archive.LastOK):
			why = "archiving fails, so that all WAL is kept"
		case held != "" && (p.WAL.Keep < 0 || p.WAL.Keep-p.WAL.Size > free):
			why = fmt.Sprintf("the slot %s keeps it, and max_slot_wal_keep_size does not bound it within what is free", held)
		default:
			return nil
		}
		full := time.Duration(float64(free) / p.WAL.Rate * float64(time.Second))
		if full > forecast || full < 0 {
			return nil
		}
		return one(when(full < time.Hour, true), name, fmt.Sprintf("WAL fills the disk in about %s", span(full)), append(because("%s free, %s/s of WAL on average", size(free), size(int64(p.WAL.Rate))), why),
			"mend that cause first: slot-holds-wal, archive-fails", "standfast config set postgresql.parameters.max_slot_wal_keep_size=4GB bounds what slots keep")
	})
}

// unused names a slot that keeps WAL and that nobody receives from.
func unused(p *facts.Postgres) string {
	for _, s := range p.Slots {
		if !s.Active && s.Held > 0 && s.Status != "lost" {
			return s.Name
		}
	}
	return ""
}

// walLarge: pg_wal is much larger than configured.
func walLarge(c *Case) []Finding {
	return c.servers(func(name string, p *facts.Postgres) []Finding {
		if p.WAL.MaxSize == 0 || p.WAL.Size < 4*p.WAL.MaxSize || p.WAL.Size < 4<<30 {
			return nil
		}
		return one(Warning, name, "much more WAL is kept than max_wal_size asks for", because("pg_wal has %s, max_wal_size is %s", size(p.WAL.Size), size(p.WAL.MaxSize)), "slot-holds-wal and archive-fails name the usual causes")
	})
}

// checkpoints: WAL comes so fast that checkpoints are forced.
func checkpoints(c *Case) []Finding {
	p := c.primaryFacts()
	if p == nil || p.WAL.Forced < 50 || p.WAL.Forced < 2*p.WAL.Timed {
		return nil
	}
	return one(Notice, c.primary(), "most checkpoints are forced by the amount of WAL", because("%d forced, %d by the clock", p.WAL.Forced, p.WAL.Timed), fmt.Sprintf("standfast config set postgresql.parameters.max_wal_size=%dMB", 2*p.WAL.MaxSize>>20))
}

// archiveNothing: archiving is on and stores nothing.
func archiveNothing(c *Case) []Finding {
	return c.servers(func(name string, p *facts.Postgres) []Finding {
		a := p.Archive
		if a.Mode == "off" || a.Command == "set" {
			return nil
		}
		text := "archive_mode is on and there is no archive_command: WAL piles up"
		if a.Command == "nothing" {
			text = "the archive_command succeeds and stores nothing: there is no archive to restore from"
		}
		return one(Warning, name, text, because("pg_stat_archiver counts %d segments as archived", a.Archived), "standfast config set postgresql.parameters.archive_command='…' (docs/RECEIVERS.md has the ways to keep WAL)", "or turn it off: standfast config set postgresql.parameters.archive_mode=off")
	})
}

// archiveFails: WAL can't be archived.
func archiveFails(c *Case) []Finding {
	return c.servers(func(name string, p *facts.Postgres) []Finding {
		a := p.Archive
		if a.Mode == "off" || a.Failed == 0 || !a.LastFailed.After(a.LastOK) {
			return nil
		}
		return one(when(a.Waiting > 64, true), name, "archiving fails: WAL is kept until it succeeds", because("%d failures, the last at %s; %d segments wait", a.Failed, a.LastFailed.Format(time.RFC3339), a.Waiting), "sudo grep -A2 'archive command failed' "+c.dir()+"/log/postgresql.log | tail", "mend what the command needs: the room, the mount, the credentials of the user postgres")
	})
}

// logTells are kinds of lines in PostgreSQL's log, with what they mean.
var logTells = []struct {
	kind     string
	severity Severity
	text     string
	fix      string
}{
	{"full", Critical, "PostgreSQL found no space on a disk", "df -h"},
	{"disk", Critical, "PostgreSQL met errors of a disk", "sudo dmesg -T | tail"},
	{"panic", Critical, "PostgreSQL ended itself (PANIC)", "sudo grep -B2 -A4 PANIC %s/log/postgresql.log | tail -n 20"},
	{"memory", Warning, "PostgreSQL ran out of memory", "free -h"},
	{"crash", Critical, "a process of PostgreSQL crashed", "sudo grep -A2 'terminated by signal' %s/log/postgresql.log | tail"},
}

// logErrors: PostgreSQL's log tells of what no statistic counts.
func logErrors(c *Case) []Finding {
	return c.each(func(name string, f *facts.Member) []Finding {
		var out []Finding
		for _, t := range logTells {
			if l := logOf(f, "postgresql", t.kind); l != nil {
				out = append(out, one(t.severity, name, t.text, because("%d lines in the last hour of its log, the last at %s", l.Count, l.Last.UTC().Format("15:04:05 MST")), sprintfDir(t.fix, c.dir()))...)
			}
		}
		return out
	})
}

func sprintfDir(format, dir string) string {
	if !slices.Contains([]byte(format), '%') {
		return format
	}
	return fmt.Sprintf(format, dir)
}

func logOf(f *facts.Member, name, kind string) *facts.Log {
	for i := range f.Logs {
		if f.Logs[i].Name == name && f.Logs[i].Kind == kind {
			return &f.Logs[i]
		}
	}
	return nil
}

// noBackup: neither archive nor a program that keeps backups is known.
func noBackup(c *Case) []Finding {
	p, st := c.primaryFacts(), c.status()
	if p == nil || p.Archive.Command == "set" && p.Archive.Mode != "off" || len(st.ReplicationClients) > 0 || c.Backup != "" {
		return nil
	}
	return one(Notice, "", "no backup is known: replicas copy a mistake within milliseconds", because("no archive_command and no replication client such as Barman"), "docs/RECEIVERS.md; a nightly pg_basebackup elsewhere is the least")
}
