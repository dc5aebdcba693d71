// Package sim plays whole clusters against package decide: a seeded, deterministic world of hosts, networks, disks, an
// agreed store, clients and a PostgreSQL that has the holes of the real one. There are no goroutines and no clock in
// it; every draw comes from the seed, so that a broken invariant is replayed by its number.
//
// # What a run does
//
// A Plan says how many members there are and which faults are drawn how often. The world founds a cluster, makes faults
// until the plan's length is over, heals everything, and then expects the cluster to become whole by itself. Every
// invariant (see Invariant) is checked at the step that could break it.
//
// # The agent's contract
//
// The world carries out what Decide returns exactly as the real agent must:
//
//   - On each event and each tick the member builds its View from what it knows, calls Decide and Route, and carries
//     the actions out in order, one after the other. When one fails the rest are dropped. When the list is done, or the
//     view changed while an action ran, it decides again.
//   - Slow actions (Start, Restart, Stop, Init, Promote, Rewind, Clone, Handover) run beside, one at a time, and the
//     list ends there; Decide goes on being called. One that is under way (View.Doing) and returned again is the same
//     one. A Rewind, Clone or Handover under way that is no longer returned is cancelled; other slow actions end by
//     themselves. A Rewind or Clone that was cancelled stays in the View until it has really ended.
//   - A Promote that ends before PostgreSQL has carried it out, though it was told to, ends by killing the server; so does the
//     adoption of a server that an earlier life of the agent has left so. Until then it stays in the View too.
//   - A request is stood by (View.Asked) only once the store has acknowledged it to the member that recorded it.
//   - Fence and Promise wait for nothing: they cancel the slow action, and an action that is waiting for the store.
//   - Promote, Admit, Attach, Rewind and Clone look again right before they act: at the newest record known, Rewind and
//     Clone at one read linearizably. Right before they mark the data as half made these two look at the promise, which
//     can't rise in between: nothing above their term may be promised.
//   - SetNames on a primary ends the WAL senders of members that enter the rule before the names are written, and all
//     others that are older than the names after.
//   - Promote fails when pg_wal knows of the reserved timeline already: PostgreSQL would take the next number.
//   - WAL senders older than the newest change of the names are ended before the names are told in a View.
//     On adoption of a running server the agent does so first, and takes the position flushed then for NamesLSN.
//   - A relay's dial checks, before the first byte, that its term is not below the floor and that the server it reached
//     is on that term's timeline.
//   - After a write of unknown outcome nothing but Fence, Promise and writes is done until the record has been written
//     once more, unchanged and over the revision known: the lost write may still be on its way.
//   - While a primary's rule is k = 0, or no record is known and decide.MayServe does not vouch for it, the guard's time
//     counts from when the newest successful store check of this agent's life was sent.
//   - The guard kills every process of PostgreSQL when the agent has not fed it for Lease + GuardDelay.
//
// # What is modelled of PostgreSQL
//
// Commits that wait are released by each WAL sender's own copy of the rule, counting every sender that its own copy
// gives a vote; a released position stays released. A WAL receiver begins by reporting its replay position whatever the
// timeline, goes on flushing what its socket holds after the relay closed, and its position after a restart is at first
// too low. Backends and senders outlive their postmaster until they are killed. A commit is visible after a crash though
// nobody acknowledged it. Promotion takes the timeline after the highest that pg_wal knows of, whoever else took it.
package sim
