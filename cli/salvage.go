package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"standfast/api"
)

type salvageCmd struct {
	Member string `arg:"" optional:"" help:"Only of this member." placeholder:"MEMBER"`
	All    bool   `help:"Every transaction, also Standfast's own and those beyond the first 50."`
	Output string `help:"How to show it: text, json or yaml." short:"o" enum:"text,json,yaml" default:"text"`
}

func (salvageCmd) Help() string {
	return `When a member that was primary comes back after another was elected, what it alone had is discarded; the write-ahead log of it is kept beside its data, of the last three rewinds. This lists the transactions in it, with the time of each commit and the rows it touched.

With durability quorum none of them had been acknowledged to a client, but for those of a forced election. With async they may have been.

It needs the cluster's token: run it as root or as the user that standfast runs as.

Examples:

    standfast salvage
    standfast salvage pg1 --all
    standfast salvage -o json | jq '.[].transactions | length'`
}

func (c *salvageCmd) Run(a *app) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	defer cl.Close()
	found, failed, err := cl.Salvage(a.ctx)
	if err != nil {
		return err
	}
	for _, err := range failed {
		tellTrouble(a, "", err)
	}
	wanted := []api.Salvaged{}
	for _, s := range found {
		if c.Member == "" || s.Member == c.Member {
			wanted = append(wanted, s)
		}
	}
	switch c.Output {
	case "json":
		enc := json.NewEncoder(a.stdout)
		enc.SetIndent("", "  ")
		return enc.Encode(wanted)
	case "yaml":
		return writeYAML(a.stdout, wanted)
	}
	if len(wanted) == 0 {
		_, err := fmt.Fprintln(a.stdout, "no member that answers keeps anything that was discarded")
		return err
	}
	for i, s := range wanted {
		if i > 0 {
			fmt.Fprintln(a.stdout)
		}
		c.write(a.stdout, a.out, s)
	}
	return nil
}

// shownTransactions is how many of one rewind are shown without --all.
const shownTransactions = 50

func (c *salvageCmd) write(w io.Writer, s style, d api.Salvaged) {
	own := 0
	for _, t := range d.Transactions {
		if t.Own {
			own++
		}
	}
	theirs := len(d.Transactions) - own
	fmt.Fprintf(w, "%s: %d %s discarded at %s (timeline %d from %s on), and %d of Standfast's own\n", s.bold(d.Member), theirs,
		map[bool]string{true: "transaction", false: "transactions"}[theirs == 1], d.At.Local().Format("2006-01-02 15:04:05"), d.Timeline, d.Fork, own)
	if d.Partial {
		fmt.Fprintln(w, s.warn("  more was discarded than is kept or shown here"))
	}
	if d.Trouble != "" {
		fmt.Fprintln(w, s.warn("  not all of it could be read: "+d.Trouble))
	}
	shown := 0
	for _, t := range d.Transactions {
		if t.Own && !c.All {
			continue
		}
		if shown++; shown > shownTransactions && !c.All {
			fmt.Fprintf(w, "  … and %d more: --all shows them\n", theirs-shownTransactions)
			break
		}
		fmt.Fprintf(w, "  %s  xid %-10d %s\n", when(t.Committed), t.XID, rowsText(t.Rows))
	}
	fmt.Fprintf(w, "  kept in %s (%s); nothing needs it: once nobody looks for lost commits any more, it may be removed on %s, and goes by itself after three more rewinds\n", d.Dir, human(d.Bytes), d.Member)
}

func when(t time.Time) string {
	if t.IsZero() {
		return "at an unknown time   "
	}
	return t.Local().Format("2006-01-02 15:04:05.000")
}

func rowsText(rows []api.Rows) string {
	if len(rows) == 0 {
		return "no rows of tables"
	}
	var parts []string
	for _, r := range rows {
		var what []string
		for _, x := range []struct {
			n    int
			what string
		}{{r.Inserted, "inserted"}, {r.Updated, "updated"}, {r.Deleted, "deleted"}} {
			if x.n > 0 {
				what = append(what, fmt.Sprintf("%d %s", x.n, x.what))
			}
		}
		if r.Truncated {
			what = append(what, "truncated")
		}
		parts = append(parts, r.Relation+" "+strings.Join(what, ", "))
	}
	return strings.Join(parts, "; ")
}
