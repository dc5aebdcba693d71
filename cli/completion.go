package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/alecthomas/kong"
)

type completionCmd struct {
	Shell string `arg:"" help:"bash, zsh or fish." enum:"bash,zsh,fish"`
}

func (completionCmd) Help() string {
	return `Examples:

    standfast completion bash > /etc/bash_completion.d/standfast
    standfast completion zsh > "${fpath[1]}/_standfast"
    standfast completion fish > ~/.config/fish/completions/standfast.fish`
}

func (c *completionCmd) Run(a *app) error {
	tree := words(a.kong.Model.Node, "")
	switch c.Shell {
	case "bash":
		return bash(a.stdout, tree)
	case "zsh":
		return zsh(a.stdout, tree)
	}
	return fish(a.stdout, tree)
}

// level is what may follow one path of commands, "" or "config set".
type level struct {
	path     string
	commands []word
	flags    []word
}

type word struct{ text, help string }

// words walks the grammar, so that completion can't fall behind it.
func words(n *kong.Node, path string) []level {
	l := level{path: path}
	var below []level
	for _, c := range n.Children {
		if c.Hidden {
			continue
		}
		l.commands = append(l.commands, word{c.Name, c.Help})
		below = append(below, words(c, strings.TrimSpace(path+" "+c.Name))...)
	}
	for _, group := range n.AllFlags(true) {
		for _, f := range group {
			l.flags = append(l.flags, word{"--" + f.Name, f.Help})
		}
	}
	return append([]level{l}, below...)
}

func texts(ws []word) string {
	out := make([]string, len(ws))
	for i, w := range ws {
		out[i] = w.text
	}
	return strings.Join(out, " ")
}

func bash(w io.Writer, tree []level) error {
	var cases strings.Builder
	for _, l := range tree {
		fmt.Fprintf(&cases, "    %q) COMPREPLY=($(compgen -W %q -- \"$cur\")) ;;\n", l.path, texts(l.commands)+" "+texts(l.flags))
	}
	_, err := fmt.Fprintf(w, `# bash completion of standfast
_standfast() {
  local cur=${COMP_WORDS[COMP_CWORD]} path= i
  for ((i = 1; i < COMP_CWORD; i++)); do
    case ${COMP_WORDS[i]} in -*) ;; *) path="$path${path:+ }${COMP_WORDS[i]}" ;; esac
  done
  case "$path" in
%s    *) COMPREPLY=() ;;
  esac
  [[ ${COMP_WORDS[COMP_CWORD-1]} == --config || ${COMP_WORDS[COMP_CWORD-1]} == -c ]] && COMPREPLY=($(compgen -f -- "$cur"))
}
complete -F _standfast standfast
`, cases.String())
	return err
}

func zsh(w io.Writer, tree []level) error {
	if _, err := fmt.Fprint(w, "#compdef standfast\n_standfast() {\n  local path=\"\" word\n  local -a list\n  for word in ${words[2,CURRENT-1]}; do [[ $word == -* ]] || path=\"$path${path:+ }$word\"; done\n  case \"$path\" in\n"); err != nil {
		return err
	}
	for _, l := range tree {
		fmt.Fprintf(w, "    %q) list=(\n", l.path)
		for _, x := range append(l.commands, l.flags...) {
			fmt.Fprintf(w, "      '%s:%s'\n", x.text, strings.NewReplacer("'", "'\\''", ":", "\\:").Replace(x.help))
		}
		fmt.Fprint(w, "    ) ;;\n")
	}
	_, err := fmt.Fprint(w, "  esac\n  _describe standfast list\n}\ncompdef _standfast standfast\n")
	return err
}

func fish(w io.Writer, tree []level) error {
	quote := func(s string) string { return "'" + strings.NewReplacer(`\`, `\\`, "'", `\'`).Replace(s) + "'" }
	var err error
	for _, l := range tree {
		parts := strings.Fields(l.path)
		when := "__fish_use_subcommand"
		if len(parts) > 0 {
			when = "__fish_seen_subcommand_from " + parts[len(parts)-1]
		}
		for _, c := range l.commands {
			_, err = fmt.Fprintf(w, "complete -c standfast -f -n %s -a %s -d %s\n", quote(when), c.text, quote(c.help))
		}
		for _, f := range l.flags {
			_, err = fmt.Fprintf(w, "complete -c standfast -n %s -l %s -d %s\n", quote(when), strings.TrimPrefix(f.text, "--"), quote(f.help))
		}
	}
	return err
}
