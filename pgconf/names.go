package pgconf

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"standfast/cluster"
)

// SyncNames renders a rule as the value of synchronous_standby_names. A rule that nobody can meet (more copies than
// members) names a member that nobody may be, so that every commit waits; k = 0 is the empty value, which a server takes
// only as primary.
//
// ANY counts connections, not members, so a rule is never rendered with fewer names than its number: one member's two
// connections would then meet it.
func SyncNames(r cluster.Rule) string {
	if r.K <= 0 {
		return ""
	}
	names, k := r.Of, r.K
	if r.K > len(r.Of) {
		names, k = []string{cluster.Nobody}, 1
	}
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = Identifier(n)
	}
	return fmt.Sprintf("ANY %d (%s)", k, strings.Join(quoted, ","))
}

// ParseSyncNames reads a value of synchronous_standby_names. It understands what SyncNames writes and, so that a value
// that somebody else wrote can at least be seen, the priority forms "FIRST k (…)", "k (…)" and "a, b" too: they ask for
// the same number of copies. "*" is refused, for it counts connections that belong to no member.
func ParseSyncNames(s string) (cluster.Rule, error) {
	in := strings.TrimSpace(s)
	if in == "" {
		return cluster.Rule{}, nil
	}
	k, list := 1, in
	if open := strings.IndexByte(in, '('); open >= 0 && !strings.Contains(in[:open], `"`) {
		if !strings.HasSuffix(in, ")") {
			return cluster.Rule{}, fmt.Errorf("parse synchronous_standby_names %q: no closing parenthesis", s)
		}
		f := strings.Fields(in[:open])
		if len(f) == 2 && (strings.EqualFold(f[0], "any") || strings.EqualFold(f[0], "first")) {
			f = f[1:]
		}
		if len(f) != 1 {
			return cluster.Rule{}, fmt.Errorf("parse synchronous_standby_names %q: want ANY k (names)", s)
		}
		n, err := strconv.Atoi(f[0])
		if err != nil || n < 1 {
			return cluster.Rule{}, fmt.Errorf("parse synchronous_standby_names %q: %q is not a number of copies", s, f[0])
		}
		k, list = n, in[open+1:len(in)-1]
	}
	names, err := splitNames(list)
	if err != nil {
		return cluster.Rule{}, fmt.Errorf("parse synchronous_standby_names %q: %w", s, err)
	}
	names = slices.DeleteFunc(names, func(n string) bool { return n == cluster.Nobody })
	return cluster.NewRule(k, names...), nil
}

// splitNames reads a comma-separated list of names, quoted or bare.
func splitNames(list string) ([]string, error) {
	var out []string
	for rest := list; ; {
		name, after, err := cutName(strings.TrimSpace(rest))
		if err != nil {
			return nil, err
		}
		out = append(out, name)
		if after = strings.TrimSpace(after); after == "" {
			return out, nil
		}
		if after[0] != ',' {
			return nil, fmt.Errorf("want a comma before %q", after)
		}
		rest = after[1:]
	}
}

// cutName takes one name off the front. A bare one is folded to lower case, as PostgreSQL compares without regard to it.
func cutName(s string) (name, rest string, err error) {
	if !strings.HasPrefix(s, `"`) {
		end := strings.IndexAny(s, ", \t\n")
		if end < 0 {
			end = len(s)
		}
		if end == 0 || s[:end] == "*" || strings.ContainsAny(s[:end], `"()`) {
			return "", "", fmt.Errorf("%q is not a member's name", s[:end])
		}
		return strings.ToLower(s[:end]), s[end:], nil
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		if s[i] != '"' {
			b.WriteByte(s[i])
		} else if i+1 < len(s) && s[i+1] == '"' {
			i++
			b.WriteByte('"')
		} else if b.Len() == 0 {
			return "", "", fmt.Errorf("an empty name")
		} else {
			return b.String(), s[i+1:], nil
		}
	}
	return "", "", fmt.Errorf("no closing quote in %q", s)
}
