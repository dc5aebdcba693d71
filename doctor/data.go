package doctor

import (
	"fmt"

	"standfast/doctor/facts"
)

// Measures of transaction numbers ("Preventing Transaction ID Wraparound Failures"): there are two billion.
const (
	ageWarn     = 1_000_000_000
	ageCritical = 1_600_000_000
)

// xidAge: transaction numbers run out.
func xidAge(c *Case) []Finding {
	p := c.primaryFacts()
	if p == nil {
		return nil
	}
	var out []Finding
	for _, d := range p.Databases {
		age, what := d.Age, "transactions"
		if d.MultiAge > age {
			age, what = d.MultiAge, "multixacts"
		}
		if sev := when(age >= ageCritical, age >= ageWarn); sev != "" {
			out = append(out, one(sev, "", fmt.Sprintf("the database %s nears the end of its transaction numbers: then writing stops", d.Name), because("%d million %s since its oldest row was frozen, of about 2,000", age/1_000_000, what),
				"long-transactions, prepared-transactions and slots hold it up: end those first", "then: sudo -u postgres vacuumdb --freeze --jobs 2 -h "+c.dir()+"/run "+d.Name)...)
		}
	}
	return out
}

// checksums: pages on a disk are damaged.
func checksums(c *Case) []Finding {
	return c.each(func(name string, f *facts.Member) []Finding {
		var out []Finding
		if f.Postgres != nil {
			for _, d := range f.Postgres.Databases {
				if d.Checksum > 0 {
					out = append(out, one(Critical, name, fmt.Sprintf("pages of the database %s are damaged on its disk", d.Name), because("%d checksum failures", d.Checksum), c.damaged(name)...)...)
				}
			}
		}
		if l := logOf(f, "postgresql", "corrupt"); l != nil && len(out) == 0 {
			out = append(out, one(Critical, name, "PostgreSQL met damaged pages", because("%d lines in the last hour of its log", l.Count), c.damaged(name)...)...)
		}
		return out
	})
}

func (c *Case) damaged(name string) []string {
	if name == c.primary() {
		return []string{"standfast switchover (another copy is likely sound)", "then: sudo standfast reclone " + name, "sudo dmesg -T | tail; sudo smartctl -a /dev/…: replace the disk"}
	}
	return []string{"sudo standfast reclone " + name, "sudo dmesg -T | tail; sudo smartctl -a /dev/…: replace the disk"}
}

// noChecksums: damage would not be noticed.
func noChecksums(c *Case) []Finding {
	p := c.primaryFacts()
	if p == nil || len(p.Databases) == 0 || p.Databases[0].Checksum >= 0 {
		return nil
	}
	return one(Notice, "", "data checksums are off: damage on a disk goes unnoticed", nil, "pg_checksums --enable on one stopped member after another")
}

// collations: text was sorted by another version of the library than the one that is there.
func collations(c *Case) []Finding {
	return c.servers(func(name string, p *facts.Postgres) []Finding {
		var out []Finding
		for _, d := range p.Databases {
			if d.Collation != "" && d.Now != "" && d.Collation != d.Now {
				out = append(out, one(Warning, name, fmt.Sprintf("the database %s was made with another version of the library that sorts text: indexes may be wrong", d.Name), because("made with %s, there is %s", d.Collation, d.Now),
					"on the primary, in "+d.Name+": REINDEX DATABASE; then ALTER DATABASE "+d.Name+" REFRESH COLLATION VERSION")...)
			}
		}
		return out
	})
}

// locales: the hosts' libraries sort text differently.
func locales(c *Case) []Finding {
	by := map[string]map[string][]string{}
	c.servers(func(name string, p *facts.Postgres) []Finding {
		for _, v := range p.Locale {
			if by[v.Library] == nil {
				by[v.Library] = map[string][]string{}
			}
			by[v.Library][v.Version] = append(by[v.Library][v.Version], name)
		}
		return nil
	})
	var out []Finding
	for _, lib := range sortedKeys(by) {
		out = append(out, differ(by[lib], fmt.Sprintf("the hosts have different versions of %s: indexes on text can be wrong after a failover", lib), "bring all hosts to the same release of the distribution", "until then take the odd one out: priority 0 in its member's file")...)
	}
	return out
}
