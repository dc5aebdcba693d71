package cli

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"standfast/certs"
	"standfast/config"
	"standfast/join"
	"standfast/node"
)

type tokenCmd struct {
	Create tokenCreateCmd `cmd:"" help:"Make a token."`
	List   tokenListCmd   `cmd:"" help:"Show which are good."`
	Revoke tokenRevokeCmd `cmd:"" help:"Make one useless."`
}

type tokenCreateCmd struct {
	Join  string        `help:"The member that a host becomes by it, once." required:"" placeholder:"MEMBER"`
	For   time.Duration `help:"How long it is good." default:"1h" placeholder:"TIME"`
	Quiet bool          `help:"Print the token and nothing else." short:"q"`
}

func (tokenCreateCmd) Help() string {
	return `A token for joining is used on another host, once, with standfast join and the address of this one. Run this on a member, as root or as the user that standfast runs as; only this member answers for it. Its hash is kept, not the token.

Example:

    sudo standfast token create --join pg2`
}

func (c *tokenCreateCmd) Run(a *app) error {
	if c.For <= 0 {
		return usage("--for %s: give a time above 0, such as 1h", c.For)
	}
	path, err := a.file()
	if err != nil {
		return err
	}
	n, err := a.node()
	if err != nil {
		return err
	}
	token, err := invite(path, n, c.Join, c.For)
	if err != nil {
		return err
	}
	if c.Quiet {
		_, err = fmt.Fprintln(a.stdout, token)
		return err
	}
	fmt.Fprintf(a.stdout, "within %s, as root; it asks for the token:\n", short(c.For))
	printInvitation(a, n, token)
	return nil
}

// invite makes an invitation for one of the members that a member's file names. The file of the new member is the same file.
func invite(path string, n config.Node, member string, good time.Duration) (join.Token, error) {
	var t join.Token
	if member == n.Name {
		return t, usage("%s is this host's own name; name another member", member)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return t, &usageError{explainFile(err)}
	}
	inv := join.Invitation{Member: member}
	for _, m := range n.Members {
		if m.Name == member {
			inv.Address = m.Address
		}
	}
	if inv.Address == "" {
		return t, usage("there is no member %s in %s", member, path)
	}
	file, err := config.ForMember(text, member)
	if err != nil {
		return t, err
	}
	inv.File = string(file)
	authorities, err := os.ReadFile(certs.In(n.TLSDir).CA)
	if err != nil {
		return t, usage("read the cluster's CA: %w; %s", err, runElse)
	}
	pin, err := certs.PinOf(authorities)
	if err != nil {
		return t, fmt.Errorf("read the cluster's CA: %w", err)
	}
	dir := node.InvitationsIn(n.StateDir)
	if t, err = dir.Invite(inv, pin, time.Now(), good); err != nil {
		if errors.Is(err, os.ErrPermission) {
			return t, usage("%w; %s", err, runElse)
		}
		return t, err
	}
	return t, give(n.Postgres.RunAs, string(dir))
}

// printInvitation shows what is typed on the other host, and the token that is asked for there.
func printInvitation(a *app, n config.Node, t join.Token) {
	at := n.Self().Address
	if port := strconv.Itoa(n.Self().Ports.Admin); port != join.DefaultPort {
		at = net.JoinHostPort(at, port)
	}
	fmt.Fprintf(a.stdout, "  on %s: standfast join %s\n    token: %s\n", t.Member, at, t)
}

func short(d time.Duration) string {
	if d%time.Hour == 0 {
		return fmt.Sprintf("%d h", d/time.Hour)
	}
	return d.String()
}

type tokenListCmd struct{}

func (tokenListCmd) Help() string {
	return "Those for joining are this member's own.\n\nExample:\n\n    sudo standfast token list"
}

func (*tokenListCmd) Run(a *app) error {
	n, err := a.node()
	if err != nil {
		return err
	}
	all, err := node.InvitationsIn(n.StateDir).List(time.Now())
	if err != nil {
		return usage("%w; %s", err, runElse)
	}
	if len(all) == 0 {
		_, err = fmt.Fprintln(a.stdout, "there is none")
		return err
	}
	get := func(f func(join.Invitation) string) []string {
		var out []string
		for _, i := range all {
			out = append(out, f(i))
		}
		return out
	}
	writeTable(a.stdout, a.out, []column{
		{head: "ID", cells: get(func(i join.Invitation) string { return i.ID })},
		{head: "FOR", cells: get(func(i join.Invitation) string { return "join " + i.Member })},
		{head: "UNTIL", cells: get(func(i join.Invitation) string { return i.Expires.Local().Format("2006-01-02 15:04:05") })},
	}, len(all))
	return nil
}

type tokenRevokeCmd struct {
	ID string `arg:"" help:"As standfast token list shows it."`
}

func (tokenRevokeCmd) Help() string {
	return "A host that has joined stays a member.\n\nExample:\n\n    sudo standfast token revoke q3ktz5xa"
}

func (c *tokenRevokeCmd) Run(a *app) error {
	n, err := a.node()
	if err != nil {
		return err
	}
	err = node.InvitationsIn(n.StateDir).Revoke(c.ID)
	switch {
	case errors.Is(err, join.ErrNoInvitation):
		return usage("there is no token %s: see standfast token list", filepath.Base(c.ID))
	case err != nil:
		return usage("%w; %s", err, runElse)
	}
	_, err = fmt.Fprintf(a.stdout, "%s is of no use any more\n", c.ID)
	return err
}
