package cli

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"
)

// version is stamped by the linker: -X standfast/cli.version=1.2.3.
var version = "dev"

type versionCmd struct {
	Output string `help:"How to show it: text or json." short:"o" enum:"text,json" default:"text"`
}

func (versionCmd) Help() string { return "Example:\n\n    standfast version -o json" }

func (c *versionCmd) Run(a *app) error {
	v := map[string]string{"version": version, "go": runtime.Version(), "platform": runtime.GOOS + "/" + runtime.GOARCH}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				v["commit"] = s.Value
			}
		}
	}
	if c.Output == "json" {
		return json.NewEncoder(a.stdout).Encode(v)
	}
	_, err := fmt.Fprintf(a.stdout, "standfast %s (%s, %s)\n", v["version"], v["go"], v["platform"])
	return err
}
