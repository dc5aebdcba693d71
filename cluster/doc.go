// Package cluster is the vocabulary that every other package speaks: members, terms, positions in the WAL, the
// commit rule, the one agreed record, what one member sees (View) and what it may do about it (Action).
//
// It holds values only and imports the standard library only. Nothing here does I/O, reads a clock or keeps
// state of its own; that is what makes decide and sim possible.
package cluster
