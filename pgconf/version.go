package pgconf

import (
	"fmt"
	"regexp"
	"strconv"
)

// Version is a server's version: 15.18 is {15, 18}.
type Version struct{ Major, Minor int }

// Oldest and Newest major versions that Standfast knows.
const (
	Oldest = 14
	Newest = 18
)

var versionText = regexp.MustCompile(`\(PostgreSQL\) (\d+)(?:\.(\d+))?`)

// ParseVersion reads the output of "postgres --version" or "pg_config --version", with or without a distribution's
// addition. A version before its release ("18beta1") has minor 0.
func ParseVersion(out string) (Version, error) {
	m := versionText.FindStringSubmatch(out)
	if m == nil {
		if m = regexp.MustCompile(`^PostgreSQL (\d+)(?:\.(\d+))?`).FindStringSubmatch(out); m == nil {
			return Version{}, fmt.Errorf("parse version %q: want \"(PostgreSQL) 17.2\"", out)
		}
	}
	major, err := strconv.Atoi(m[1])
	if err != nil {
		return Version{}, fmt.Errorf("parse version %q: %w", out, err)
	}
	v := Version{Major: major}
	if m[2] != "" {
		if v.Minor, err = strconv.Atoi(m[2]); err != nil {
			return Version{}, fmt.Errorf("parse version %q: %w", out, err)
		}
	}
	return v, nil
}

// VersionNum reads server_version_num: 150018 is 15.18.
func VersionNum(n int) Version { return Version{n / 10000, n % 10000} }

// String gives "15.18".
func (v Version) String() string { return fmt.Sprintf("%d.%d", v.Major, v.Minor) }
