// Package checker works on a cluster as its applications do, through several ways at once, writes down the begin, the end and the
// outcome of everything it asked for, and says afterwards whether the cluster kept what it had promised. It knows nothing of
// Standfast but what SQL tells, so that other stacks can be judged by the same measure; standfast-checker is the program for that.
//
// Three kinds of clients work from Start to Stop. Writers (package playground/load) commit a row at a time and try each again under
// its key until it is acknowledged. Readers ask for a writer's newest rows. Register clients read, write and compare-and-set
// a few rows. Each operation carries, from its own transaction, who executed it: the server's name and address, the backend,
// the postmaster's start and the timeline. An operation is acknowledged; or refused, when there was no session to send it in; or unknown,
// when it was sent and the answer was an error or none came. Unknown ones may have taken place, and may still.
//
// # What is claimed
//
// Lost: a row whose commit was acknowledged is not there. After Stop a mark is written through the first way, and every server named
// to Judge is read once it shows the mark, so that a standby had the time to replay. One row missing on one server breaks the
// promise. A server that never shows the mark is an error: nothing is said of it.
//
// Two servers at once: an attempt began after a later primary had acknowledged, and was acknowledged by the earlier one. Later and
// earlier is a matter of timelines or, on one timeline, of turns: A, then B, then A again. What distinguishes servers is their postmaster's
// start. Answers that merely arrived late are no proof. Two servers that both take writes and never do so within the time between a begin and
// an end seen here are not found; their commits are, as lost, when one of the histories is thrown away.
//
// Register: the operations on each register, taken through the writing ways, can be put into an order that one server could have
// carried out and that contradicts no client's clock (linearizability, decided by porcupine). Reads commit too (they
// write the value that they find), for a plain SELECT on a primary that was just replaced may be as old as the lease. A register is
// given up for a new one after a hundred operations, or four of unknown outcome, since the cost of the decision grows
// exponentially in the latter. One that could not be decided within its time counts as undecided, which is not a pass.
//
// # What is counted only
//
// Visible, then lost: a plain read returned a row that is not in the final state, or is there from a later attempt. Nobody had been
// told that such a row was committed, or it would be lost as well. PostgreSQL allows it: a standby shows what it has replayed, before
// the primary has acknowledged it, and a primary shows a commit whose wait was cancelled. The counts tell the two apart.
//
// # What is not claimed
//
// Nothing is said of transactions with more than one statement or row: serializability, write skew, anomalies that need list-append
// workloads. Nor of staleness of plain reads, of sequences, of who waited how long (load.LongestGap measures that), of a row
// that was acknowledged and came back changed, or of commits with a synchronous_commit of their own. A run that found nothing proves nothing
// about faults that did not happen in it.
package checker
