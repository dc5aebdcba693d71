// Package notify tells others outside the cluster what happened: a web server by HTTP, a chat, a command of the site's, the host's
// journal or syslog.
//
// Each of them has a queue of its own that holds the newest 200 events, so that one that hangs holds up nothing else, and nothing here
// holds up the member. What could not be told is told again, after 1, 2, 4… seconds, at last every minute, for an hour; then it is given
// up and counted. So an event may be told twice, under the same ID: when an answer was lost, or the member restarted.
//
// The first failure in a row is logged, and the success that ends it. Addresses are shown without what may be secret in them
// (config.Address).
package notify
