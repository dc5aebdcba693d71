package cli

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"standfast/api"
	"standfast/cluster"
	"standfast/config"
	"standfast/node"
	"standfast/ops"
	"standfast/ops/backup"
	"standfast/ops/restore"
	"standfast/postgres"
)

type restoreCmd struct {
	Backup     string    `arg:"" optional:"" help:"A backup, or the directory that backups are kept in: the newest that fits."`
	Fetch      string    `help:"Instead of a backup: a command that fills the directory that PGDATA names, such as pgBackRest's restore." placeholder:"COMMAND"`
	WAL        string    `help:"PostgreSQL's restore_command, for this recovery alone; without it only the WAL in the backup is used." name:"restore-command" placeholder:"COMMAND"`
	TargetTime time.Time `help:"Recover to this moment, such as 2026-03-01T14:03:00+01:00." name:"target-time" format:"2006-01-02T15:04:05Z07:00" placeholder:"TIME"`
	TargetLSN  string    `help:"Recover to this position." name:"target-lsn" placeholder:"LSN"`
	TargetName string    `help:"Recover to this restore point, of pg_create_restore_point()." name:"target-name" placeholder:"NAME"`
	Before     bool      `help:"End just before --target-time or --target-lsn, not just after."`
	Timeline   uint32    `help:"Follow this timeline; without it the newest that the backup leads to." placeholder:"N"`
	DryRun     bool      `help:"Say what would happen, change nothing." name:"dry-run"`
}

func (restoreCmd) Help() string {
	return `Run it on the host that is to be the first member of a NEW cluster, before any of its members is started. The data is put into this member's data directory, recovered, and marked as what the cluster begins with; then start the members, and the others clone from this one.

Nothing is restored over data, into a member that has run, or with the files of the cluster that the backup is of: make new ones first, with standfast init.

Examples:

    standfast restore /backup
    standfast restore /backup/main-20260301T020000Z --dry-run
    standfast restore /backup --restore-command 'cp /archive/%f %p' --target-time 2026-03-01T14:03:00+01:00
    standfast restore --fetch 'pgbackrest --stanza=main --pg1-path="$PGDATA" --type=none restore' --restore-command 'pgbackrest --stanza=main --pg1-path="$PWD" archive-get %f "%p"'`
}

func (c *restoreCmd) Run(a *app) error {
	r, err := c.target()
	if err != nil {
		return err
	}
	if (c.Backup == "") == (c.Fetch == "") {
		return usage("name a backup, or a command with --fetch: one of the two")
	}
	n, err := a.local(absent(c.Backup))
	if err != nil {
		return err
	}
	o, err := c.order(a.ctx, n, r)
	if err != nil {
		return err
	}
	if c.DryRun {
		_, err := fmt.Fprintln(a.stdout, o.Plan())
		return err
	}
	s := a.steps()
	step := ""
	o.Output = a.stderr
	o.Step = func(text string) { step = text; s.show(progress(text)) }
	o.Copied = func(done, total int64) { s.show(api.Progress{Text: step, Bytes: done, Total: total}) }
	if !a.err.terminal {
		o.Copied = every(time.Second, o.Copied)
	}
	done, err := o.Run(a.ctx)
	s.end()
	if err != nil {
		if a.ctx.Err() != nil {
			return &coded{Failed, fmt.Errorf("interrupted; what is in %s is half made, and the next restore begins anew", n.Postgres.DataDir)}
		}
		return owned(err)
	}
	return c.tell(a, o, done)
}

// absent stands for a path that is not given where an absolute one is wanted.
func absent(path string) string {
	if path == "" {
		return "/"
	}
	return path
}

func (c *restoreCmd) tell(a *app, o restore.Order, done restore.Result) error {
	until := ""
	if !done.Last.IsZero() {
		until = fmt.Sprintf(", the last transaction of %s", done.Last.Format("2006-01-02 15:04:05.000 MST"))
	}
	fmt.Fprintf(a.stdout, "restored %s: recovered to %s%s; it goes on in timeline %d\n", done.From, done.LSN, until, done.Timeline+1)
	if o.Set != nil {
		fmt.Fprintf(a.stdout, "what was agreed in the old cluster is in %s\n", filepath.Join(o.Set.Path, "cluster.yml"))
	}
	_, err := fmt.Fprintln(a.stdout, "now start the members, this one and the others: systemctl enable --now standfast (or standfast run); the others clone from this one")
	return err
}

// target reads where to recover to.
func (c *restoreCmd) target() (postgres.Recovery, error) {
	r := postgres.Recovery{Command: c.WAL, TargetName: c.TargetName, Exclusive: c.Before, Timeline: cluster.Timeline(c.Timeline)}
	given := 0
	if !c.TargetTime.IsZero() {
		given++
		r.Time = c.TargetTime.UTC().Format("2006-01-02 15:04:05.999999") + "+00"
	}
	if c.TargetLSN != "" {
		given++
		lsn, err := cluster.ParseLSN(c.TargetLSN)
		if err != nil {
			return r, usage("--target-lsn: %w", err)
		}
		r.LSN = lsn
	}
	if c.TargetName != "" {
		given++
	}
	switch {
	case given > 1:
		return r, usage("one target at most: --target-time, --target-lsn or --target-name")
	case c.Before && r.Time == "" && r.LSN == 0:
		return r, usage("--before needs --target-time or --target-lsn")
	case c.TargetTime.After(time.Now()):
		return r, usage("--target-time %s lies in the future", c.TargetTime.Format(time.RFC3339))
	}
	return r, nil
}

// order looks at everything that could speak against the restore.
func (c *restoreCmd) order(ctx context.Context, n config.Node, r postgres.Recovery) (restore.Order, error) {
	o := restore.Order{Node: n, Fetch: c.Fetch, Recovery: r, Now: time.Now}
	if err := node.InUse(n.StateDir); err != nil {
		return o, &coded{Unsafe, err}
	}
	server, major, authority, err := programs(n)
	if err != nil {
		return o, err
	}
	o.BinDir, o.Major, o.Authority = server.BinDir, major, authority
	if c.Backup != "" {
		set, err := backup.Pick(c.Backup, c.TargetTime)
		if err != nil {
			return o, usage("%w", err)
		}
		o.Set = &set
	}
	if err := o.Check(); err != nil {
		return o, err
	}
	return o, unfounded(ctx, n)
}

// unfounded refuses where the cluster that the member's file names has a primary's record already.
func unfounded(ctx context.Context, n config.Node) error {
	cl, err := ops.Connect(n)
	if err != nil {
		return err
	}
	defer cl.Close()
	for _, r := range cl.Statuses(ctx) {
		if st := r.Status; r.Err == nil && st.Term > 0 {
			return &ops.Refused{Reason: fmt.Sprintf("cluster %s runs already, in term %d (%s answers): a restore makes the first member of a new one", st.Cluster, st.Term, st.Self)}
		}
	}
	return nil
}
