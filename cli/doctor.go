package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"standfast/doctor"
	"standfast/doctor/collect"
	"standfast/node"
	"standfast/ops"
)

type doctorCmd struct {
	Output string   `help:"How to show it: text, json or yaml." short:"o" enum:"text,json,yaml" default:"text"`
	Only   []string `help:"Only these checks or groups, as --list names them." placeholder:"NAME,..."`
	All    bool     `help:"Show what is merely worth knowing in full too." short:"a"`
	List   bool     `help:"List all checks and what each finds; ask nobody."`
}

func (doctorCmd) Help() string {
	return `Looks at all members and their hosts at once, and says what is wrong, why, and what to type, the worst first. It changes nothing, may be run on any host, and works with members down: what it can't know stands at the end. Run it as root or as the user that Standfast runs as; others see what the status tells only.

Exit codes: 0 nothing to do · 7 something to do soon · 8 something to do now · 1, 2 as ever.

Examples:

    sudo standfast doctor
    sudo standfast doctor --only replication,disk
    sudo standfast doctor -o json | jq -r '.findings[] | .severity + " " + .text'
    standfast doctor --list`
}

func (c *doctorCmd) Run(a *app) error {
	for _, word := range c.Only {
		if !doctor.Selects(word) {
			return usage("--only %s: there is no check and no group of that name; standfast doctor --list shows all", word)
		}
	}
	if c.List {
		writeChecks(a.stdout, a.out)
		return nil
	}
	began := time.Now()
	cl, k, err := a.examine(a.ctx, collect.Options{})
	if err != nil {
		return err
	}
	defer cl.Close()
	if a.ctx.Err() != nil {
		return a.ctx.Err()
	}
	r := doctor.Examine(k, c.Only...)
	r.Took = time.Since(began)
	if err := c.write(a, r); err != nil {
		return err
	}
	switch r.Worst() {
	case doctor.Critical:
		return &coded{code: Acute}
	case doctor.Warning:
		return &coded{code: Ailing}
	}
	return nil
}

// examine asks all members for what the doctor needs.
func (a *app) examine(ctx context.Context, o collect.Options) (*ops.Cluster, *doctor.Case, error) {
	n, err := a.node()
	if err != nil {
		return nil, nil, err
	}
	cl, err := ops.Connect(n)
	if err != nil {
		return nil, nil, err
	}
	o.Node, o.Version = n, node.Version
	if err := cl.Authorized(); err != nil && o.Refused == "" {
		o.Refused = err.Error()
	}
	return cl, collect.Case(ctx, cl, o), nil
}

func (c *doctorCmd) write(a *app, r doctor.Report) error {
	switch c.Output {
	case "json":
		enc := json.NewEncoder(a.stdout)
		enc.SetIndent("", "  ")
		enc.SetEscapeHTML(false)
		return enc.Encode(r)
	case "yaml":
		return writeYAML(a.stdout, r)
	}
	writeReport(a.stdout, a.out, r, c.All)
	return nil
}

// severities are the report's sections.
var severities = []struct {
	is         doctor.Severity
	head, mark string
}{{doctor.Critical, "NOW", "✗"}, {doctor.Warning, "SOON", "!"}, {doctor.Notice, "WORTH KNOWING", "·"}}

// writeReport shows what is wrong, why and what to do; the worst first.
func writeReport(w io.Writer, s style, r doctor.Report, all bool) {
	fmt.Fprintln(w, s.bold(wrap(summary(r), s.width-1, "  ")))
	for _, v := range severities {
		if r.Count(v.is) == 0 {
			continue
		}
		paint := map[doctor.Severity]func(string) string{doctor.Critical: s.bad, doctor.Warning: s.warn, doctor.Notice: s.dim}[v.is]
		fmt.Fprintf(w, "\n%s\n", paint(v.head))
		for _, f := range r.Findings {
			if f.Severity == v.is {
				writeFinding(w, s, f, paint, v.mark, all || v.is != doctor.Notice)
			}
		}
	}
	if len(r.Unknown) > 0 {
		fmt.Fprintf(w, "\n%s\n", s.warn("NOT KNOWN"))
	}
	for _, g := range r.Unknown {
		text := "? " + g.What + " — " + g.Why
		if g.Member != "" {
			text = "? " + g.Member + ": " + g.What + " — " + g.Why
		}
		fmt.Fprintln(w, wrap(text, s.width-1, "  "))
	}
}

// summary is the first line.
func summary(r doctor.Report) string {
	name := r.Cluster
	if name == "" {
		name = "the cluster"
	}
	did := fmt.Sprintf("%d checks on %s in %.1f s", r.Checks, strings.Join(r.Members, ", "), r.Took.Seconds())
	now, soon := r.Count(doctor.Critical), r.Count(doctor.Warning)
	switch {
	case now > 0 && soon > 0:
		return fmt.Sprintf("%s: %d to mend now, %d soon · %s", name, now, soon, did)
	case now > 0:
		return fmt.Sprintf("%s: %d to mend now · %s", name, now, did)
	case soon > 0:
		return fmt.Sprintf("%s: nothing is urgent, %d to mend soon · %s", name, soon, did)
	case len(r.Unknown) > 0:
		return fmt.Sprintf("%s: nothing wrong found, but not all could be looked at · %s", name, did)
	}
	return fmt.Sprintf("%s: nothing is wrong · %s", name, did)
}

// evidence that is shown of a finding; all of it is in the JSON.
const evidenceShown = 4

func writeFinding(w io.Writer, s style, f doctor.Finding, paint func(string) string, mark string, full bool) {
	head := f.Text
	if len(f.Members) > 0 {
		head = strings.Join(f.Members, ", ") + ": " + head
	}
	fmt.Fprintln(w, paint(wrap(fmt.Sprintf("%s %s (%s)", mark, head, f.Check), s.width-1, "  ")))
	if !full {
		return
	}
	shown := f.Evidence
	if len(shown) > evidenceShown {
		shown = append(slices.Clone(shown[:evidenceShown-1]), fmt.Sprintf("and %d more: standfast doctor --only %s -o json", len(shown)-evidenceShown+1, f.Check))
	}
	for i, e := range shown {
		fmt.Fprintln(w, hang(label("why", i), e, s.width-1))
	}
	for i, step := range f.Fix {
		if copied(step) {
			fmt.Fprintln(w, label("do", i)+s.bold(step))
		} else {
			fmt.Fprintln(w, hang(label("do", i), step, s.width-1))
		}
	}
}

// copied reports whether a step is a command, which must not be broken.
func copied(step string) bool {
	return strings.Contains(step, "sudo ") || strings.ContainsAny(step, `"'|`) || strings.HasPrefix(step, "standfast ")
}

// hang wraps a text beside a prefix.
func hang(prefix, text string, width int) string {
	n := utf8.RuneCountInString(prefix)
	return prefix + strings.ReplaceAll(wrap(text, width-n, ""), "\n", "\n"+strings.Repeat(" ", n))
}

// label stands before the first line of its kind.
func label(text string, i int) string {
	if i > 0 {
		text = ""
	}
	return fmt.Sprintf("    %-4s", text)
}

func writeChecks(w io.Writer, s style) {
	for _, g := range doctor.Groups {
		fmt.Fprintln(w, s.bold(g))
		for _, k := range doctor.All {
			if k.Group == g {
				fmt.Fprintln(w, hang(fmt.Sprintf("  %-22s ", k.ID), k.Finds, s.width-1))
			}
		}
	}
}
