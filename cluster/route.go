package cluster

// Route is where one host's router sends clients now.
type Route struct {
	Term  Term
	Write string       // the member whose PostgreSQL takes writes; "": none is known
	Hold  bool         // new connections wait: a primary is being chosen, or (Write set) is about to hand over and keeps its sessions; with Write "" and no Hold they get Why
	Why   string       // a sentence for the client: what is missing and what would help
	Reads []ReadTarget // standbys for reading, best first; empty: reading falls back to Write
}

// ReadTarget is a standby that may serve reads now.
type ReadTarget struct {
	Name string
	Lag  LSN // bytes behind the primary, as far as known
}
