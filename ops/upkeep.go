package ops

import (
	"context"
	"strings"
	"time"

	"standfast/api"
	"standfast/config"
)

// Reclone replaces a member's data by a new copy of the primary's.
func (c *Cluster) Reclone(ctx context.Context, member string, force bool, progress func(api.Progress)) error {
	st, err := c.look(ctx)
	if err != nil {
		return err
	}
	m := st.Member(member)
	switch {
	case m == nil:
		return refuse("there is no member %s; there are %s", member, strings.Join(Names(st), ", "))
	case m.Role == api.Witness:
		return refuse("%s is a witness and holds no data", member)
	case member == st.Primary:
		return refuse("%s is the primary: its data is what the others copy; switch over first", member)
	}
	return c.Client.Reinitialize(ctx, api.ReinitializeRequest{Member: member, Force: force}, progress)
}

// Pause stops automatic failover for a while (0: api.DefaultPause), Resume lets it go on.
func (c *Cluster) Pause(ctx context.Context, d time.Duration, progress func(api.Progress)) error {
	if err := c.changeable(); err != nil {
		return err
	}
	return c.Client.Pause(ctx, api.PauseRequest{For: d}, progress)
}

// Resume ends a pause.
func (c *Cluster) Resume(ctx context.Context, progress func(api.Progress)) error {
	if err := c.changeable(); err != nil {
		return err
	}
	return c.Client.Resume(ctx, progress)
}

// Shutdown stops the whole cluster in order. It returns when the primary has stopped; the others go on stopping.
func (c *Cluster) Shutdown(ctx context.Context, r api.ShutdownRequest, progress func(api.Progress)) error {
	st, err := c.look(ctx)
	if err != nil {
		return err
	}
	if st.Primary == "" {
		return refuse("nobody is primary now, so there is nothing to stop in order; wait, or see standfast status")
	}
	return c.Client.Shutdown(ctx, r, progress)
}

// Agreed returns the configuration as agreed, with its revision.
func (c *Cluster) Agreed(ctx context.Context) (api.ClusterConfig, error) {
	if err := c.changeable(); err != nil {
		return api.ClusterConfig{}, err
	}
	return c.Client.Config(ctx)
}

// SetKeys changes keys of the agreed configuration, all or none, and returns what changes. Comments stay.
func (c *Cluster) SetKeys(ctx context.Context, keys []config.Setting, dryRun bool, progress func(api.Progress)) ([]config.Change, error) {
	was, err := c.Agreed(ctx)
	if err != nil {
		return nil, err
	}
	text, err := config.SetAll([]byte(was.YAML), keys...)
	if err != nil {
		return nil, err
	}
	return c.Replace(ctx, was, text, dryRun, progress)
}

// Replace puts a new text in the place of the configuration that was read, unless somebody has changed it since. PostgreSQL's
// own refusal of a parameter is the error.
func (c *Cluster) Replace(ctx context.Context, was api.ClusterConfig, text []byte, dryRun bool, progress func(api.Progress)) ([]config.Change, error) {
	from, err := config.ParseCluster("the agreed configuration", []byte(was.YAML))
	if err != nil {
		return nil, err
	}
	to, err := config.ParseCluster("the new configuration", text)
	if err != nil {
		return nil, err
	}
	changes := config.Diff(from, to)
	if len(changes) == 0 && string(text) == was.YAML {
		return nil, nil
	}
	return changes, c.SetConfig(ctx, api.ConfigRequest{Body: text, Revision: was.Revision, DryRun: dryRun}, progress)
}
