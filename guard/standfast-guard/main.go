// Standfast-guard kills PostgreSQL when the agent that started it falls silent. It is not meant to be run by hand; see
// package watch.
package main

import (
	"os"

	"standfast/guard/watch"
)

func main() { os.Exit(watch.Main(os.Args[1:])) }
