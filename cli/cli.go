// Package cli is the command line: one file per command, its help and examples beside its code.
//
// Standard output carries what was asked for and nothing else, so that it can be piped; steps, warnings and errors go to
// standard error. Exit codes are documented at Code.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"standfast/ops/become"

	"github.com/alecthomas/kong"
)

// commands is the grammar: each command's struct lies in the file of its name.
type commands struct {
	Config  string `help:"A member's file; it names the cluster to talk to." short:"c" env:"STANDFAST_CONFIG" placeholder:"FILE"`
	NoColor bool   `help:"Plain text, as with NO_COLOR set." name:"no-color"`

	Status     statusCmd     `cmd:"" help:"Show who is primary and how every member is." group:"Look"`
	History    historyCmd    `cmd:"" help:"Show every change of primary, with reasons." group:"Look"`
	Events     eventsCmd     `cmd:"" help:"Show what happened, or follow it." group:"Look"`
	Logs       logsCmd       `cmd:"" help:"Show the logs of all members by time, or follow them." group:"Look"`
	Runbook    runbookCmd    `cmd:"" help:"Print this site's own reference card." group:"Look"`
	Whatif     whatifCmd     `cmd:"" help:"Say what a fault would lead to, without making it." group:"Look"`
	Doctor     doctorCmd     `cmd:"" help:"Look for what is wrong, and say why and what to type." group:"Look"`
	Check      checkCmd      `cmd:"" help:"One line and an exit code, for Nagios, Icinga and their like." group:"Look"`
	Salvage    salvageCmd    `cmd:"" help:"List the transactions that a member had and the cluster discarded." group:"Look"`
	Support    supportCmd    `cmd:"" name:"support-bundle" help:"Write one archive for somebody who is to help, without secrets." group:"Look"`
	Slots      slotsCmd      `cmd:"" help:"List the replication slots and what each is for; drop strangers' ones." group:"Look"`
	Switchover switchoverCmd `cmd:"" help:"Hand the primary's role to another member, losing nothing." group:"Change"`
	Failover   failoverCmd   `cmd:"" help:"Elect a new primary now, though the old one may live." group:"Change"`
	Promote    promoteCmd    `cmd:"" help:"Elect a primary from what is left, accepting loss." group:"Change"`
	Shutdown   shutdownCmd   `cmd:"" help:"Stop the whole cluster in order." group:"Change"`
	Recover    recoverCmd    `cmd:"" help:"Found the cluster anew from this host, after a majority was lost for good." group:"Change"`
	Pause      pauseCmd      `cmd:"" help:"Stop automatic failover for a while." group:"Change"`
	Resume     resumeCmd     `cmd:"" help:"Let automatic failover go on." group:"Change"`
	Restart    restartCmd    `cmd:"" help:"Restart PostgreSQL, one member after another." group:"Change"`
	Reclone    recloneCmd    `cmd:"" help:"Replace a member's data by a new copy of the primary's." group:"Change"`
	Conf       configCmd     `cmd:"" name:"config" help:"Show or change the agreed configuration." group:"Change"`
	Run        runCmd        `cmd:"" help:"Run this host's member." group:"Set up"`
	Node       nodeCmd       `cmd:"" help:"Stop or start this host's member; add, remove, replace members." group:"Set up"`
	Plan       planCmd       `cmd:"" help:"Look at the hosts that a cluster is to be made of; change nothing." group:"Set up"`
	Bundle     bundleCmd     `cmd:"" help:"Make one file of all that hosts without a mirror need." group:"Set up"`
	Deploy     deployCmd     `cmd:"" aliases:"apply" help:"Make a running cluster of bare hosts, over ssh." group:"Set up"`
	Adopt      adoptCmd      `cmd:"" help:"Make a cluster of PostgreSQL that runs already, over ssh, without restarting the primary." group:"Set up"`
	Validate   validateCmd   `cmd:"" help:"Prove that a deployed cluster is as it should be; on request, by a failover." group:"Set up"`
	Backup     backupCmd     `cmd:"" help:"Make, list and verify backups." group:"Change"`
	Restore    restoreCmd    `cmd:"" help:"Make the first member of a new cluster of a backup." group:"Set up"`
	Cert       certCmd       `cmd:"" help:"Show or renew the members' certificates." group:"Change"`
	Init       initCmd       `cmd:"" help:"Make a new cluster by hand: its first host, or the files of all." group:"Set up"`
	Join       joinCmd       `cmd:"" help:"Make this host a member, by a token of another one." group:"Set up"`
	Token      tokenCmd      `cmd:"" help:"Make, show and revoke tokens." group:"Set up"`
	Render     renderCmd     `cmd:"" help:"Print a configuration of HAProxy, Keepalived or PgBouncer." group:"Set up"`
	Monitoring monitoringCmd `cmd:"" help:"Print what Prometheus and Grafana need: scraping, alerts, a dashboard." group:"Set up"`
	Playground playgroundCmd `cmd:"" help:"Run a real cluster on this machine alone, to try things out." group:"Set up"`
	Completion completionCmd `cmd:"" help:"Print a completion script for your shell." group:"Set up"`
	Version    versionCmd    `cmd:"" help:"Print the version." group:"Set up"`
	Manual     manualCmd     `cmd:"" help:"Write the manual pages." hidden:""`
}

// app is what every command works with.
type app struct {
	ctx            context.Context
	stdin          io.Reader
	stdout, stderr io.Writer
	config         string // --config or STANDFAST_CONFIG; "": to be found
	out            style  // for standard output
	err            style  // for standard error
	kong           *kong.Kong
}

// Code is what a command exits with.
type Code int

// The exit codes, as "standfast --help" documents them.
const (
	OK          Code = 0 // done
	Failed      Code = 1 // it did not work
	Usage       Code = 2 // the command, a file or a value is wrong; nothing was done
	Unsafe      Code = 3 // refused, because it would be unsafe or makes no sense in the present state; nothing was done
	Unreachable Code = 4 // no member answers, or no majority
	ShutDown    Code = 6 // run: an operator has shut the whole cluster down
	Due         Code = 5 // --check: something would be changed; nothing was
	Ailing      Code = 7 // doctor: something is to be mended soon
	Acute       Code = 8 // doctor: something is to be mended now
)

const description = `One highly available PostgreSQL of three hosts.

Every command finds its cluster through a member's file: --config, else STANDFAST_CONFIG, else /etc/standfast/standfast.yml, else a playground that runs on this machine.

Exit codes: 0 done · 1 failed · 2 wrong usage or configuration · 3 refused as unsafe · 4 no member or no majority answers · 5 with --check: something would change · 6 run: the cluster was shut down · doctor: 7 mend soon, 8 mend now`

// exit carries the code out of kong, which calls it after --help.
type exit struct{ code int }

// Run carries out one command line and returns its exit code. An interrupt (Ctrl-C, SIGTERM) ends the command in order.
func Run(args []string, stdin io.Reader, stdout, stderr io.Writer) (code int) {
	if code, ok := runHidden(args, stdin, stdout, stderr); ok {
		return code
	}
	defer func() {
		switch e := recover().(type) {
		case nil:
		case exit:
			code = e.code
		default:
			panic(e)
		}
	}()
	become.Restore("standfast")
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var grammar commands
	parser, err := kong.New(&grammar, kong.Name("standfast"), kong.Description(description), kong.Writers(stdout, stderr),
		kong.Exit(func(c int) { panic(exit{c}) }), kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true, WrapUpperBound: 98}),
		kong.ExplicitGroups([]kong.Group{{Key: "Look", Title: "Look:"}, {Key: "Change", Title: "Change:"}, {Key: "Set up", Title: "Set up:"}}))
	if err != nil {
		panic(err) // the grammar itself is wrong
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	parsed, err := parser.Parse(args)
	if err != nil && args[0] == "check" { // 2 would mean that the cluster is in trouble
		return int(codeOf(unknown(stdout, errors.New(sentence(err, parsed)))))
	}
	if err != nil {
		fmt.Fprintf(stderr, "standfast: %s\n", sentence(err, parsed))
		return int(Usage)
	}
	a := &app{ctx: ctx, stdin: stdin, stdout: stdout, stderr: stderr, config: grammar.Config, kong: parser}
	a.out, a.err = styleOf(stdout, grammar.NoColor), styleOf(stderr, grammar.NoColor)
	return int(a.end(parsed.Run(a)))
}

// commandOf is the command's name with those of the commands it belongs to, as in "config set".
func commandOf(n *kong.Node) string {
	if n.Parent == nil || n.Parent.Type != kong.CommandNode {
		return n.Name
	}
	return commandOf(n.Parent) + " " + n.Name
}

// sentence adds to a mistake in the command line where to read on.
func sentence(err error, parsed *kong.Context) string {
	text := strings.ReplaceAll(err.Error(), "\n", "; ")
	if what, ok := strings.CutPrefix(text, "expected \""); ok {
		text = strings.TrimSuffix(what, "\"") + " is missing"
	}
	if flag, _, ok := strings.Cut(text, ": expected "); ok && strings.Contains(text, "got \"EOL\"") {
		text = flag + " needs a value"
	}
	var pe *kong.ParseError
	if parsed == nil && errors.As(err, &pe) {
		parsed = pe.Context
	}
	if word, ok := strings.CutPrefix(text, "unexpected argument "); ok && (parsed == nil || parsed.Selected() == nil) {
		text = "unknown command " + word
	}
	if parsed != nil && parsed.Selected() != nil {
		return fmt.Sprintf("%s (see standfast %s --help)", text, commandOf(parsed.Selected()))
	}
	return text + " (see standfast --help)"
}
