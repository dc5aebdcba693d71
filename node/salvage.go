package node

import (
	"context"
	"fmt"
	"strings"

	"standfast/api"
	"standfast/pgconf"
	"standfast/postgres"
)

// salvage tells what this member keeps of what it discarded; nil on a witness.
func (n *Node) salvage() func(context.Context) ([]api.Salvaged, error) {
	if n.pg == nil {
		return nil
	}
	return func(ctx context.Context) ([]api.Salvaged, error) {
		found, err := n.pg.Salvage(ctx)
		if err != nil {
			return nil, err
		}
		var rels []pgconf.WALRelation
		for _, d := range found {
			for _, t := range d.Transactions {
				rels = append(rels, t.Relations...)
			}
		}
		names, err := n.pg.RelationNames(ctx, rels)
		if err != nil {
			n.log.Warn("name what was discarded", "error", err) // numbers are told instead
		}
		out := make([]api.Salvaged, 0, len(found))
		for _, d := range found {
			out = append(out, salvaged(n.cfg.Name, d, names))
		}
		return out, nil
	}
}

func salvaged(member string, d postgres.DiscardedWAL, names map[pgconf.WALRelation]string) api.Salvaged {
	s := api.Salvaged{
		Member: member, Dir: d.Dir, At: d.At, Timeline: d.Timeline, Fork: d.Fork, Files: d.Files, Bytes: d.Bytes, Partial: d.Partial,
		Transactions: []api.Discarded{}, Trouble: d.Trouble,
	}
	for _, t := range d.Transactions {
		x := api.Discarded{XID: t.XID, Committed: t.Committed, LSN: t.LSN, Own: len(t.Relations) > 0, Rows: []api.Rows{}}
		for _, r := range t.Relations {
			name := names[pgconf.WALRelation{Tablespace: r.Tablespace, Database: r.Database, Filenode: r.Filenode}]
			if name == "" {
				name = fmt.Sprintf("%d/%d/%d", r.Tablespace, r.Database, r.Filenode)
			}
			x.Own = x.Own && strings.Contains(name, ": standfast.")
			x.Rows = append(x.Rows, api.Rows{Relation: name, Inserted: r.Inserted, Updated: r.Updated, Deleted: r.Deleted, Truncated: r.Truncated})
		}
		s.Transactions = append(s.Transactions, x)
	}
	return s
}
