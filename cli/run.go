package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"standfast/cluster"
	"standfast/config"
	"standfast/internal/slack"
	"standfast/node"
	"standfast/ops/become"
	"standfast/ops/preflight"
	"standfast/store/embed"
)

type runCmd struct {
	Set      []string `help:"A setting over those of the file, such as log.level=debug; may be repeated." placeholder:"KEY=VALUE" sep:"none"`
	UntilEOF bool     `help:"Stop, PostgreSQL and all, when standard input ends." name:"until-eof" hidden:""`
}

func (runCmd) Help() string {
	return `Runs until it is told to stop (Ctrl-C, SIGTERM) and then leaves PostgreSQL running, to be taken over by the next start. Started by root, it becomes the user that postgres.run_as names.

Any key of the file can be set in the environment too: STANDFAST_LOG_LEVEL is log.level.

Examples:

    standfast run
    standfast run --config /srv/pg1/standfast.yml --set log.level=debug`
}

// errEOF ends a member whose playground is gone.
var errEOF = errors.New("standard input ended")

func (c *runCmd) Run(a *app) error {
	n, err := a.node(c.Set...)
	if err != nil {
		return &usageError{owned(err)}
	}
	if err := rightUser(n); err != nil {
		return err
	}
	log, err := newLog(n.Log, a.stderr)
	if err != nil {
		return err
	}
	if n.Etcd.Embedded() {
		if err := embed.AwaitOrphan(a.ctx, embed.File(n.StateDir)); err != nil {
			return err
		}
	}
	if err := node.InUse(n.StateDir); err != nil {
		return &usageError{err}
	}
	if err := free(n); err != nil {
		return &usageError{err}
	}
	ctx, stop := context.WithCancelCause(a.ctx)
	defer stop(nil)
	if c.UntilEOF {
		go func() { // it ends with the process: reading a pipe can't be cancelled
			_, _ = io.Copy(io.Discard, a.stdin)
			stop(errEOF)
		}()
	}
	_ = slack.Set(timerSlack) // without it only more processor time is used
	file, _ := a.file()       // a.node has found it
	if whole, err := filepath.Abs(file); err == nil {
		file = whole
	}
	member, err := node.New(n, log)
	if err != nil {
		return owned(err)
	}
	member.File(file)
	err = owned(member.Run(ctx))
	if errors.Is(err, node.ErrHalted) {
		log.Info("ended", "reason", err)
		return &coded{ShutDown, nil}
	}
	if errors.Is(err, node.ErrOver) {
		if err := member.StopPostgres(); err != nil {
			log.Error("stop PostgreSQL on a host that stays out", "error", err)
		}
		if member, err = node.New(n, log); err != nil {
			return owned(err)
		}
		member.File(file)
		err = owned(member.Run(ctx))
	}
	if c.UntilEOF {
		err = errors.Join(err, member.StopPostgres())
	}
	return err
}

// timerSlack is how late a member's timers may be: what the shortest waits of all, for what PostgreSQL will show in an
// election (2 ms), lose by the runtime's rounding anyway.
const timerSlack = time.Millisecond

// rightUser has root become the user that PostgreSQL is to run as, and refuses any other wrong user in one line.
func rightUser(n config.Node) error {
	if os.Geteuid() == 0 {
		return become.Named(n.Postgres.RunAs)
	}
	f, err := os.Open(n.TokenFile)
	if err == nil {
		return f.Close()
	}
	name := fmt.Sprint(os.Geteuid())
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if errors.Is(err, os.ErrPermission) && name == n.Postgres.RunAs {
		return usage("%s may not read %s; give it the files: sudo chown -R %s %s", name, n.TokenFile, name, filepath.Dir(n.TokenFile))
	}
	if errors.Is(err, os.ErrPermission) {
		return usage("%s may not read %s; run this as %s: sudo -u %s standfast run", name, n.TokenFile, n.Postgres.RunAs, n.Postgres.RunAs)
	}
	return usage("read the token that changes need: %w; standfast init makes it", err)
}

// owned adds to a refusal by the file system who was refused, and how that is mended. A file is named alone: its directory may
// be one that the system shares.
func owned(err error) error {
	var p *fs.PathError
	if !errors.Is(err, fs.ErrPermission) || !errors.As(err, &p) {
		return err
	}
	name := "user " + strconv.Itoa(os.Geteuid())
	if u, lookup := user.Current(); lookup == nil {
		name = u.Username
	}
	remedy := fmt.Sprintf("and needs the right to use %s", filepath.Dir(p.Path))
	if _, there := os.Lstat(p.Path); there == nil {
		remedy = fmt.Sprintf("to whom it has to belong: sudo chown %s %s", name, p.Path)
	} else if p.Op == "mkdir" {
		remedy = fmt.Sprintf("to whom it has to belong: sudo install -d -o %s -m 700 %s", name, p.Path)
	}
	return fmt.Errorf("%s; this runs as %s, %s", strings.TrimSuffix(err.Error(), ": "+runElse), name, remedy)
}

// free checks the member's own ports, and names who has one. PostgreSQL's is among them only while there is no data: a
// server that a run before left behind is taken over, and beside a member's data only that part waits for its port.
func free(n config.Node) error {
	p := n.Self().Ports
	ports := []int{p.Write, p.Read, p.Health, p.Admin}
	if _, err := os.Stat(filepath.Join(n.Postgres.DataDir, "PG_VERSION")); errors.Is(err, fs.ErrNotExist) && n.Self().Kind != cluster.Witness {
		ports = append(ports, p.Postgres)
	}
	if n.Etcd.Embedded() {
		ports = append(ports, p.EtcdClient, p.EtcdPeer)
	}
	all := []preflight.Endpoint{{Network: "udp", Address: n.ListenAt(p.Beat)}}
	for _, port := range ports {
		all = append(all, preflight.Endpoint{Network: "tcp", Address: n.ListenAt(port)})
	}
	return preflight.Ports(all...)
}

func newLog(l config.Log, w io.Writer) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(l.Level)); err != nil {
		return nil, fmt.Errorf("log.level: %w", err)
	}
	o := &slog.HandlerOptions{Level: level}
	if l.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, o)), nil
	}
	return slog.New(slog.NewTextHandler(w, o)), nil
}
