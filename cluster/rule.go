package cluster

import (
	"fmt"
	"slices"
	"strings"
)

// Nobody is the name that no member may have. A server whose names hold only this one acknowledges nothing.
const Nobody = "standfast_nobody"

// Rule is the commit rule: an acknowledged commit is flushed on at least K of the members Of, besides the primary
// ("ANY k (…)" of synchronous_standby_names). K = 0 means that the primary alone suffices. K above len(Of) means
// that nothing can be acknowledged at all: the state of a new cluster before its first standby.
type Rule struct {
	K  int      `json:"k"`
	Of []string `json:"of"`
}

// NewRule returns the rule with its members sorted and each named once.
func NewRule(k int, of ...string) Rule {
	of = slices.Clone(of)
	slices.Sort(of)
	return Rule{K: k, Of: slices.Compact(of)}
}

// Equal reports whether both rules ask for the same.
func (r Rule) Equal(o Rule) bool { return r.K == o.K && slices.Equal(r.Of, o.Of) }

// Same reports whether both rules let the same commits be acknowledged: they are equal, both need nobody, or neither can
// be met.
func (r Rule) Same(o Rule) bool {
	return r.Equal(o) || r.K == 0 && o.K == 0 || r.K > len(r.Of) && o.K > len(o.Of)
}

// Has reports whether the member counts in the rule.
func (r Rule) Has(name string) bool { return slices.Contains(r.Of, name) }

// Electors is how many members of the rule must have stopped acknowledging before nothing more can be
// acknowledged, and equally how many reports are sure to include a holder of every acknowledged commit: n-k+1.
func (r Rule) Electors() int { return max(len(r.Of)-r.K+1, 0) }

// Covers reports whether every commit that o acknowledges is one that r accounts for: with r recorded,
// PostgreSQL may be working by o. "k₁ of N₁" covers "k₂ of N₂" iff k₂ − |N₂∖N₁| ≥ k₁.
func (r Rule) Covers(o Rule) bool {
	if o.K > len(o.Of) {
		return true // o acknowledges nothing
	}
	outside := 0
	for _, n := range o.Of {
		if !r.Has(n) {
			outside++
		}
	}
	return max(o.K-outside, 0) >= r.K
}

// Joint is the rule to record between r and o: it covers both.
func (r Rule) Joint(o Rule) Rule {
	return NewRule(min(r.K, o.K), append(slices.Clone(r.Of), o.Of...)...)
}

// With returns the rule with the member counted too, Without with it left out; K is unchanged.
func (r Rule) With(name string) Rule { return NewRule(r.K, append(slices.Clone(r.Of), name)...) }

// Without returns the rule with the member left out; K is unchanged.
func (r Rule) Without(name string) Rule {
	return NewRule(r.K, slices.DeleteFunc(slices.Clone(r.Of), func(n string) bool { return n == name })...)
}

// Met reports whether the given members' flushes satisfy the rule.
func (r Rule) Met(flushed func(name string) bool) bool {
	n := 0
	for _, m := range r.Of {
		if flushed(m) {
			n++
		}
	}
	return n >= r.K
}

// String gives "ANY 1 of pg2, pg3".
func (r Rule) String() string {
	if r.K == 0 {
		return "the primary alone"
	}
	if len(r.Of) == 0 {
		return fmt.Sprintf("ANY %d of nobody yet", r.K)
	}
	return fmt.Sprintf("ANY %d of %s", r.K, strings.Join(r.Of, ", "))
}
