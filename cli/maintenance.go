package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"standfast/config"
	"standfast/packaging"

	"github.com/google/renameio/v2"
)

type nodeMaintenanceCmd struct {
	State  string `arg:"" enum:"on,off" help:"on or off."`
	Now    bool   `help:"Do not hand the role over: the others elect."`
	Reason string `help:"For whoever finds the host stopped." placeholder:"TEXT"`
	DryRun bool   `help:"Say what would be done, change nothing." name:"dry-run"`
}

func (nodeMaintenanceCmd) Help() string {
	return `On: hands this host's role over if it has it, stops its member and PostgreSQL, and keeps them stopped, also over reboots, until "off". (After "standfast node stop" they start again at the next boot.) If nobody can take the role over nothing is stopped.

The others go on; with three hosts none of them may fail meanwhile.

Examples:

    sudo standfast node maintenance on --reason "new disks, Anna"
    sudo standfast node maintenance off`
}

// maintenanceFile keeps the service from being started: standfast.service has it as a condition.
var maintenanceFile = filepath.Join(filepath.Dir(config.DefaultPath), "maintenance")

// inMaintenance is what was noted when this host was taken out of service; "" if it is not.
func inMaintenance() (string, error) {
	text, err := os.ReadFile(maintenanceFile)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("look for a maintenance: %w; %s", err, runElse)
	}
	return strings.TrimSpace(string(text)), nil
}

func (c *nodeMaintenanceCmd) Run(a *app) error {
	n, err := a.node()
	if err != nil {
		return err
	}
	if err := isService(a.ctx); err != nil {
		return err
	}
	noted, err := inMaintenance()
	if err != nil {
		return err
	}
	switch {
	case c.State == "on" && noted != "":
		_, err = fmt.Fprintf(a.stdout, "nothing was to be done: %s is in maintenance (%s)\n", n.Name, noted)
	case c.State == "off" && noted == "":
		_, err = fmt.Fprintf(a.stdout, "nothing was to be done: %s is not in maintenance\n", n.Name)
	case c.DryRun && c.State == "on":
		_, err = fmt.Fprintf(a.stdout, "%s would hand its role over if it has it, stop, and stay stopped over reboots\n", n.Name)
	case c.DryRun:
		_, err = fmt.Fprintf(a.stdout, "%s would be started, and start at every boot again\n", n.Name)
	case c.State == "on":
		err = c.begin(a, n)
	default:
		err = c.end(a, n)
	}
	return err
}

// begin notes the maintenance before anything is stopped: a reboot in between must not start the member again.
func (c *nodeMaintenanceCmd) begin(a *app, n config.Node) error {
	if !c.Now {
		if err := a.handOver(n.Name); err != nil {
			return fmt.Errorf("%w; nothing was stopped (to stop all the same: standfast node maintenance on --now)", err)
		}
	}
	note := fmt.Sprintf("since %s, by %s", time.Now().Format("2006-01-02 15:04:05 MST"), operator())
	if c.Reason != "" {
		note += ": " + c.Reason
	}
	if err := renameio.WriteFile(maintenanceFile, []byte(note+"\n"), 0o644); err != nil {
		return owned(fmt.Errorf("note the maintenance: %w", err))
	}
	for _, unit := range []string{packaging.Unit, packaging.ServerUnit} { // the agent first: it would start PostgreSQL again
		if err := systemctl(a.ctx, "stop", unit); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(a.stdout, "%s is stopped and stays so, also over reboots; to end this: standfast node maintenance off\n", n.Name)
	return err
}

func (c *nodeMaintenanceCmd) end(a *app, n config.Node) error {
	if err := os.Remove(maintenanceFile); err != nil {
		return owned(fmt.Errorf("end the maintenance: %w", err))
	}
	if err := systemctl(a.ctx, "start", packaging.Unit); err != nil {
		return err
	}
	_, err := fmt.Fprintf(a.stdout, "%s is started; it follows by itself: see standfast status\n", n.Name)
	return err
}
