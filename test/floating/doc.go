// Package floating runs a whole cluster on hosts that share a switch, and looks at its floating addresses from outside. Its
// tests are built with the tag e2e only.
package floating
