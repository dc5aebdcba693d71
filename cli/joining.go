package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"standfast/certs"
	"standfast/config"
	"standfast/join"
	"standfast/ops/founding"

	"golang.org/x/term"
)

// tokenVar holds the token for scripts that have no terminal and no file.
const tokenVar = "STANDFAST_JOIN_TOKEN"

type joinCmd struct {
	Address   string   `arg:"" help:"The member that made the token: host or host:port."`
	TokenFile string   `help:"The file that holds the token; - is standard input. Without it the environment's STANDFAST_JOIN_TOKEN counts, else the terminal is asked." name:"token-file" placeholder:"FILE"`
	Set       []string `help:"More of this member's file, such as postgres.bin_dir=15; may be repeated." placeholder:"KEY=VALUE" sep:"none"`
	Out       string   `help:"Where to write; without it /etc/standfast." placeholder:"DIR" type:"path"`
	Anywhere  bool     `help:"Also if this host does not have the member's address itself, as behind an address translation."`
	hostCmd   `embed:""`
}

func (joinCmd) Help() string {
	return `Makes this host the member that the token was made for (standfast init --here, standfast token create). The key of its certificate is made here and stays here. Nothing is sent before the other side has proven to be of the token's cluster.

The token is a secret: it is asked for, or read from a file, and never part of the command.

Examples:

    sudo standfast join 10.0.0.11
    sudo standfast join 10.0.0.11 --token-file /root/token
    ssh 10.0.0.11 sudo standfast token create --join pg2 --quiet | sudo standfast join 10.0.0.11 --token-file -`
}

func (c *joinCmd) Run(a *app) error {
	dir := home(c.Out)
	if err := vacant(dir); err != nil {
		return err
	}
	token, err := c.token(a)
	if err != nil {
		return err
	}
	if err := c.rightHost(a, token); err != nil {
		return err
	}
	if err := runAs(c.runAsSetting()); err != nil {
		return err
	}
	n, err := c.become(a, dir, token)
	if err != nil {
		return err
	}
	started, err := c.settle(a, dir, n)
	if err != nil {
		return fmt.Errorf("%s is a member, its files are in %s: %w", n.Name, dir, err)
	}
	fmt.Fprintf(a.stdout, "this host is %s of cluster %s; its files are in %s\n", n.Name, n.Cluster, dir)
	if started {
		_, err = fmt.Fprintln(a.stdout, "standfast runs; look at the cluster with: standfast status")
		return err
	}
	runNext(a, dir, n)
	return nil
}

// rightHost asks who the token makes of this host, and refuses if that is another one. The token stays good.
func (c *joinCmd) rightHost(a *app, token join.Token) error {
	who, err := join.Ask(a.ctx, c.Address, token, join.Question{})
	if err != nil {
		return explainJoin(err)
	}
	here, err := isHere(who.Address)
	if err == nil && !here {
		err = fmt.Errorf("%s has the address %s, which is not one of this host's: use the token of this host", who.Member, who.Address)
	}
	if err != nil && !c.Anywhere {
		return &coded{Unsafe, fmt.Errorf("%w; nothing was done, the token is still good (--anywhere joins all the same)", err)}
	}
	return nil
}

// runAsSetting is whom the member is to run as, as far as that is known beforehand.
func (c *joinCmd) runAsSetting() string {
	for _, s := range c.Set {
		if name, ok := strings.CutPrefix(s, "postgres.run_as="); ok {
			return name
		}
	}
	return config.DefaultNode().Postgres.RunAs
}

// become asks for a certificate and writes the member's directory.
func (c *joinCmd) become(a *app, dir string, token join.Token) (config.Node, error) {
	csr, key, err := certs.Request(token.Member)
	if err != nil {
		return config.Node{}, err
	}
	answer, err := join.Ask(a.ctx, c.Address, token, join.Question{CSR: string(csr)})
	if err != nil {
		return config.Node{}, explainJoin(err)
	}
	text, err := config.WithSettings(answer.Member, []byte(answer.File), append(within(dir), c.Set...))
	if err != nil {
		return config.Node{}, &usageError{fmt.Errorf("%w; the token is used up: make another with standfast token create", err)}
	}
	pair := certs.Pair{Cert: []byte(answer.Certificate), Key: key}
	if err := founding.WriteJoined(dir, []byte(answer.Authorities), pair, answer.Secret, answer.Token, text); err != nil {
		return config.Node{}, fmt.Errorf("write to %s: %w; the token is used up: make another with standfast token create", dir, err)
	}
	return config.LoadNode(filepath.Join(dir, founding.FileName), nil, nil)
}

// token reads it from where it is no part of what other users see of this process.
func (c *joinCmd) token(a *app) (join.Token, error) {
	var text []byte
	var err error
	f, isFile := a.stdin.(*os.File)
	switch {
	case c.TokenFile == "-":
		text, err = io.ReadAll(io.LimitReader(a.stdin, 4096))
	case c.TokenFile != "":
		text, err = os.ReadFile(c.TokenFile)
	case os.Getenv(tokenVar) != "":
		text = []byte(os.Getenv(tokenVar))
	case isFile && term.IsTerminal(int(f.Fd())):
		fmt.Fprint(a.stderr, "token (it is not shown): ")
		text, err = term.ReadPassword(int(f.Fd()))
		fmt.Fprintln(a.stderr)
	default:
		return join.Token{}, usage("there is no terminal to ask for the token; give a file with --token-file, or set %s", tokenVar)
	}
	if err != nil {
		return join.Token{}, usage("read the token: %w", err)
	}
	t, err := join.ParseToken(string(text))
	if err != nil {
		return t, &usageError{err}
	}
	return t, nil
}

func explainJoin(err error) error {
	if errors.Is(err, join.ErrRefused) {
		return &coded{Unsafe, err}
	}
	return &coded{Unreachable, fmt.Errorf("%w; does standfast run there, and is the port open?", err)}
}
