package probe

// Inner functions, for their tests.
var (
	Empty = empty
	Judge = judge
)
