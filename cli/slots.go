package cli

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"standfast/api"
)

type slotsCmd struct {
	List slotsListCmd `cmd:"" default:"withargs" help:"List the replication slots of all members and what each is for."`
	Drop slotsDropCmd `cmd:"" help:"Drop a slot that is nobody's of the cluster's."`
}

type slotsListCmd struct {
	All    bool   `help:"Those that members keep for one another on standbys too." short:"a"`
	Output string `help:"How to show it: text, json or yaml." short:"o" enum:"text,json,yaml" default:"text"`
}

func (slotsListCmd) Help() string {
	return `A replication slot keeps write-ahead log for whoever receives from it, also while nobody does: HELD is how much. Members' slots, and those of declared replication clients and logical subscribers, are made and moved by the members themselves, on standbys as well, so that a failover keeps them. A stranger's slot was made by hand; it is on one server only, and a failover loses it, unless it is a logical one that PostgreSQL 17 or later copies (failover = true).

The primary's slots are shown, and of standbys those that are not the members' own; --all and -o json show all. It needs the cluster's token: run it as root or as the user that standfast runs as.

Examples:

    standfast slots
    standfast slots -o json | jq '.[] | select(.for == "stranger") | .name'`
}

func (c *slotsListCmd) Run(a *app) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	defer cl.Close()
	slots, failed, err := cl.Slots(a.ctx)
	if err != nil {
		return err
	}
	for _, err := range failed {
		tellTrouble(a, "", err)
	}
	switch c.Output {
	case "json":
		enc := json.NewEncoder(a.stdout)
		enc.SetIndent("", "  ")
		return enc.Encode(append([]api.Slot{}, slots...))
	case "yaml":
		return writeYAML(a.stdout, append([]api.Slot{}, slots...))
	}
	primary := ""
	if st, _, err := cl.Status(a.ctx); err == nil {
		primary = st.Primary
	}
	shown, hidden := slots, 0
	if !c.All && primary != "" {
		shown = nil
		for _, s := range slots {
			if s.Member != primary && s.For == api.ForMember && s.Status != "lost" {
				hidden++
				continue
			}
			shown = append(shown, s)
		}
	}
	c.write(a, primary, shown, hidden)
	return nil
}

// write shows the table, and below it what is to be done about strangers' slots.
func (c *slotsListCmd) write(a *app, primary string, slots []api.Slot, hidden int) {
	s := a.out
	get := func(f func(api.Slot) string) []string {
		out := make([]string, len(slots))
		for i := range slots {
			out[i] = f(slots[i])
		}
		return out
	}
	columns := []column{
		{head: "", cells: get(func(l api.Slot) string { return mark(l.Member == primary) })},
		{head: "MEMBER", cells: get(func(l api.Slot) string { return l.Member })},
		{head: "SLOT", cells: get(func(l api.Slot) string { return l.Name })},
		{head: "KIND", drop: 2, cells: get(func(l api.Slot) string { return l.Kind })},
		{head: "ACTIVE", cells: get(activeText), paint: func(i int, t string) string {
			if slots[i].Status == "lost" {
				return s.bad(t)
			}
			return t
		}},
		{head: "HELD", right: true, cells: get(func(l api.Slot) string { return orDash(l.From != 0, human(l.Held)) })},
		{head: "FOR", cells: get(purposeText), paint: func(i int, t string) string {
			if slots[i].For == api.ForStrangers {
				return s.warn(t)
			}
			return t
		}},
		{head: "RECEIVED BY", drop: 3, cells: get(func(l api.Slot) string { return l.Client })},
	}
	if !anyText(columns[len(columns)-1].cells) {
		columns = columns[:len(columns)-1]
	}
	if len(slots) > 0 {
		writeTable(a.stdout, s, columns, len(slots))
	} else {
		fmt.Fprintln(a.stdout, "no replication slots")
	}
	if i := slices.IndexFunc(slots, func(l api.Slot) bool { return l.For == api.ForStrangers && !l.Active && !l.Failover }); i >= 0 {
		fmt.Fprintln(a.stdout, wrap("a failover does not keep a stranger's slot: declare it (docs/RECEIVERS.md, docs/LOGICAL.md), or drop it if nobody needs it:", s.width-1, ""))
		fmt.Fprintln(a.stdout, "  standfast slots drop "+slots[i].Name)
	}
	if hidden > 0 {
		fmt.Fprintln(a.stdout, s.dim(wrap(fmt.Sprintf("and %d that standbys keep for members, for when they are primary: --all shows them", hidden), s.width-1, "")))
	}
}

func activeText(l api.Slot) string {
	switch {
	case l.Status == "lost":
		return "lost"
	case l.Active:
		return "yes"
	}
	return "no"
}

// purposeText says what a slot is for.
func purposeText(l api.Slot) string {
	switch l.For {
	case api.ForMember:
		return "member " + l.Whose
	case api.ForClient:
		return "replication client"
	case api.ForLogical:
		return "logical, of " + l.Database
	case api.ForCopy:
		return "a copy of the primary's"
	case api.ForNobody:
		return "declared no longer"
	case api.ForSession:
		return "a session"
	case api.ForStrangers:
		if l.Failover {
			return "a stranger, copied"
		}
		return "a stranger"
	}
	return string(l.For)
}

type slotsDropCmd struct {
	Name   string `arg:"" help:"The slot."`
	On     string `help:"Only on this member." placeholder:"MEMBER"`
	DryRun bool   `help:"Say what would be dropped; change nothing." name:"dry-run"`
	Output string `help:"How to say what was dropped: text or json." short:"o" enum:"text,json" default:"text"`
}

func (slotsDropCmd) Help() string {
	return `Drops a slot that was made by hand, on each member that has it, so that no more write-ahead log is kept for it. Whoever received from it has to begin anew: a base backup, a new subscription.

Slots of members, of declared replication clients and of logical subscribers are refused, with what to do instead, and so is one that somebody receives from now. It needs a majority of the members: what is declared is looked up first.

Examples:

    standfast slots drop old_copy --dry-run
    standfast slots drop old_copy
    standfast slots drop old_copy --on pg2`
}

func (c *slotsDropCmd) Run(a *app) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	defer cl.Close()
	s := a.steps()
	s.show(progress("asking all members for their slots"))
	done, err := cl.DropSlot(a.ctx, c.Name, c.On, c.DryRun, nil)
	s.end()
	if err != nil {
		return err
	}
	if c.On == "" {
		for _, err := range done.Failed {
			fmt.Fprintf(a.stderr, "%s %v; the slot may be there too\n", a.err.warn("does not answer:"), err)
		}
	}
	if c.Output == "json" {
		enc := json.NewEncoder(a.stdout)
		enc.SetIndent("", "  ")
		return enc.Encode(map[string]any{"dry_run": c.DryRun, "dropped": done.Slots})
	}
	var on []string
	var held int64
	for _, l := range done.Slots {
		on, held = append(on, l.Member), held+l.Held
	}
	text := fmt.Sprintf("%s is dropped on %s; %s of WAL is kept for it no longer", c.Name, strings.Join(on, ", "), human(held))
	if c.DryRun {
		text = fmt.Sprintf("%s would be dropped on %s, and %s of WAL no longer be kept for it; nothing was changed", c.Name, strings.Join(on, ", "), human(held))
	}
	_, err = fmt.Fprintln(a.stdout, text)
	return err
}
