package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"standfast/api"
	"standfast/certs"
	"standfast/config"
	"standfast/ops/backup"
	"standfast/postgres"
)

type backupCmd struct {
	Take   backupTakeCmd   `cmd:"" default:"withargs" help:"Make a backup (the word may be left out)."`
	List   backupListCmd   `cmd:"" help:"Show the backups in a directory."`
	Verify backupVerifyCmd `cmd:"" help:"Read a backup and compare every file with its manifest."`
}

type backupTakeCmd struct {
	Dir      string `arg:"" help:"The directory that backups are kept in."`
	From     string `help:"The member to copy; without it a standby." placeholder:"MEMBER"`
	Format   string `help:"tar or plain." enum:"tar,plain" default:"tar"`
	Compress int    `help:"gzip's level for tar, 1 to 9; 0: not compressed." default:"1"`
	Keep     int    `help:"Keep so many of this cluster's backups there, the new one included; 0: all." placeholder:"N"`
	DryRun   bool   `help:"Say what would happen, change nothing." name:"dry-run"`
}

func (backupTakeCmd) Help() string {
	return `Copies a standby, so that the primary isn't burdened, with the WAL that makes the copy consistent; compares every file with the manifest; keeps the agreed configuration beside it; and only then gives it its name. A backup that is listed is whole. Run it on a host that holds data, by a timer for example; the directory should lie on another machine's disk.

The backup alone leads back to when it was made. To lead to any moment, archive WAL too: see docs/BACKUP.md.

Examples:

    standfast backup /backup
    standfast backup /backup --keep 7
    standfast backup /backup --from pg3 --format plain
    standfast backup list /backup
    standfast backup verify /backup`
}

func (c *backupTakeCmd) Run(a *app) error {
	if c.Compress < 0 || c.Compress > 9 || c.Keep < 0 {
		return usage("--compress goes from 0 to 9, --keep from 0 on")
	}
	n, err := a.local(c.Dir)
	if err != nil {
		return err
	}
	o, why, err := c.order(a, n)
	if err != nil {
		return err
	}
	if why != "" {
		fmt.Fprintln(a.stderr, a.err.warn("! "+why))
	}
	s := a.steps()
	step := ""
	o.Begins = func(text string) { step = text; s.show(progress(text)) }
	o.Copied = func(done, total int64) { s.show(api.Progress{Text: step, Bytes: done, Total: total}) }
	if !a.err.terminal {
		o.Copied = every(time.Second, o.Copied)
	}
	began := time.Now()
	set, removed, err := backup.Take(a.ctx, o)
	s.end()
	if errors.Is(err, backup.ErrBusy) {
		return &coded{Unsafe, err}
	}
	if err != nil {
		return owned(nothingLeft(a.ctx, err))
	}
	if c.DryRun {
		_, err = fmt.Fprintf(a.stdout, "%s would be copied to %s\n", o.Set.From, c.Dir)
		return err
	}
	for _, path := range removed {
		fmt.Fprintln(a.stderr, "removed "+path)
	}
	_, err = fmt.Fprintf(a.stdout, "%s: %s from %s in %s, verified\n", set.Path, human(set.Bytes), set.From, time.Since(began).Round(100*time.Millisecond))
	return err
}

// every passes on no more than one call in each span of time.
func every(span time.Duration, f backup.Progress) backup.Progress {
	last := time.Now()
	return func(done, total int64) {
		if now := time.Now(); now.Sub(last) >= span {
			last = now
			f(done, total)
		}
	}
}

// nothingLeft says that an interrupted backup has left nothing: the general sentence, that what was begun goes on, is not so here.
func nothingLeft(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return &coded{Failed, errors.New("interrupted; nothing of it is left")}
	}
	return err
}

// local reads the member's file for a command that works on this host's files and has this process become the user that they belong to.
func (a *app) local(dir string) (config.Node, error) {
	n, err := a.node()
	if err != nil {
		return n, err
	}
	if !filepath.IsAbs(dir) {
		return n, usage("give %s as an absolute path: the command becomes the user %s, elsewhere", dir, n.Postgres.RunAs)
	}
	return n, rightUser(n)
}

// order is what is known before a backup begins.
func (c *backupTakeCmd) order(a *app, n config.Node) (backup.Order, string, error) {
	var o backup.Order
	cl, err := a.connect()
	if err != nil {
		return o, "", err
	}
	defer cl.Close()
	m, st, why, err := cl.BackupSource(a.ctx, c.From)
	if err != nil {
		return o, "", err
	}
	agreed, err := cl.Config(a.ctx)
	if err != nil {
		return o, "", err
	}
	server, major, authority, err := programs(n)
	if err != nil {
		return o, "", err
	}
	from, err := postgres.ParseSource(m.Postgres)
	if err != nil {
		return o, "", err
	}
	o = backup.Order{
		Set: backup.Set{
			Cluster: st.Cluster, From: m.Name, Format: backup.Format(c.Format), Postgres: major, SystemID: st.SystemID,
			Term: st.Term, Timeline: st.Timeline, Authority: authority, Standfast: st.Version,
		},
		Config: []byte(agreed.YAML), Dir: c.Dir, Source: from, Server: server, Compress: c.Compress, Keep: c.Keep, DryRun: c.DryRun, Now: time.Now,
	}
	return o, why, nil
}

// programs are PostgreSQL's on this host, with the certificate that they log in with.
func programs(n config.Node) (c postgres.Config, major int, authority string, err error) {
	bin, major, err := postgres.FindBinDir(n.Postgres.BinDir)
	if err != nil {
		return c, 0, "", err
	}
	files := certs.In(n.TLSDir)
	ca, err := os.ReadFile(files.CA)
	if err != nil {
		return c, 0, "", fmt.Errorf("read the cluster's CA: %w", err)
	}
	pin, err := certs.PinOf(ca)
	if err != nil {
		return c, 0, "", fmt.Errorf("read the cluster's CA: %w", err)
	}
	return postgres.Config{Name: n.Name, BinDir: bin, CA: files.CA, Cert: files.Cert, Key: files.Key}, major, pin.String(), nil
}

type backupListCmd struct {
	Dir    string `arg:"" help:"The directory that backups are kept in."`
	Output string `help:"text, json or yaml." short:"o" enum:"text,json,yaml" default:"text"`
}

func (backupListCmd) Help() string {
	return `Lists whole backups only, the oldest first. UNTIL is when it had ended: with an archive of WAL, --target-time of a restore may be any moment from there on.

Examples:

    standfast backup list /backup
    standfast backup list /backup -o json`
}

func (c *backupListCmd) Run(a *app) error {
	all, err := backup.List(c.Dir)
	if err != nil {
		return usage("%w; %s", err, runElse)
	}
	switch c.Output {
	case "json":
		enc := json.NewEncoder(a.stdout)
		enc.SetIndent("", "  ")
		return enc.Encode(map[string][]backup.Set{"backups": append([]backup.Set{}, all...)})
	case "yaml":
		return writeYAML(a.stdout, map[string][]backup.Set{"backups": append([]backup.Set{}, all...)})
	}
	name, until, size := column{head: "BACKUP"}, column{head: "UNTIL (UTC)"}, column{head: "SIZE", right: true}
	from, form, tl, lsn := column{head: "FROM"}, column{head: "FORMAT"}, column{head: "TL", right: true}, column{head: "LSN"}
	for _, s := range all {
		name.cells, until.cells = append(name.cells, filepath.Base(s.Path)), append(until.cells, s.Ended.UTC().Format(time.DateTime))
		size.cells, from.cells = append(size.cells, human(s.Bytes)), append(from.cells, s.From)
		form.cells, tl.cells = append(form.cells, string(s.Format)), append(tl.cells, fmt.Sprint(s.Timeline))
		lsn.cells = append(lsn.cells, s.End.String())
	}
	if len(all) == 0 {
		fmt.Fprintln(a.stderr, "no whole backup in "+c.Dir)
		return nil
	}
	writeTable(a.stdout, a.out, []column{name, until, size, from, form, tl, lsn}, len(all))
	return nil
}

type backupVerifyCmd struct {
	Path string `arg:"" help:"A backup, or the directory that backups are kept in: the newest there."`
}

func (backupVerifyCmd) Help() string {
	return `Reads all of the backup: every file must have the size and the SHA-256 that its manifest says, and the WAL that recovery needs must be readable. That says nothing about what your application makes of it: restore one now and then.

Example:

    standfast backup verify /backup`
}

func (c *backupVerifyCmd) Run(a *app) error {
	n, err := a.local(c.Path)
	if err != nil {
		return err
	}
	server, major, _, err := programs(n)
	if err != nil {
		return err
	}
	set, err := backup.Pick(c.Path, time.Time{})
	if err != nil {
		return usage("%w", err)
	}
	if set.Postgres != major {
		return usage("%s is of PostgreSQL %d, and the programs here (%s) are version %d: set postgres.bin_dir", set.Path, set.Postgres, server.BinDir, major)
	}
	s := a.steps()
	tell := func(done, total int64) {
		s.show(api.Progress{Text: "reading " + filepath.Base(set.Path), Bytes: done, Total: total})
	}
	if !a.err.terminal {
		tell = every(time.Second, tell)
	}
	_, err = backup.Verify(a.ctx, set, server, tell)
	s.end()
	if err != nil {
		return fmt.Errorf("%s: %w", set.Path, err)
	}
	_, err = fmt.Fprintln(a.stdout, strings.TrimSuffix(set.Path, "/")+" is whole")
	return err
}
