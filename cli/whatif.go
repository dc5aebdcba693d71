package cli

import (
	"encoding/json"
	"fmt"
	"strings"

	"standfast/config"
	"standfast/ops/whatif"
)

type whatifCmd struct {
	What   []string `arg:"" help:"What happens, in words." placeholder:"WHAT"`
	Output string   `help:"How to show it: text, json or yaml." short:"o" enum:"text,json,yaml" default:"text"`
}

func (whatifCmd) Help() string {
	return `Who would win, after about how long, what acknowledged commits are worth then, and what one more loss would mean. The decision core that runs on the members decides in a small simulated world that stands as the cluster does now; the cluster itself is only looked at.

Understood are: power off (or lose) MEMBER; pause MEMBER; cut MEMBER from MEMBER,…; cut off MEMBER; kill postgres on MEMBER; kill agent on MEMBER; stop etcd on MEMBER; hang disk on MEMBER; "A and B" for several at once, "then" for one after another. "primary" stands for the member that is.

It needs the cluster's token, for it reads the agreed configuration.

Examples:

    standfast whatif "power off pg2"
    standfast whatif "lose pg1 and pg2"
    standfast whatif "cut primary from pg2, pg3"
    standfast whatif "power off primary then kill postgres on pg3"`
}

func (c *whatifCmd) Run(a *app) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	defer cl.Close()
	st, _, err := cl.Status(a.ctx)
	if err != nil {
		return err
	}
	q, err := whatif.Parse(strings.Join(c.What, " "), st)
	if err != nil {
		return usage("%w", err)
	}
	agreed, err := cl.Agreed(a.ctx)
	if err != nil {
		return err
	}
	cfg, err := config.ParseCluster("the agreed configuration", []byte(agreed.YAML))
	if err != nil {
		return err
	}
	history, err := cl.History(a.ctx)
	if err != nil {
		return err
	}
	answer, err := whatif.Ask(q, st, cfg.Settings(), history)
	if err != nil {
		return &coded{code: Unsafe, err: err}
	}
	switch c.Output {
	case "json":
		enc := json.NewEncoder(a.stdout)
		enc.SetIndent("", "  ")
		return enc.Encode(answer)
	case "yaml":
		return writeYAML(a.stdout, answer)
	}
	for _, sentence := range answer.Text {
		fmt.Fprintln(a.stdout, wrap(sentence, min(a.out.width, 110), ""))
	}
	return nil
}
