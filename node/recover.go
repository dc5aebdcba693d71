package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"standfast/agent"
	"standfast/certs"
	"standfast/cluster"
	"standfast/config"
	"standfast/postgres"
	"standfast/recovery"
	"standfast/store/embed"
)

// Survey finds out what a member has and last knew, whether or not it runs. What others say is left to be filled in.
func Survey(ctx context.Context, cfg config.Node) (recovery.Situation, error) {
	s := recovery.Situation{Self: cfg.Name}
	var err error
	if s.Known, err = recovery.LoadKnown(cfg.StateDir); err != nil && !errors.Is(err, recovery.ErrNothing) {
		return s, err
	}
	promised, epoch, err := agent.Promised(cfg.StateDir, cfg.Cluster, cfg.Name)
	if err != nil {
		return s, err
	}
	if epoch >= s.Known.State.Epoch {
		s.Promised = promised
	}
	if cfg.Self().Kind == cluster.Witness {
		return s, nil
	}
	bin, _, err := postgres.FindBinDir(cfg.Postgres.BinDir)
	if err != nil {
		return s, err
	}
	cfg.Postgres.BinDir = bin
	n := &Node{cfg: cfg, log: slog.New(slog.DiscardHandler)}
	n.agreed.log, n.agreed.cfg, n.tls.files = n.log, cfg.Bootstrap, certs.In(cfg.TLSDir)
	n.members.Store(&[]cluster.Member{})
	pg := postgres.New(n.postgresConfig())
	if s.Data, s.SystemID, err = pg.Data(ctx); err != nil || s.Data != cluster.DataReady {
		return s, err
	}
	s.End, s.Committed, err = pg.WALEnd(ctx)
	return s, err
}

// BeginAnew prepares a member that does not run to found the cluster anew, and returns the files that it has written. In this order:
// the seed, the member's own file (by rewrite), the promise of the new epoch, and the old etcd set aside. Interrupted anywhere, the
// member founds nothing: its old etcd has no majority by itself, and a promise of the new epoch makes it take no part in the old one.
func BeginAnew(cfg config.Node, seed recovery.Seed, rewrite func() error) ([]string, error) {
	if err := InUse(cfg.StateDir); err != nil {
		return nil, err
	}
	if err := seed.Save(cfg.StateDir); err != nil {
		return nil, err
	}
	if err := rewrite(); err != nil {
		return nil, err
	}
	known := recovery.Known{Cluster: cfg.Cluster, State: seed.State, Members: []cluster.Member{cfg.Member()}, Config: seed.Config, Authority: seed.Authority}
	err := errors.Join(agent.Promise(cfg.StateDir, cfg.Cluster, cfg.Name, seed.State.Term, seed.State.Epoch), known.Save(cfg.StateDir))
	if err != nil {
		return nil, err
	}
	etcd := filepath.Join(cfg.StateDir, "etcd")
	if err := os.Rename(etcd, fmt.Sprintf("%s.before-%d", etcd, seed.State.Epoch)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("set the old etcd aside: %w", err)
	}
	if err := os.Remove(embed.File(cfg.StateDir)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("forget the old etcd: %w", err)
	}
	written, _ := filepath.Glob(filepath.Join(cfg.StateDir, "*.json")) // the pattern is sound
	return written, nil
}
