// Command standfast makes one highly available PostgreSQL of three hosts. See "standfast --help".
package main

import (
	"os"

	"standfast/cli"
)

func main() { os.Exit(cli.Run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }
