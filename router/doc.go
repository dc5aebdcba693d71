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
// A new connection is never refused just because a primary is being chosen: it waits for at most Config.HoldFor. So does one
// whose server died before it answered a single byte: its first message is kept until then and sent to the next server.
package router
