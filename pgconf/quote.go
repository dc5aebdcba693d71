package pgconf

import (
	"strings"
)

// Value quotes a value for a configuration file ("Setting Parameters", section "Parameter Interaction via the
// Configuration File"). A backslash starts an escape there even in quoted values, and a newline would end the line.
func Value(s string) string {
	return "'" + strings.NewReplacer("'", "''", `\`, `\\`, "\n", `\n`, "\r", `\r`).Replace(s) + "'"
}

// unvalue undoes Value. It reports false for what is not one quoted value.
func unvalue(s string) (string, bool) {
	if len(s) < 2 || s[0] != '\'' || s[len(s)-1] != '\'' {
		return "", false
	}
	var b strings.Builder
	in := s[1 : len(s)-1]
	for i := 0; i < len(in); i++ {
		switch c := in[i]; {
		case c == '\'' && (i+1 == len(in) || in[i+1] != '\''):
			return "", false
		case c == '\'':
			i++
			b.WriteByte('\'')
		case c == '\\' && i+1 == len(in):
			return "", false
		case c == '\\':
			i++
			b.WriteByte(escape(in[i]))
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), true
}

// escape gives the byte that a backslash before c stands for, as GUC_scanstr reads it (octal forms aside).
func escape(c byte) byte {
	if i := strings.IndexByte("bfnrt", c); i >= 0 {
		return "\b\f\n\r\t"[i]
	}
	return c
}

// Literal quotes a string constant for SQL. The E” form makes it independent of standard_conforming_strings.
func Literal(s string) string {
	q := "'" + strings.ReplaceAll(s, "'", "''") + "'"
	if strings.Contains(s, `\`) {
		return "E" + strings.ReplaceAll(q, `\`, `\\`)
	}
	return q
}

// Identifier quotes a name for SQL and for synchronous_standby_names.
func Identifier(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }

// Conninfo is a connection string under construction: keywords with values, in order ("Database Connection Control
// Functions", section "Keyword/Value Connection Strings").
type Conninfo [][2]string

// String quotes every value, so that no value can smuggle in a further keyword. Empty values are left out: libpq would
// take them for the default.
func (c Conninfo) String() string {
	var parts []string
	for _, kv := range c {
		if kv[1] == "" {
			continue
		}
		v := strings.NewReplacer(`\`, `\\`, "'", `\'`).Replace(kv[1])
		if v != kv[1] || strings.ContainsAny(v, " \t\n\r\v\f") {
			v = "'" + v + "'"
		}
		parts = append(parts, kv[0]+"="+v)
	}
	return strings.Join(parts, " ")
}

// SlotName gives the replication slot of a member. Slot names may hold lower-case letters, digits and underscores only
// ("pg_create_physical_replication_slot"), so everything else becomes an underscore.
func SlotName(member string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '_':
			return r
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		}
		return '_'
	}, member)
}
