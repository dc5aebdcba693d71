package cli

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/alecthomas/kong"
)

// manualCmd writes the manual pages, for packages: one of the program, one of each command.
type manualCmd struct {
	Dir string `arg:"" help:"Where to write them; made if it is not there." type:"path"`
}

func (c *manualCmd) Run(a *app) error {
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return fmt.Errorf("write the manual pages: %w", err)
	}
	for name, text := range manual(a.kong.Model.Node) {
		if err := os.WriteFile(filepath.Join(c.Dir, name), text, 0o644); err != nil {
			return fmt.Errorf("write the manual pages: %w", err)
		}
	}
	return nil
}

// manual makes the pages from the grammar, so that they can't fall behind it; by file name.
func manual(root *kong.Node) map[string][]byte {
	pages := map[string][]byte{}
	var all []*kong.Node
	var walk func(n *kong.Node)
	walk = func(n *kong.Node) {
		all = append(all, n)
		for _, c := range n.Children {
			if !c.Hidden {
				walk(c)
			}
		}
	}
	walk(root)
	for _, n := range all {
		pages[pageOf(n)+".1"] = page(n, all)
	}
	return pages
}

// pageOf is the name of a command's page, as in standfast-config-set.
func pageOf(n *kong.Node) string {
	if n.Type == kong.ApplicationNode {
		return n.Name
	}
	return "standfast-" + strings.ReplaceAll(commandOf(n), " ", "-")
}

// page is one in man(7)'s language.
func page(n *kong.Node, all []*kong.Node) []byte {
	var b bytes.Buffer
	short, long := n.Help, n.Detail
	if n.Type == kong.ApplicationNode {
		short, long, _ = strings.Cut(description, "\n\n")
	}
	fmt.Fprintf(&b, ".TH %s 1 \"\" \"Standfast %s\" \"Standfast\"\n", strings.ToUpper(roff(pageOf(n))), roff(version))
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n", roff(pageOf(n)), roff(strings.TrimSuffix(strings.ToLower(short[:1])+short[1:], ".")))
	fmt.Fprintf(&b, ".SH SYNOPSIS\n.B %s\n", roff(strings.TrimSpace(n.FullPath())))
	if rest := strings.TrimPrefix(n.Summary(), n.FullPath()); rest != "" {
		fmt.Fprintf(&b, "%s\n", roff(strings.TrimSpace(rest)))
	}
	fmt.Fprintf(&b, ".SH DESCRIPTION\n%s\n", prose(short+"\n\n"+long))
	pageCommands(&b, n)
	pageArguments(&b, n)
	fmt.Fprint(&b, ".SH FILES\n.TP\n.I /etc/standfast/standfast.yml\nThis host's member; where it is not, another is given with \\fB\\-\\-config\\fR or in \\fBSTANDFAST_CONFIG\\fR.\n")
	fmt.Fprint(&b, ".TP\n.I /usr/share/doc/standfast\nGuides, and samples of the files.\n")
	var others []string
	for _, o := range all {
		if o != n && (o.Parent == n || n.Parent == o || n.Type == kong.ApplicationNode) {
			others = append(others, fmt.Sprintf(".BR %s (1)", roff(pageOf(o))))
		}
	}
	fmt.Fprintf(&b, ".SH SEE ALSO\n%s\n", strings.Join(others, ",\n"))
	return b.Bytes()
}

func pageCommands(b *bytes.Buffer, n *kong.Node) {
	heading := ".SH COMMANDS\n"
	for _, c := range n.Children {
		if !c.Hidden {
			fmt.Fprintf(b, "%s.TP\n.B %s\n%s\n", heading, roff(c.Name), roff(c.Help))
			heading = ""
		}
	}
}

func pageArguments(b *bytes.Buffer, n *kong.Node) {
	heading := ".SH ARGUMENTS\n"
	for _, p := range n.Positional {
		fmt.Fprintf(b, "%s.TP\n.I %s\n%s\n", heading, roff(p.Name), roff(p.Help))
		heading = ""
	}
	heading = ".SH OPTIONS\n"
	for _, group := range n.AllFlags(true) {
		for _, f := range group {
			fmt.Fprintf(b, "%s.TP\n.B %s\n%s\n", heading, roff(f.String()), roff(f.Help))
			heading = ""
		}
	}
}

// prose turns a help text into paragraphs; what is indented there stays as it is, as an example.
func prose(text string) string {
	var out []string
	for _, p := range strings.Split(strings.TrimSpace(text), "\n\n") {
		if strings.HasPrefix(p, "  ") {
			out = append(out, ".PP\n.nf\n"+roff(p)+"\n.fi")
		} else {
			out = append(out, ".PP\n"+roff(p))
		}
	}
	return strings.Join(out, "\n")
}

// roff keeps text from being taken for groff's own (groff(7), "Escape sequences" and "Control characters").
func roff(text string) string {
	lines := strings.Split(strings.NewReplacer(`\`, `\e`, "-", `\-`, "’", "'").Replace(text), "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, ".") || strings.HasPrefix(l, "'") {
			lines[i] = `\&` + l
		}
	}
	return strings.Join(lines, "\n")
}
