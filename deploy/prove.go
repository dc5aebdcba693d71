package deploy

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"standfast/api"
	"standfast/cluster"
	"standfast/config"
	"standfast/deploy/probe"
	"standfast/pgconf"
)

// prove is phase 5. It takes the primary away, so it runs by itself only where nobody can have a use for it yet.
func (s *Site) prove() phase {
	return phase{number: 5, title: "prove", checks: []check{{name: "a failover and a return under load", try: s.failover, unless: s.proven}}}
}

// The load has a schema of its own, and where there is no application a role too.
const (
	ownSchema = "standfast_validate"
	ownRole   = "standfast_validate"
)

// How long the other server may take to write, and how long tidying up may take when a run was cut short.
const (
	overTime = time.Minute
	tidyTime = 15 * time.Second
)

// proven says why phase 5 does not run by itself: it was done, the cluster is not this deployment's, or it is in use.
func (s *Site) proven(ctx context.Context, dry bool) (string, error) {
	d := secretsDir{s.Deployment}
	if len(s.data()) < 2 {
		return "there is one PostgreSQL only", nil
	}
	made, err := exists(filepath.Join(d.ca(), "ca.crt"))
	if err != nil || !made {
		return "", err
	}
	if unproven, err := exists(d.unproven()); err != nil || !unproven {
		return "not just founded; standfast validate --failover does it when you ask", err
	}
	if dry && writable(s.statuses(ctx)) != "" {
		return "", nil // there is no cluster yet, and nothing will be done
	}
	found, err := s.inUse(ctx)
	if found != "" {
		found = "the cluster holds " + found + "; standfast validate --failover does it when you ask"
	}
	return found, err
}

// inUse names something that a deployment has not made; "": there is nothing.
func (s *Site) inUse(ctx context.Context) (string, error) {
	st, err := s.await(ctx, writable)
	if err != nil {
		return "", err
	}
	known := map[string]bool{"postgres": true}
	for _, a := range s.Deployment.Applications {
		known[a.Database] = true
	}
	m := s.Machines[st.Primary]
	list, err := m.SQL(ctx, "postgres", "SELECT datname FROM pg_database WHERE NOT datistemplate AND datallowconn;")
	if err != nil {
		return "", fmt.Errorf("look for data: %w", err)
	}
	for name := range strings.Lines(list) {
		name = strings.TrimSuffix(name, "\n")
		if !known[name] {
			return "the database " + name, nil
		}
		out, err := m.SQL(ctx, name, userData)
		if err != nil {
			return "", fmt.Errorf("look for data in %s: %w", name, err)
		}
		if what := strings.TrimSpace(out); what != "" {
			return what + " in the database " + name, nil
		}
	}
	return "", nil
}

// userData names one relation or large object that is not PostgreSQL's own: those have numbers from 16384 on ("System Catalog
// Initial Data"). standfast.term is the members' own.
const userData = `SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.oid >= 16384 AND c.relkind IN ('r', 'p', 'm', 'S', 'f') AND n.nspname NOT IN ('pg_toast', '` + ownSchema + `')
 AND (n.nspname, c.relname) <> ('standfast', 'term')
 UNION ALL SELECT 'large object ' || oid FROM pg_largeobject_metadata LIMIT 1;`

// failover kills the primary's PostgreSQL under load and, when all members are whole again, hands the role back under load.
func (s *Site) failover(ctx context.Context) (text string, err error) {
	st, err := s.awaitWhole(ctx)
	switch {
	case err != nil:
		return "", err
	case len(s.data()) < 2:
		return "", errors.New("there is one PostgreSQL only: nothing to fail over to")
	case st.Paused:
		return "", errors.New("automatic failover is paused: standfast resume lets it go on")
	}
	l, err := s.prepareLoad(ctx, st.Primary)
	if err != nil {
		return "", err
	}
	text, err = s.overAndBack(ctx, l, st)
	if err = errors.Join(err, s.tidy(ctx)); err != nil {
		return "", err
	}
	if err := os.Remove(secretsDir{s.Deployment}.unproven()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	return text, nil
}

func (s *Site) overAndBack(ctx context.Context, l probe.Load, st *api.Status) (string, error) {
	first := st.Primary
	lossy := st.Commit.Durability == cluster.Async
	over, err := s.underLoad(ctx, l, first, lossy, s.Machines[first].Crash)
	if err != nil {
		return "", fmt.Errorf("failover: %w", err)
	}
	if st, err = s.awaitWhole(ctx); err != nil {
		return "", fmt.Errorf("after the failover: %w", err)
	}
	back, err := s.underLoad(ctx, l, st.Primary, lossy, func(ctx context.Context) error { return s.Machines[st.Primary].Switchover(ctx, first) })
	if err != nil {
		return "", fmt.Errorf("return: %w", err)
	}
	if st, err = s.awaitWhole(ctx); err != nil {
		return "", fmt.Errorf("after the return: %w", err)
	}
	if st.Primary != first {
		return "", fmt.Errorf("%s is primary after the return, not %s", st.Primary, first)
	}
	return fmt.Sprintf("%s; and back, %s", told(over), told(back)), nil
}

func told(w probe.Work) string {
	return fmt.Sprintf("%s to %s: writes out for %d ms, %d of %d acknowledged commits lost", w.From, w.To, w.Outage.Milliseconds(), w.Lost, w.Acknowledged)
}

// prepareLoad makes the schema that the load writes to, anew if a run before has left it.
func (s *Site) prepareLoad(ctx context.Context, primary string) (probe.Load, error) {
	l := probe.Load{Addresses: s.writeAddresses(), User: ownRole, Password: rand.Text(), Database: "postgres", Schema: ownSchema, Within: overTime}
	if len(s.Deployment.Applications) > 0 {
		app := s.Deployment.Applications[0]
		word, err := password(s.Deployment, app)
		if err != nil {
			return l, err
		}
		l.User, l.Password, l.Database = app.Role, word, app.Database
	}
	sql := s.drop()
	if l.User == ownRole {
		kept, err := verifier(l.Password)
		if err != nil {
			return l, err
		}
		sql += fmt.Sprintf(" CREATE ROLE %s LOGIN PASSWORD %s;", ownRole, pgconf.Literal(kept))
	}
	sql += fmt.Sprintf(" CREATE SCHEMA %s AUTHORIZATION %s;", ownSchema, pgconf.Identifier(l.User))
	_, err := s.Machines[primary].SQL(ctx, l.Database, sql)
	if err != nil {
		return l, fmt.Errorf("make a schema for the load in %s: %w", l.Database, err)
	}
	return l, nil
}

// drop is SQL that takes away what the load had, in its database.
func (s *Site) drop() string {
	sql := "DROP SCHEMA IF EXISTS " + ownSchema + " CASCADE;"
	if len(s.Deployment.Applications) == 0 {
		sql += " DROP ROLE IF EXISTS " + ownRole + ";"
	}
	return sql
}

// tidy drops it, in the end and when the run was cut short.
func (s *Site) tidy(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tidyTime)
	defer cancel()
	database := "postgres"
	if len(s.Deployment.Applications) > 0 {
		database = s.Deployment.Applications[0].Database
	}
	st, err := s.await(ctx, writable)
	if err == nil {
		_, err = s.Machines[st.Primary].SQL(ctx, database, s.drop())
	}
	if err != nil {
		return fmt.Errorf("drop the schema %s in %s, which another run does: %w", ownSchema, database, err)
	}
	return nil
}

// writeAddresses is where an application writes: the floating address, or every member's port where there is none.
func (s *Site) writeAddresses() (all []string) {
	for _, v := range s.Deployment.VIP {
		if v.Follows != config.FollowsStandby {
			return []string{net.JoinHostPort(v.Address, strconv.Itoa(s.Deployment.Ports.Write))}
		}
	}
	for _, h := range s.Deployment.Members {
		m := s.Deployment.Node(h.Name).Self()
		all = append(all, net.JoinHostPort(m.Address, strconv.Itoa(m.Ports.Write)))
	}
	return all
}

// underLoad strikes when the load is under way, and returns how it fared. It runs on a host that is not the primary's.
func (s *Site) underLoad(ctx context.Context, l probe.Load, primary string, lossy bool, strike func(context.Context) error) (probe.Work, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var from config.Host
	for _, h := range s.Deployment.Members {
		if h.Name != primary {
			from = h
		}
	}
	before, err := s.written(ctx, primary, l.Database)
	if err != nil {
		return probe.Work{}, err
	}
	var a probe.Answer
	var failed error
	done := make(chan struct{})
	go func() {
		defer close(done)
		a, failed = s.Machines[from.Name].Ask(ctx, probe.Request{Load: &l})
	}()
	// Nothing is struck down for a load that does not work: its own end tells why.
	ready, err := s.awaitLoad(ctx, primary, l.Database, before, done)
	if err == nil && ready {
		err = strike(ctx)
	}
	if err != nil {
		cancel()
	}
	<-done
	switch {
	case err != nil:
		return probe.Work{}, err
	case failed != nil:
		return probe.Work{}, fmt.Errorf("write from %s: %w", from.Name, failed)
	case a.Load == nil:
		return probe.Work{}, fmt.Errorf("write from %s: it tells nothing", from.Name)
	}
	return *a.Load, verdict(*a.Load, lossy)
}

// written is how large the load's table is, in bytes.
func (s *Site) written(ctx context.Context, primary, database string) (int64, error) {
	out, err := s.Machines[primary].SQL(ctx, database, "SELECT coalesce(pg_relation_size(to_regclass('"+ownSchema+".standfast_load')), 0);")
	if err != nil {
		return 0, fmt.Errorf("look at what the load has written: %w", err)
	}
	return strconv.ParseInt(strings.TrimSpace(out), 10, 64)
}

// underWay is by how much the table has grown when the load is under way: a page and the next one, some two hundred rows.
const underWay = 2 * 8192

func (s *Site) awaitLoad(ctx context.Context, primary, database string, before int64, ended <-chan struct{}) (bool, error) {
	for {
		if now, err := s.written(ctx, primary, database); err != nil || now >= before+underWay {
			return err == nil, err
		}
		select {
		case <-ended:
			return false, nil
		case <-ctx.Done():
			return false, context.Cause(ctx)
		case <-time.After(askEvery):
		}
	}
}

// verdict says what went wrong.
func verdict(w probe.Work, lossy bool) error {
	switch {
	case w.Error != "":
		return fmt.Errorf("write: %s%s", w.Error, remedy(w.Code))
	case w.Two > 0:
		return fmt.Errorf("two servers acknowledged commits at the same time (%d proofs): %s", w.Two, told(w))
	case w.Lost > 0 && !lossy:
		return fmt.Errorf("acknowledged commits are lost: %s", told(w))
	}
	return nil
}
