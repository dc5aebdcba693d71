// Package agent is one member at work: it observes, lets decide say what to do, and does it.
//
// The loop is event-driven: a change of the agreed record, a beat that means something new, the death of PostgreSQL
// (pidfd), a WAL receiver at the relay, the end of an action, each makes it look again. A timer only measures silence.
//
// # How actions are carried out
//
// Decide's list is carried out in order, one after the other; when one fails the rest are dropped and the member looks
// again. There are two lanes. Quick actions (Promise, Fence, SendReport, Write, SetNames, WriteTermRow, Admit, Expel,
// Attach, Refuse) take milliseconds. Slow ones (Start, Restart, Stop, Init, Promote, Handover, Rewind, Clone) run one at
// a time beside them and are not started twice; View.Doing names the one under way. A quick action that is no longer
// wanted is cancelled (after a moment, for its effect is often seen before its answer), and so are Handover, Rewind and
// Clone; the other slow ones are finished. Fence and Promise never wait for the slow lane: they cancel those three, and Promote, at once. A Fence
// with a Write behind it returns when every process has its SIGKILL, a Fence alone when they have ended. Rewind and Clone read the agreed record again, linearizably,
// right before they touch data. sim keeps to the same contract.
package agent
