// Package router carries PostgreSQL sessions from two listeners to the servers that hold the right role: those of the
// writing side to the primary, those of the reading side to the standbys.
//
// It works below the protocol (layer 4) and knows of PostgreSQL only what a router must know ("Frontend/Backend
// Protocol", sections "Message Flow" and "Message Formats"): the first message of a client, to tell a session from a
// CancelRequest and to answer with an error that the client shows; the server's BackendKeyData, to bring a
// CancelRequest to the server it is meant for; and where a message of the server ends, so that a session that is cut
// can be told why. TLS passes through untouched.
//
// # How a session passes through
//
// A session belongs to one event loop (loop.go), which runs on a thread of its own and alone touches the session's
// sockets. Its phases are in session.go: the first message, waiting for a server, dialing, sent, relaying. Which server
// it gets, and when, is decided under one lock in table.go. What takes long and is rare runs beside the loops, one
// goroutine each: errors, which may need a TLS handshake (refuse.go), and CancelRequests (cancel.go).
//
// # CancelRequests
//
// PostgreSQL takes a commit whose wait for other hosts is cancelled for done: a client that gives up such a wait and tries the
// same again may be told of a success that only this server knows of. So a CancelRequest that comes from a client is not
// sent to the server but handed to the router of the server's host (Cancels), which has its own PostgreSQL asked what the
// session does, and withholds the request if that is a commit. A request that was handed over has a code of its own and goes no
// further: no two routers that disagree about the primary can play it back and forth. Everything about a request is bounded by
// asideFor. What becomes of a request the protocol never tells its sender: the connection is closed in any case.
//
// A request inside TLS can't be read and so not be judged by its session; it is recognised by its length and not delivered
// while any commit may be waiting for long (sealed.go).
//
// Not held back is what does not pass here: requests to PostgreSQL's own port, as over the fast path of package redirect, and
// pg_cancel_backend().
//
// # Waiting
//
// A new connection is never refused just because a primary is being chosen: it waits for at most Config.HoldFor. So does one
// whose server died before it answered a single byte: its first message is kept until then and sent to the next server.
package router
