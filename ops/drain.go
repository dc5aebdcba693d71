package ops

import (
	"context"
	"slices"
	"strings"

	"standfast/api"
	"standfast/config"
)

// Drain keeps new sessions for reading away from a member, or no longer; those that are there go on. It reports whether that is news.
func (c *Cluster) Drain(ctx context.Context, name string, on, dryRun bool, progress func(api.Progress)) (changed bool, err error) {
	st, err := c.look(ctx)
	if err != nil {
		return false, err
	}
	m := st.Member(name)
	if on && m == nil {
		return false, refuse("there is no member %s; there are %s", name, strings.Join(Names(st), ", "))
	}
	if on && m.Role == api.Witness {
		return false, refuse("%s is a witness: no session goes there", name)
	}
	was, err := c.Agreed(ctx)
	if err != nil {
		return false, err
	}
	now, err := config.ParseCluster("the agreed configuration", []byte(was.YAML))
	if err != nil {
		return false, err
	}
	next := drained(now.Drained, name, on)
	if slices.Equal(next, now.Drained) {
		return false, nil
	}
	value := ""
	if len(next) > 0 {
		value = "[" + strings.Join(next, ", ") + "]"
	}
	_, err = c.SetKeys(ctx, []config.Setting{{Key: "drained", Value: value}}, dryRun, progress)
	return err == nil, err
}

// drained is the list with the member in it or not, sorted.
func drained(was []string, name string, on bool) []string {
	next := slices.DeleteFunc(slices.Clone(was), func(m string) bool { return m == name })
	if on {
		next = append(next, name)
		slices.Sort(next)
	}
	return next
}
