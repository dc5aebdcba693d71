package sim

import "standfast/cluster"

// segment is the size of a WAL segment in the model: small, so that a receive position that falls back to its start
// is far off after a few commits.
const segment = 4096

// branch is one use of a timeline. PostgreSQL knows only the number; the model knows that two promotions to the same
// number are two branches.
type branch struct {
	tl      cluster.Timeline
	fork    cluster.LSN // where it begins; 0 on the first
	history cluster.History
	system  string // the system identifier of the cluster it belongs to
}

// rec is one WAL record. Records form a tree: the content of a member's WAL is the path from the root to its last
// record, so that "does this disk hold that commit" is a question about ancestors.
type rec struct {
	parent, jump *rec
	depth        int
	lsn          cluster.LSN // its end
	br           *branch
}

// after returns a new record of the branch behind r, which is nil at the very beginning.
func (r *rec) after(br *branch, size int) *rec {
	if r == nil {
		n := &rec{lsn: segment, br: br}
		n.parent, n.jump = n, n
		return n
	}
	n := &rec{parent: r, depth: r.depth + 1, lsn: r.lsn + cluster.LSN(size), br: br}
	// Skew-binary jump pointers: a path of n records is climbed in O(log n).
	if r.depth-r.jump.depth == r.jump.depth-r.jump.jump.depth {
		n.jump = r.jump.jump
	} else {
		n.jump = r
	}
	return n
}

// up returns r's ancestor at the depth.
func (r *rec) up(depth int) *rec {
	for r.depth > depth {
		if r.jump.depth >= depth {
			r = r.jump
		} else {
			r = r.parent
		}
	}
	return r
}

// in reports whether WAL that ends at head holds r; the empty WAL (nil) is held by all.
func (r *rec) in(head *rec) bool {
	if r == nil {
		return true
	}
	return head != nil && r.depth <= head.depth && head.up(r.depth) == r
}

// meet returns the last record that both hold.
func meet(a, b *rec) *rec {
	if a == nil || b == nil {
		return nil
	}
	a, b = a.up(min(a.depth, b.depth)), b.up(min(a.depth, b.depth))
	for a != b {
		if a.depth == 0 {
			return nil
		}
		if a.jump != b.jump {
			a, b = a.jump, b.jump
		} else {
			a, b = a.parent, b.parent
		}
	}
	return a
}

// deeper returns the one that is further along; both lie on one path.
func deeper(a, b *rec) *rec {
	if a == nil || b != nil && b.depth > a.depth {
		return b
	}
	return a
}

// end is the LSN behind r, 0 for none.
func (r *rec) end() cluster.LSN {
	if r == nil {
		return 0
	}
	return r.lsn
}

// pos is where WAL that ends with r ends, as PostgreSQL would tell it: the number of the timeline, not the branch.
func (r *rec) pos() cluster.Position {
	if r == nil {
		return cluster.Position{}
	}
	return cluster.Position{Timeline: r.br.tl, LSN: r.lsn}
}

// forkTo begins a new branch behind r.
func (r *rec) forkTo(tl cluster.Timeline) *branch {
	h := append(cluster.History{}, r.br.history...)
	return &branch{tl: tl, fork: r.lsn, history: append(h, cluster.Branch{Timeline: r.br.tl, End: r.lsn}), system: r.br.system}
}
