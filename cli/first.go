package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"standfast/config"
	"standfast/join"
	"standfast/ops/founding"
)

// first sets up the host that it runs on as one of the members, and invites the others.
func (c *initCmd) first(a *app, spec founding.Spec) error {
	if c.For <= 0 {
		return usage("--for %s: give a time above 0, such as 1h", c.For)
	}
	name, err := c.self(spec.Members)
	if err != nil {
		return err
	}
	dir := home(c.Out)
	if err := vacant(dir); err != nil {
		return err
	}
	spec.Settings = append(within(dir), spec.Settings...)
	n, err := c.writeFirst(name, dir, spec)
	if err != nil {
		return err
	}
	var tokens []join.Token
	for _, m := range spec.Members {
		if m.Name == name {
			continue
		}
		t, err := invite(filepath.Join(dir, founding.FileName), n, m.Name, c.For)
		if err != nil {
			return err
		}
		tokens = append(tokens, t)
	}
	started, err := c.settle(a, dir, n)
	if err != nil {
		return err
	}
	fmt.Fprintf(a.stdout, "this host is %s of the new cluster %s; its files are in %s\n", n.Name, n.Cluster, dir)
	if started {
		fmt.Fprintln(a.stdout, "standfast runs, and waits for the others")
	} else {
		runNext(a, dir, n)
	}
	if len(tokens) == 0 {
		return nil
	}
	fmt.Fprintf(a.stdout, "then on the other hosts, within %s, as root; each asks for its token, which is good once:\n", short(c.For))
	for _, t := range tokens {
		printInvitation(a, n, t)
	}
	_, err = fmt.Fprintln(a.stdout, "a new token, should one be lost: standfast token create --join MEMBER")
	return err
}

// writeFirst writes the directory; after a failure nothing of it is left.
func (c *initCmd) writeFirst(name, dir string, spec founding.Spec) (config.Node, error) {
	if err := runAs((&joinCmd{Set: c.Set}).runAsSetting()); err != nil {
		return config.Node{}, err
	}
	if _, err := spec.WriteFirst(name, dir, time.Now()); err != nil {
		wrong := true // with the words of the command: nothing was written
		for _, f := range memberFiles {
			path := filepath.Join(dir, f) // vacant found none of them
			if _, serr := os.Lstat(path); serr == nil {
				wrong, err = false, errors.Join(err, os.RemoveAll(path))
			}
		}
		if wrong {
			return config.Node{}, &usageError{err}
		}
		return config.Node{}, fmt.Errorf("%w; %s was cleared again", err, dir)
	}
	return config.LoadNode(filepath.Join(dir, founding.FileName), nil, nil)
}

// self finds out which of the members this host is.
func (c *initCmd) self(members []config.Member) (string, error) {
	var here, names []string
	for _, m := range members {
		names = append(names, m.Name)
		if m.Name == c.As {
			return m.Name, nil
		}
		if is, err := isHere(m.Address); err == nil && is {
			here = append(here, m.Name)
		}
	}
	switch {
	case c.As != "":
		return "", usage("--as %s: there is no such member; there are %s", c.As, strings.Join(names, ", "))
	case len(here) == 1:
		return here[0], nil
	case len(here) == 0:
		return "", usage("none of the members has an address of this host; say which one it is with --as, such as --as %s", names[0])
	}
	return "", usage("%s all have addresses of this host; say which one it is with --as", strings.Join(here, ", "))
}
