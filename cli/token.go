package cli

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"standfast/api"
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
	Join     string `help:"For a host that becomes this member by it, once." placeholder:"MEMBER" xor:"whom" required:""`
	Operator string `help:"For somebody who works on the cluster from elsewhere; the log and the history name him." placeholder:"NAME" xor:"whom" required:""`
	Role     string `help:"An operator's: operate, or read: see, not change." enum:"operate,read" default:"operate"`
	For      string `help:"How long it is good, such as 12h or 90d: 1h for joining, 90d for operators unless said." placeholder:"TIME"`
	Quiet    bool   `help:"Print the token and nothing else." short:"q"`
}

func (tokenCreateCmd) Help() string {
	return `A token for joining is used on another host, once, with standfast join and the address of this one. Run this on a member, as root or as the user that standfast runs as; only this member answers for it.

An operator's token is good on every member until it is over or revoked. The operator puts it into a file of his own and names that in STANDFAST_TOKEN_FILE. It is shown once: the cluster keeps its hash.

Examples:

    sudo standfast token create --join pg2
    sudo standfast token create --operator anna
    sudo standfast token create --operator nagios --role read --for 365d`
}

func (c *tokenCreateCmd) Run(a *app) error {
	if c.Operator != "" {
		return c.forOperator(a)
	}
	good, err := c.good(time.Hour)
	if err != nil {
		return err
	}
	path, err := a.file()
	if err != nil {
		return err
	}
	n, err := a.node()
	if err != nil {
		return err
	}
	token, err := invite(path, n, c.Join, good)
	if err != nil {
		return err
	}
	if c.Quiet {
		_, err = fmt.Fprintln(a.stdout, token)
		return err
	}
	fmt.Fprintf(a.stdout, "within %s, as root; it asks for the token:\n", short(good))
	printInvitation(a, n, token)
	return nil
}

// good is how long the token is good. Days are what people say for such times.
func (c *tokenCreateCmd) good(otherwise time.Duration) (time.Duration, error) {
	if c.For == "" {
		return otherwise, nil
	}
	d, err := time.ParseDuration(c.For)
	if days, ok := strings.CutSuffix(c.For, "d"); ok {
		var n int
		n, err = strconv.Atoi(days)
		d = time.Duration(min(n, 36500)) * 24 * time.Hour
	}
	if err != nil || d <= 0 {
		return 0, usage("--for %s: give a time above 0, such as 1h or 90d", c.For)
	}
	return d, nil
}

func (c *tokenCreateCmd) forOperator(a *app) error {
	good, err := c.good(90 * 24 * time.Hour)
	if err != nil {
		return err
	}
	cl, err := a.connect()
	if err != nil {
		return err
	}
	defer cl.Close()
	token, g, err := cl.CreateToken(a.ctx, c.Operator, api.Access(c.Role), good)
	if err != nil {
		return err
	}
	if c.Quiet {
		_, err = fmt.Fprintln(a.stdout, token)
		return err
	}
	fmt.Fprintf(a.stdout, "%s\n", token)
	fmt.Fprintf(a.stderr, "the token of %s, good until %s; it is not shown again\nto take it back: standfast token revoke %s\n", g.Operator, g.Expires.Local().Format("2006-01-02 15:04"), g.ID)
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
	return "Those of operators, which all members know, and this member's own for joining. The tokens themselves are not kept, so they can't be shown.\n\nExample:\n\n    sudo standfast token list"
}

// shownToken is one line of the list.
type shownToken struct{ id, whom, role, until, by string }

func (*tokenListCmd) Run(a *app) error {
	n, err := a.node()
	if err != nil {
		return err
	}
	invitations, err := node.InvitationsIn(n.StateDir).List(time.Now())
	if err != nil && !errors.Is(err, os.ErrPermission) {
		return usage("%w; %s", err, runElse)
	}
	const layout = "2006-01-02 15:04:05"
	var all []shownToken
	grants, gerr := operatorTokens(a)
	for _, g := range grants {
		until := g.Expires.Local().Format(layout)
		if !g.Expires.After(time.Now()) {
			until += " (over)"
		}
		all = append(all, shownToken{g.ID, g.Operator, string(g.Role), until, g.By})
	}
	for _, i := range invitations {
		all = append(all, shownToken{i.ID, "join " + i.Member, "once", i.Expires.Local().Format(layout), ""})
	}
	if gerr != nil {
		fmt.Fprintf(a.stderr, "those of operators are not known: %v\n", gerr)
	}
	if err != nil {
		fmt.Fprintf(a.stderr, "those for joining are not known: %v; %s\n", err, runElse)
	}
	if len(all) == 0 {
		_, err = fmt.Fprintln(a.stdout, "there is none")
		return err
	}
	get := func(f func(shownToken) string) []string {
		var out []string
		for _, t := range all {
			out = append(out, f(t))
		}
		return out
	}
	writeTable(a.stdout, a.out, []column{
		{head: "ID", cells: get(func(t shownToken) string { return t.id })},
		{head: "FOR", cells: get(func(t shownToken) string { return t.whom })},
		{head: "ROLE", cells: get(func(t shownToken) string { return t.role })},
		{head: "UNTIL", cells: get(func(t shownToken) string { return t.until })},
		{head: "MADE BY", cells: get(func(t shownToken) string { return t.by })},
	}, len(all))
	return nil
}

func operatorTokens(a *app) ([]api.Grant, error) {
	cl, err := a.connect()
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	return cl.Tokens(a.ctx)
}

type tokenRevokeCmd struct {
	ID string `arg:"" help:"As standfast token list shows it."`
}

func (tokenRevokeCmd) Help() string {
	return "An operator's is refused by every member from then on; a host that has joined by one stays a member.\n\nExamples:\n\n    sudo standfast token revoke op-q3ktz5xa\n    sudo standfast token revoke q3ktz5xa"
}

func (c *tokenRevokeCmd) Run(a *app) error {
	n, err := a.node()
	if err != nil {
		return err
	}
	if api.IsGrant(c.ID) {
		return c.operators(a)
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

func (c *tokenRevokeCmd) operators(a *app) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	defer cl.Close()
	if err := cl.RevokeToken(a.ctx, c.ID); err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.stdout, "%s is of no use any more\n", c.ID)
	return err
}
