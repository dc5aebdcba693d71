// Package restore makes the first member of a new cluster of a backup: its data is put into place, recovered to a moment, and marked as what
// the cluster begins with. Everything is done while no member runs; the other hosts then clone from this one as in any new cluster.
//
// The new cluster has the old one's system identifier, for PostgreSQL's data keeps it. So that the two never mix, it needs a certificate
// authority of its own (no old member is let in, or lets in), the data gets a word that tells it from the old members' data, its
// timelines are above all that are known of, and so are its terms.
package restore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"standfast/cluster"
	"standfast/config"
	"standfast/ops"
	"standfast/ops/backup"
	"standfast/ops/founding"
	"standfast/postgres"
)

// Order is a restore to be made on this host.
type Order struct {
	Node      config.Node       // of the new cluster's member here
	BinDir    string            // PostgreSQL's programs
	Major     int               // their version
	Authority string            // fingerprint of the new cluster's authority
	Set       *backup.Set       // the backup; nil: Fetch brings the data
	Fetch     string            // command that fills the directory named by PGDATA
	Output    io.Writer         // of Fetch
	Recovery  postgres.Recovery // to where
	Step      func(text string) // told what begins
	Copied    backup.Progress
	Now       func() time.Time
}

// Result is what a restore has made.
type Result struct {
	postgres.Recovered
	From string
}

// from says what the data is made of.
func (o Order) from() string {
	if o.Set != nil {
		return "backup " + filepath.Base(o.Set.Path) + " of cluster " + o.Set.Cluster
	}
	return "what " + strings.Fields(o.Fetch)[0] + " restored"
}

// Check refuses what would mix clusters or lose data. It changes nothing.
func (o Order) Check() error {
	n := o.Node
	me := n.Member()
	switch {
	case n.Join:
		return refuse("%s is to join a cluster (join: true): a restore makes the first member of a new one", n.Name)
	case !me.Electable():
		return refuse("%s is a witness or has priority 0: restore on a member that may be primary", n.Name)
	case o.Set != nil && o.Set.Authority == o.Authority:
		return refuse("the files here are those of the cluster that the backup is of (the certificate authority is the same): its members could mix with the new ones. Make the new cluster's files with standfast init, or deploy from an empty directory")
	case o.Set != nil && o.Set.Postgres != o.Major:
		return refuse("the backup is of PostgreSQL %d, and the programs in %s are version %d: install that version, or name it as postgres.bin_dir", o.Set.Postgres, o.BinDir, o.Major)
	}
	for _, used := range []string{"promise.json", "etcd"} {
		path := filepath.Join(n.StateDir, used)
		if _, err := os.Lstat(path); err == nil {
			return refuse("%s is there: this host has run as a member of a cluster. Move %s away", path, n.StateDir)
		}
	}
	err := postgres.New(o.server()).Vacant()
	if errors.Is(err, postgres.ErrOccupied) {
		return refuse("%w: move what is in it away; nothing is restored over it", err)
	}
	return err
}

func refuse(format string, args ...any) error {
	return &ops.Refused{Reason: fmt.Errorf(format, args...).Error()}
}

// server describes the server whose data is made, as its member will run it.
func (o Order) server() postgres.Config {
	n := o.Node
	params := map[string]string{}
	for k, v := range n.Bootstrap.PostgreSQL.Parameters {
		params[k] = string(v)
	}
	var members []string
	for _, m := range n.Founders() {
		if m.Kind == cluster.Data {
			members = append(members, m.Name)
		}
	}
	run := filepath.Join(n.StateDir, "run")
	return postgres.Config{
		Name: n.Name, BinDir: o.BinDir, DataDir: n.Postgres.DataDir, WALDir: n.Postgres.WALDir, SocketDir: run, RelayDir: run,
		RelayPort: n.Self().Ports.Postgres, Port: n.Self().Ports.Postgres, Members: members, Parameters: params,
		LogFile: filepath.Join(n.StateDir, "log", "postgresql.log"), PasswordDir: filepath.Join(n.StateDir, "passwords"),
	}
}

// Run restores. What was begun and did not end is begun anew by the next Run; until it has ended no member takes the data for data.
func (o Order) Run(ctx context.Context) (Result, error) {
	if err := o.Check(); err != nil {
		return Result{}, err
	}
	c := o.server()
	for _, dir := range []string{o.Node.StateDir, filepath.Dir(c.LogFile), c.PasswordDir, filepath.Dir(c.DataDir)} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return Result{}, fmt.Errorf("restore: %w", err)
		}
	}
	if err := founding.RemoveSeed(o.Node.StateDir); err != nil {
		return Result{}, err
	}
	s := postgres.New(c)
	defer s.Close(context.WithoutCancel(ctx))
	if err := s.BeginRestore(ctx); err != nil {
		return Result{}, err
	}
	if err := o.bring(ctx, c.DataDir); err != nil {
		return Result{}, fmt.Errorf("restore: %w", err)
	}
	o.Step("recovering")
	r := o.Recovery
	if o.Set != nil {
		r.Above = max(r.Above, o.Set.Timeline)
	}
	done, err := s.Recover(ctx, r, func(said string) { o.Step("recovering: " + said) })
	if err != nil {
		return Result{}, err
	}
	seed := founding.Seed{SystemID: done.SystemID, Term: done.Term, Timeline: done.Timeline, From: o.from(), Made: o.Now().UTC().Truncate(time.Second)}
	if o.Set != nil {
		seed.Term = max(seed.Term, o.Set.Term)
	}
	if err := seed.Write(o.Node.StateDir); err != nil {
		return Result{}, err
	}
	return Result{Recovered: done, From: o.from()}, nil
}

// bring puts the data into its place.
func (o Order) bring(ctx context.Context, dataDir string) error {
	if o.Set != nil {
		o.Step("unpacking " + filepath.Base(o.Set.Path))
		return o.Set.Unpack(ctx, dataDir, o.Copied)
	}
	o.Step("fetching the data: " + o.Fetch)
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", o.Fetch)
	cmd.Env = append(os.Environ(), "PGDATA="+dataDir)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dataDir, o.Output, o.Output
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("the command that fetches the data: %w", err)
	}
	return o.consistent(dataDir)
}

// consistent refuses data that nothing says where to begin the recovery of: a copy of a running server's files, for example.
func (o Order) consistent(dataDir string) error {
	major, err := os.ReadFile(filepath.Join(dataDir, "PG_VERSION"))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the command has brought no PostgreSQL data to %s (in its environment as PGDATA)", dataDir)
	}
	if err != nil {
		return err
	}
	if v := strings.TrimSpace(string(major)); v != fmt.Sprint(o.Major) {
		return fmt.Errorf("the data is PostgreSQL %s's, and the programs in %s are version %d: name those of %s as postgres.bin_dir", v, o.BinDir, o.Major, v)
	}
	if _, err := os.Stat(filepath.Join(dataDir, "backup_label")); err != nil {
		return fmt.Errorf("the data is no base backup: it has no backup_label, so nothing says from where on it has to be recovered")
	}
	return nil
}

// Plan says what Run would do.
func (o Order) Plan() string {
	to := "to the end of the WAL that is there"
	switch r := o.Recovery; {
	case r.Time != "":
		to = "to " + r.Time
	case r.LSN != 0:
		to = "to " + r.LSN.String()
	case r.TargetName != "":
		to = "to restore point " + r.TargetName
	}
	wal := "the WAL in the backup alone"
	if o.Recovery.Command != "" {
		wal = "WAL by " + o.Recovery.Command
	}
	return fmt.Sprintf("%s would be put into %s, recovered %s with %s, and become the first data of cluster %s on %s", o.from(), o.Node.Postgres.DataDir, to, wal, o.Node.Cluster, o.Node.Name)
}
