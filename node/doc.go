// Package node wires one member together and runs it: the store (its own etcd as a child process, or the site's), the
// heartbeats, the relay, the router, the agent, the guard and the API, and stops them in the order in which they rely on
// each other.
//
// PostgreSQL is nobody's child here: the agent adopts a running server at its start, and leaves it running when it
// stops, unless Config asks for the host to be left without one (Stop).
package node
