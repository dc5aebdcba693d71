package beat

import (
	"sync"
	"time"
)

// stallMeter remembers how late the ticker fired, for one second. A process that was paused, or starved of the
// processor, learns it here, and tells others not to take its silence, or its suspicions, at face value.
type stallMeter struct {
	mu    sync.Mutex
	fired []firing  // oldest first
	due   time.Time // when it fires next
}

type firing struct {
	at   time.Time
	late time.Duration
}

// note takes in that the ticker fired late at a time, and when it is due next.
func (m *stallMeter) note(at time.Time, late time.Duration, due time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.due = due
	m.expire(at)
	m.fired = append(m.fired, firing{at, max(late, 0)})
}

// worst is the greatest lateness within the last second, that of a firing still due included: after a pause others may
// ask before the ticker has had its turn.
func (m *stallMeter) worst(now time.Time) (d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.expire(now)
	if !m.due.IsZero() {
		d = max(now.Sub(m.due), 0)
	}
	for _, f := range m.fired {
		d = max(d, f.late)
	}
	return d
}

func (m *stallMeter) expire(now time.Time) {
	n := 0
	for n < len(m.fired) && now.Sub(m.fired[n].at) > time.Second {
		n++
	}
	m.fired = append(m.fired[:0], m.fired[n:]...)
}
