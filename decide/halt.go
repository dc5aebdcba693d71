package decide

import (
	"fmt"

	"standfast/cluster"
)

// gathering is for how long a member that was started again waits for the primary of before: hosts are switched on one after another.
const gathering = cluster.Instant(15e9)

// halted is a member's part while the cluster is shut down: it stops its server, which has received the primary's last checkpoint by
// now, and begins nothing. The record is an election in which the primary of before wins ties, so that taking Halt back is all that a
// start needs; what that election asks for is what it always asks for.
func halted(v cluster.View) []cluster.Action {
	s := v.State
	if v.Resumes && (s.Prefer == v.Self || hears(v, s.Prefer, v.Settings.Detect) || v.Now-v.Since >= gathering) {
		next := s.Next("started again", v.Self, v.Wall)
		next.Halt = false
		return []cluster.Action{cluster.Write{Cause: "the cluster is started again", Next: next}}
	}
	if v.Postgres.Running && !v.Resumes {
		return []cluster.Action{cluster.Stop{Reason: s.Reason}}
	}
	return nil
}

// Halted says that the cluster is shut down, a sentence; "" if it is not.
func Halted(v cluster.View) string {
	if v.State == nil || !v.State.Halt {
		return ""
	}
	return fmt.Sprintf("%s; it starts when standfast is started on more than half of its hosts", v.State.Reason)
}

// Ended reports whether this member has nothing left to do in a cluster that is shut down: its server and those of all others that are
// heard have stopped, and the others know why.
func Ended(v cluster.View) bool {
	if v.State == nil || !v.State.Halt || v.Resumes || v.Postgres.Running {
		return false
	}
	for _, m := range v.Members {
		b := v.Peers[m.Name].Beat
		if m.Name != v.Self && hears(v, m.Name, v.Settings.Detect) && (b.Term < v.State.Term || b.Up) {
			return false
		}
	}
	return true
}
