package cli

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/goccy/go-yaml"

	"standfast/api"
	"standfast/config"
	"standfast/ops"
)

type configCmd struct {
	Show   configShowCmd   `cmd:"" help:"Print the agreed configuration."`
	Set    configSetCmd    `cmd:"" help:"Change single keys."`
	Edit   configEditCmd   `cmd:"" help:"Change it in your editor."`
	Sample configSampleCmd `cmd:"" help:"Print a member's file with every key and its default."`
}

func (configCmd) Help() string {
	return `The agreed configuration is the same for all members and lives in the store. A value that PostgreSQL refuses is rejected when it is set, with PostgreSQL's own message.`
}

type configShowCmd struct {
	Output  string `help:"As it was written (yaml) or as json." short:"o" enum:"yaml,json" default:"yaml"`
	Secrets bool   `help:"With what is secret in the addresses under notify."`
}

func (c *configShowCmd) Run(a *app) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	defer cl.Close()
	cfg, err := cl.Agreed(a.ctx)
	if err != nil {
		return err
	}
	text := []byte(cfg.YAML)
	if !c.Secrets {
		if text, err = config.Masked(text); err != nil {
			return err
		}
	}
	if c.Output == "json" {
		if text, err = yaml.YAMLToJSON(text); err != nil {
			return fmt.Errorf("convert the configuration: %w", err)
		}
		text = append(bytes.TrimSpace(text), '\n')
	}
	_, err = a.stdout.Write(text)
	return err
}

type configSetCmd struct {
	Keys   []string `arg:"" name:"key=value" help:"As in durability=async; an empty value restores the default."`
	DryRun bool     `help:"Check it and say what would change." name:"dry-run"`
}

func (configSetCmd) Help() string {
	return `Comments and everything else stay as they are.

Examples:

    standfast config set detection=fast
    standfast config set postgresql.parameters.max_connections=300
    standfast config set postgresql.parameters.work_mem=`
}

func (c *configSetCmd) Run(a *app) error {
	var keys []config.Setting
	for _, k := range c.Keys {
		key, value, ok := strings.Cut(k, "=")
		if !ok {
			return usage("%q: write it as key=value, such as detection=fast", k)
		}
		keys = append(keys, config.Setting{Key: key, Value: value})
	}
	cl, err := a.connect()
	if err != nil {
		return err
	}
	defer cl.Close()
	changes, err := cl.SetKeys(a.ctx, keys, c.DryRun, nil)
	if err != nil {
		return configError(err)
	}
	return a.changed(changes, c.DryRun)
}

// configError: what the document itself gets wrong is usage; what the cluster says keeps its code.
func configError(err error) error {
	var answer *api.Error
	if errors.As(err, &answer) || errors.Is(err, ops.ErrNoToken) {
		return err
	}
	return &usageError{err}
}

func (a *app) changed(changes []config.Change, dry bool) error {
	if len(changes) == 0 {
		_, err := fmt.Fprintln(a.stdout, "nothing changes")
		return err
	}
	for _, c := range changes {
		fmt.Fprintln(a.stdout, c)
	}
	if dry {
		fmt.Fprintln(a.stdout, "(not done: --dry-run)")
	}
	return nil
}

type configEditCmd struct{}

func (configEditCmd) Help() string {
	return `Opens the editor that VISUAL or EDITOR names (else vi). A text that is not accepted is opened again with the reason at its top; leave it unchanged to give up.

Example:

    EDITOR=nano standfast config edit`
}

func (configEditCmd) Run(a *app) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	defer cl.Close()
	was, err := cl.Agreed(a.ctx)
	if err != nil {
		return err
	}
	text := []byte(was.YAML)
	for {
		edited, err := a.edit(text)
		if err != nil {
			return err
		}
		clean := withoutReason(edited)
		if bytes.Equal(clean, withoutReason(text)) {
			fmt.Fprintln(a.stdout, "unchanged, nothing done")
			return nil
		}
		changes, err := cl.Replace(a.ctx, was, clean, false, nil)
		if err == nil {
			return a.changed(changes, false)
		}
		var answer *api.Error
		if errors.As(err, &answer) && answer.Kind != api.Invalid || !a.out.terminal {
			return configError(err)
		}
		text = append(reason(err), clean...)
	}
}

const reasonMark = "#! "

// reason writes an error as comments, one for each line.
func reason(err error) []byte {
	var b strings.Builder
	for _, l := range strings.Split(err.Error(), "\n") {
		b.WriteString(reasonMark + l + "\n")
	}
	return []byte(b.String())
}

func withoutReason(text []byte) []byte {
	var out []byte
	for line := range bytes.Lines(text) {
		if !bytes.HasPrefix(line, []byte(reasonMark)) {
			out = append(out, line...)
		}
	}
	return out
}

// edit has the text changed in the user's editor.
func (a *app) edit(text []byte) ([]byte, error) {
	editor := os.Getenv("VISUAL")
	if editor == "" {
		editor = os.Getenv("EDITOR")
	}
	if editor == "" {
		editor = "vi"
	}
	f, err := os.CreateTemp("", "standfast-*.yml")
	if err != nil {
		return nil, fmt.Errorf("edit the configuration: %w", err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(text)
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("edit the configuration: %w", err)
	}
	// As git does: EDITOR may hold arguments, so a shell takes it apart; the file's name is passed beside it.
	cmd := exec.CommandContext(a.ctx, "sh", "-c", editor+` "$1"`, editor, f.Name())
	cmd.Stdin, cmd.Stdout, cmd.Stderr = a.stdin, a.stdout, a.stderr
	if err := cmd.Run(); err != nil {
		return nil, usage("run the editor %q: %w; set EDITOR to one that is installed", editor, err)
	}
	return os.ReadFile(f.Name())
}

type configSampleCmd struct{}

func (configSampleCmd) Run(a *app) error {
	_, err := a.stdout.Write(config.Sample)
	return err
}
