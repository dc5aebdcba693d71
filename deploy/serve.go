package deploy

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"standfast/api"
	"standfast/cluster"
	"standfast/config"
	"standfast/deploy/probe"
	"standfast/pgconf"
)

// replicate is phase 3: nothing is left to do, for members find together by themselves; it is proven.
func (s *Site) replicate() phase {
	return phase{number: 3, title: "replicate", checks: []check{
		{name: "every standby streams and counts for commits", try: func(ctx context.Context) (string, error) {
			st, err := s.awaitWhole(ctx)
			if err != nil {
				return "", err
			}
			return st.Commit.Text, nil
		}},
		{name: "a commit on the primary is read on every standby", try: s.readBack},
	}}
}

// readTime is how long a commit may take to be seen on a standby.
const readTime = 10 * time.Second

// readBack commits a word that nobody could guess, looks for it on every standby, and takes it away again.
func (s *Site) readBack(ctx context.Context) (text string, err error) {
	st, err := s.await(ctx, writable)
	if err != nil {
		return "", err
	}
	primary := s.Machines[st.Primary]
	word := strings.ToLower(rand.Text())
	table := "standfast_deploy_" + word[:8]
	if _, err := primary.SQL(ctx, "postgres", fmt.Sprintf("CREATE TABLE %s AS SELECT '%s'::text AS word;", table, word)); err != nil {
		return "", fmt.Errorf("commit on %s: %w", st.Primary, err)
	}
	defer func() {
		_, derr := primary.SQL(context.WithoutCancel(ctx), "postgres", "DROP TABLE "+table+";")
		err = errors.Join(err, derr)
	}()
	var seen []string
	for _, h := range s.data() {
		if h.Name == st.Primary {
			continue
		}
		if err := s.awaitWord(ctx, h, table, word); err != nil {
			return "", err
		}
		seen = append(seen, h.Name)
	}
	return fmt.Sprintf("from %s on %s", st.Primary, strings.Join(seen, ", ")), nil
}

func (s *Site) awaitWord(ctx context.Context, h config.Host, table, word string) error {
	ctx, cancel := context.WithTimeout(ctx, readTime)
	defer cancel()
	for {
		out, err := s.Machines[h.Name].SQL(ctx, "postgres", fmt.Sprintf("SELECT word FROM %s;", table))
		if strings.TrimSpace(out) == word {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s does not show it within %s: %w", h.Name, readTime, errors.Join(err, context.Cause(ctx)))
		case <-time.After(askEvery):
		}
	}
}

// serve is phase 4: the applications have their roles, and reach the right server from other hosts.
func (s *Site) serve() phase {
	p := phase{number: 4, title: "serve"}
	for _, a := range s.Deployment.Applications {
		p.last = append(p.last, s.role(a), s.database(a))
	}
	p.checks = []check{
		{name: "health checks answer other hosts with the right role", try: s.health},
		{name: "every port leads other hosts to the right server", try: func(ctx context.Context) (string, error) { return s.patient(ctx, s.routes) }},
	}
	return p
}

// atPrimary runs SQL where writes go.
func (s *Site) atPrimary(ctx context.Context, sql string) (string, error) {
	st, err := s.await(ctx, writable)
	if err != nil {
		return "", err
	}
	out, err := s.Machines[st.Primary].SQL(ctx, "postgres", sql)
	return strings.TrimSpace(out), err
}

// ask is a question whose answer is "t"; before there is a cluster the answer is no.
func (s *Site) ask(ctx context.Context, sql string) (bool, error) {
	if writable(s.statuses(ctx)) != "" {
		return false, nil
	}
	out, err := s.atPrimary(ctx, sql)
	return out == "t", err
}

// role makes one that can log in. One that is there keeps its password.
func (s *Site) role(a config.Application) step {
	return step{
		name: "make the role " + a.Role,
		done: func(ctx context.Context) (bool, error) {
			return s.ask(ctx, fmt.Sprintf("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = %s AND rolcanlogin);", pgconf.Literal(a.Role)))
		},
		do: func(ctx context.Context) error {
			word, err := password(s.Deployment, a)
			if err != nil {
				return err
			}
			// What PostgreSQL keeps, not the password: the statement may be logged there.
			kept, err := verifier(word)
			if err != nil {
				return err
			}
			_, err = s.atPrimary(ctx, fmt.Sprintf("CREATE ROLE %s LOGIN PASSWORD %s;", pgconf.Identifier(a.Role), pgconf.Literal(kept)))
			return err
		},
	}
}

func (s *Site) database(a config.Application) step {
	return step{
		name: "make the database " + a.Database,
		done: func(ctx context.Context) (bool, error) {
			return s.ask(ctx, fmt.Sprintf("SELECT EXISTS (SELECT FROM pg_database WHERE datname = %s);", pgconf.Literal(a.Database)))
		},
		do: func(ctx context.Context) error {
			_, err := s.atPrimary(ctx, fmt.Sprintf("CREATE DATABASE %s OWNER %s;", pgconf.Identifier(a.Database), pgconf.Identifier(a.Role)))
			return err
		},
	}
}

// others calls f for every ordered pair of different hosts.
func (s *Site) others(f func(from, to config.Host) error) error {
	for _, from := range s.Deployment.Members {
		for _, to := range s.Deployment.Members {
			if from.Name != to.Name {
				if err := f(from, to); err != nil {
					return fmt.Errorf("from %s to %s: %w", from.Name, to.Name, err)
				}
			}
		}
	}
	return nil
}

func (s *Site) health(ctx context.Context) (string, error) {
	st, err := s.awaitWhole(ctx)
	if err != nil {
		return "", err
	}
	err = s.others(func(from, to config.Host) error {
		urls := []string{s.url(to.Name, "/primary"), s.url(to.Name, "/replica")}
		a, err := s.Machines[from.Name].Ask(ctx, probe.Request{Get: urls})
		if err != nil {
			return err
		}
		want := []int{503, 200}
		switch {
		case to.Name == st.Primary:
			want = []int{200, 503}
		case to.Kind == cluster.Witness:
			want = []int{503, 503}
		}
		for i, r := range a.Get {
			if r.Status != want[i] {
				return fmt.Errorf("%s gives %d %s, want %d", urls[i], r.Status, r.Error, want[i])
			}
		}
		return nil
	})
	return fmt.Sprintf("primary %s, and standbys", st.Primary), err
}

// routes logs in as the first application, with its password and with a wrong one. Without an application it only connects.
func (s *Site) routes(ctx context.Context) (string, error) {
	st, err := s.awaitWhole(ctx)
	if err != nil {
		return "", err
	}
	if len(s.Deployment.Applications) == 0 {
		return s.connect(ctx)
	}
	app := s.Deployment.Applications[0]
	word, err := password(s.Deployment, app)
	if err != nil {
		return "", err
	}
	login := func(address string, port int, word string) probe.Login {
		return probe.Login{Address: net.JoinHostPort(address, strconv.Itoa(port)), User: app.Role, Password: word, Database: app.Database, SQL: "SELECT pg_is_in_recovery()::text"}
	}
	p := s.Deployment.Ports
	err = s.others(func(from, to config.Host) error {
		ports := s.Deployment.Node(to.Name).Self().Ports
		return s.logins(ctx, from, []probe.Login{login(to.Address, ports.Write, word), login(to.Address, ports.Read, word), login(to.Address, ports.Write, word+"x")}, []string{"false", s.reads(st), "28P01"})
	})
	for _, v := range s.Deployment.VIP {
		port, want := p.Write, "false"
		if v.Follows == config.FollowsStandby {
			port, want = p.Read, s.reads(st)
		}
		for _, from := range s.Deployment.Members {
			if err == nil {
				err = s.logins(ctx, from, []probe.Login{login(v.Address, port, word)}, []string{want})
			}
		}
	}
	return fmt.Sprintf("%s logs in on %d and %d of every member and on the floating addresses; a wrong password is refused", app.Role, p.Write, p.Read), err
}

// reads is whether sessions for reading are on a standby.
func (s *Site) reads(st *api.Status) string {
	if len(s.data()) > 1 {
		return "true"
	}
	return "false"
}

func (s *Site) logins(ctx context.Context, from config.Host, list []probe.Login, want []string) error {
	a, err := s.Machines[from.Name].Ask(ctx, probe.Request{Logins: list})
	if err != nil {
		return err
	}
	for i, got := range a.Logins {
		switch {
		case want[i] == got.Code && got.Code != "": // refused, as it should be
		case got.Error != "":
			return fmt.Errorf("log in as %s on %s: %s%s", list[i].User, list[i].Address, got.Error, remedy(got.Code))
		case got.Value != want[i]:
			return fmt.Errorf("%s leads to the wrong server: pg_is_in_recovery() is %s there", list[i].Address, got.Value)
		}
	}
	return nil
}

// remedy says what to do about PostgreSQL's refusals (Appendix A, class 28).
func remedy(code string) string {
	switch code {
	case "28P01":
		return "; the role was there with another password: set it with ALTER ROLE, or put it into password_file"
	case "28000":
		return "; let it in with standfast config edit, under postgresql.hba: once a cluster is founded, that is where it is agreed"
	}
	return ""
}

func (s *Site) connect(ctx context.Context) (string, error) {
	p := s.Deployment.Ports
	err := s.others(func(from, to config.Host) error {
		ports := s.Deployment.Node(to.Name).Self().Ports
		ends := []probe.Endpoint{tcp(to.Address, ports.Write), tcp(to.Address, ports.Read)}
		for _, v := range s.Deployment.VIP {
			ends = append(ends, tcp(v.Address, p.Write))
		}
		a, err := s.Machines[from.Name].Ask(ctx, probe.Request{Dial: ends})
		if err != nil {
			return err
		}
		for e, why := range a.Dial {
			if why != "" {
				return fmt.Errorf("%s: %s", e, why)
			}
		}
		return nil
	})
	return "they accept connections; there is no application to log in as", err
}

func tcp(address string, port int) probe.Endpoint {
	return probe.Endpoint{Network: "tcp", Address: net.JoinHostPort(address, strconv.Itoa(port))}
}
