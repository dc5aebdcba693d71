package pgconf

import (
	"fmt"
	"slices"
	"strings"
)

// Roles that Standfast makes and the maps that its pg_hba lines refer to.
const (
	ReplicationRole = "standfast_replication" // streams WAL, takes base backups; by the member's certificate only
	RewindRole      = "standfast_rewind"      // reads files for pg_rewind; by the member's certificate only
	MonitorRole     = "standfast_monitor"     // reads statistics; by password
	SyncDatabase    = "postgres"              // the one that ReplicationRole may open an ordinary session to, for logical slots
	localMap        = "standfast"
	memberMap       = "standfast_members"
)

// HBA describes a pg_hba.conf ("The pg_hba.conf File").
type HBA struct {
	Superuser string   // may log in over the Unix socket, from the operating system users of Ident
	TLS       bool     // the server has a certificate; without it no member can connect
	Open      bool     // clients are let in
	Site      []string // the site's lines, kept verbatim, after ours; in an open file only
	Receivers []string // roles that receive WAL beside the members, by password; after the site's lines, in an open file only
}

// String renders the file. Ours come first, so that no line of the site's can let anybody replicate under a member's
// name or keep the members out. A closed file ends in a refusal of everybody else.
func (h HBA) String() string {
	var b strings.Builder
	state := "closed"
	if h.Open {
		state = "open"
	}
	fmt.Fprintf(&b, "# Written by Standfast; clients: %s. Your own lines belong into the cluster's configuration (postgresql.hba).\n", state)
	w := func(f ...any) { fmt.Fprintln(&b, f...) }
	ours := ReplicationRole + "," + RewindRole
	w("local all,replication", Identifier(h.Superuser), "peer map="+localMap)
	w("local all,replication", ours, "reject")
	if h.TLS {
		w("hostssl replication,"+SyncDatabase, ReplicationRole, "all cert map="+memberMap)
		w("hostssl all", RewindRole, "all cert map="+memberMap)
	}
	w("host all,replication", ours, "all reject")
	w("local all", MonitorRole, "scram-sha-256")
	w("host all", MonitorRole, "all scram-sha-256")
	switch {
	case !h.Open:
		w("local all,replication all reject")
		w("host all,replication all all reject")
	case len(h.Site) == 0:
		w("local all all scram-sha-256")
		w("host all all all scram-sha-256")
	default:
		w("# The site's own:")
		for _, l := range h.Site {
			w(l)
		}
	}
	if h.Open {
		h.receivers(w)
	}
	return b.String()
}

// receivers lets replication clients in, from everywhere: through a router PostgreSQL sees the router's address. No line with
// "all" for a database means replication, so the site's own do not let them in by the way, and one that names
// replication comes before these.
func (h HBA) receivers(w func(...any)) {
	kind := "host"
	if h.TLS {
		kind = "hostssl"
	}
	roles := slices.Clone(h.Receivers)
	slices.Sort(roles)
	for _, r := range slices.Compact(roles) {
		w(kind, "replication", Identifier(r), "all scram-sha-256")
	}
}

// IsOpen reports whether a pg_hba.conf that HBA rendered lets clients in.
func IsOpen(hba string) bool {
	first, _, _ := strings.Cut(hba, "\n")
	return strings.Contains(first, "clients: open")
}

// Ident describes a pg_ident.conf ("User Name Maps"): which operating system users are the superuser locally, and which
// certificates' common names may replicate and rewind.
type Ident struct {
	Superuser string
	OSUsers   []string
	Members   []string
	Site      []string
}

// String renders the file: ours, then the site's lines verbatim.
func (i Ident) String() string {
	var b strings.Builder
	fmt.Fprintln(&b, "# Written by Standfast. Your own lines belong into the cluster's configuration (postgresql.ident).")
	users := slices.Clone(i.OSUsers)
	slices.Sort(users)
	for _, u := range slices.Compact(users) {
		fmt.Fprintln(&b, localMap, Identifier(u), Identifier(i.Superuser))
	}
	members := slices.Clone(i.Members)
	slices.Sort(members)
	for _, m := range slices.Compact(members) {
		fmt.Fprintln(&b, memberMap, Identifier(m), ReplicationRole)
		fmt.Fprintln(&b, memberMap, Identifier(m), RewindRole)
	}
	for _, l := range i.Site {
		fmt.Fprintln(&b, l)
	}
	return b.String()
}
