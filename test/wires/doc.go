// Package wires is a switch with hosts on it for tests, each host a network namespace of its own. Nothing of it has a name
// on this machine, so it goes with the test's process whatever happens. Package netlab boots whole machines instead.
// It is built with the tag e2e only.
package wires
