// Package playground runs a real cluster on one machine: the same binary, PostgreSQL and etcd as on three hosts, each
// member a process of its own on a loopback address of its own (127.0.0.11, .12, .13, the same ports on each), so that one
// can be killed or frozen as a whole, the way a host dies.
//
// The floating address, 127.0.0.10, can't move between hosts here. It belongs to the playground's own process, which forwards
// each connection to the router of the member that reigns and resets all of them when another one does: what clients see is
// what they see when a real address moves. (Were it one of the members' own, a frozen member would keep port and clients.)
//
// PostgreSQL refuses to run as root, so Become starts the whole over as the user postgres when root runs it.
package playground
