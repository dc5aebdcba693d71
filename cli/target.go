package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"standfast/config"
	"standfast/ops"
	"standfast/playground"
)

// node reads the member's file that this command line means. What looks only does not need to be that member.
func (a *app) node(settings ...string) (config.Node, error) {
	path, err := a.file()
	if err != nil {
		return config.Node{}, err
	}
	n, err := config.LoadNode(path, os.Environ(), settings)
	if err != nil {
		return config.Node{}, &usageError{explainFile(err)}
	}
	return n, nil
}

const runElse = "run this as root or as the user that standfast runs as"

func explainFile(err error) error {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: %s", err, runElse)
	case errors.Is(err, syscall.EISDIR):
		return fmt.Errorf("%w: give the file itself with --config, such as standfast.yml in it", err)
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: give another with --config, or make one with standfast init", err)
	}
	return err
}

// file finds the member's file: --config or STANDFAST_CONFIG, the usual place, a playground that runs here.
func (a *app) file() (string, error) {
	if a.config != "" {
		return a.config, nil
	}
	if _, err := os.Stat(config.DefaultPath); !errors.Is(err, fs.ErrNotExist) {
		return config.DefaultPath, nil // if it can't be read, that is what has to be said
	}
	var running []string
	for _, dir := range playground.Running() {
		if files, _ := filepath.Glob(filepath.Join(dir, "*", "standfast.yml")); len(files) > 0 { // the pattern is sound
			slices.Sort(files)
			running = append(running, files[0])
		}
	}
	if len(running) > 0 {
		return running[0], nil
	}
	return "", usage("no cluster found: there is no %s, and no playground runs here; give a member's file with --config, make one with standfast init, or try standfast playground", config.DefaultPath)
}

// connect prepares to talk to the cluster.
func (a *app) connect() (*ops.Cluster, error) {
	n, err := a.node()
	if err != nil {
		return nil, err
	}
	return ops.Connect(n)
}
