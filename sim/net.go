package sim

import "time"

// link is one direction between two hosts.
type link struct {
	cuts int           // how many faults hold it down
	loss float64       // of datagrams; streams are late instead
	slow time.Duration // added to each delay
}

// up reports whether packets of i reach j.
func (w *world) up(i, j *host) bool { return i == j || w.links[i.id][j.id].cuts == 0 }

// both reports whether i and j can converse.
func (w *world) both(i, j *host) bool { return w.up(i, j) && w.up(j, i) }

// delay draws how long a packet takes from i to j.
func (w *world) delay(i, j *host) time.Duration {
	if i == j {
		return w.between(20*time.Microsecond, 100*time.Microsecond)
	}
	d := w.between(100*time.Microsecond, ms) + w.links[i.id][j.id].slow
	if w.mishap(0.01) {
		d += w.between(0, 60*ms)
	}
	return d
}

// datagram sends fn from i to j, which may lose, delay, repeat and reorder it.
func (w *world) datagram(i, j *host, fn func()) {
	l := &w.links[i.id][j.id]
	if l.cuts > 0 || w.chance(l.loss) {
		return
	}
	arrive := func() {
		if j.on && l.cuts == 0 && j.agent != nil {
			j.agent.after(0, fn)
		}
	}
	w.after(w.delay(i, j), arrive)
	if w.mishap(0.01) {
		w.after(w.delay(i, j)+w.between(0, 300*ms), arrive)
	}
}

// stream sends fn from i to j over a connection, which delivers late rather than not at all: it tries again while
// alive says so.
func (w *world) stream(i, j *host, alive func() bool, fn func()) {
	d := w.delay(i, j)
	if w.chance(w.links[i.id][j.id].loss) {
		d += w.between(20*ms, 200*ms) // retransmission
	}
	var arrive func()
	arrive = func() {
		switch {
		case !j.on:
		case w.up(i, j):
			fn()
		case i.on && alive():
			w.after(w.between(20*ms, 100*ms), arrive)
		}
	}
	w.after(d, arrive)
}
