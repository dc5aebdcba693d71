// Package grid lets what is done again and again, and need not be done at a certain moment, be done at the same moments:
// the multiples of its interval by the wall clock. A process that wakes once for five things sleeps longer in between
// than one that wakes five times, and most of what an idle daemon costs is waking up. Hosts whose clocks agree do it
// together as well, so that what they send one another arrives while the receivers are awake.
package grid

import "time"

// Until is how long to wait from now for the next of these moments: every on average, never less than half of it nor one
// and a half or more, whatever the wall clock is being set to.
func Until(now time.Time, every time.Duration) time.Duration {
	left := every - time.Duration(now.UnixNano()%int64(every))
	if left < every/2 {
		left += every
	}
	return left
}
