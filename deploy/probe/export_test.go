package probe

// Empty is empty, for its test.
var Empty = empty
