package sim

// Flaw is a way to break the executor, to show that the invariants notice.
type Flaw uint32

const (
	PromiseUnsynced   Flaw = 1 << iota // the promise is told before it is on disk
	FloorKept                          // a promise closes what the relay carries, but the next dial goes out as before
	DialUnchecked                      // a dial that was under way when the relay closed is carried all the same
	KeepOldSenders                     // WAL senders older than a change of the names live on
	SharedSlots                        // a half-open sender counts beside the new one
	ArchiveOpen                        // restore_command reads a shared archive whatever the relay does
	EmptyNames                         // promotion with no names set
	TimelineUnskipped                  // promotion without skipping the numbers below
	TouchUnchecked                     // data is touched without a last look at the record
	NoMarker                           // a rewind or clone leaves no mark while it is under way
	BlindRewrite                       // a write of unknown outcome is repeated without comparing
	UnknownIsSuccess                   // a write of unknown outcome is taken for done
	RestartInPlace                     // a primary whose server died starts it again as it was
	FedRegardless                      // the guard is fed though the lease of a primary with k = 0 is over
	Unsettled                          // a write of unknown outcome is forgotten
	StaleAck                           // the sender of a member that enters the rule may be older than its entry
	TouchLate                          // a leave to touch data is not looked at again where the marker is written
	AbandonedStands                    // a request is stood by before the store has acknowledged it
	PromotionLeft                      // a promotion that was told to end is left to PostgreSQL, which carries it out
	DialAnywhere                       // a relay carries whatever the timeline of the server that it reached
)
