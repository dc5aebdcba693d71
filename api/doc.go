// Package api answers for one member over HTTP: health checks, the whole status as JSON, metrics, and, over TLS with a
// bearer token, the changes an operator may ask for.
//
// Everything that is read comes from memory: the agent publishes an immutable Status whenever something changes, and a
// request only picks one of the answers prepared from it. So a health check takes microseconds and is answered while
// PostgreSQL hangs, while etcd is away and while other clients are stuck. A Status older than Config.Stale is no longer
// believed: every health check then answers 503, as Patroni's do when the leader key has expired, because an old "I am
// the primary" is exactly what a host that was paused would say on waking up.
//
// # Health checks
//
// GET, HEAD and OPTIONS on the plain port (8008), no token. 200 means yes, 503 no, 400 that the query makes no sense.
//
//	/ /primary /master /leader /read-write   open to writing clients as primary of the newest term
//	/replica                                 a standby that may be read from (?lag=, ?replication_state=, ?tag_x=)
//	/read-only                               either of the two
//	/quorum, /read-only-quorum               a standby that counts in the commit rule; or the primary
//	/sync /synchronous, /read-only-sync      a standby that has every acknowledged commit (k = n); or the primary
//	/async /asynchronous                     a standby that does not count in the commit rule (?lag=)
//	/standby-leader /standby_leader          always 503: there are no standby clusters
//	/health                                  PostgreSQL runs and answers
//	/ready                                   clients may be sent here: /primary or /replica
//	/readiness                               as primary, or attached and not behind (?lag=, ?mode=apply|write)
//	/liveness                                the agent's loop runs
//
// lag is a number of bytes, or one with a unit: 16kB, 10MB, 1.5GB (multiples of 1024, case ignored).
//
// The paths and codes are Patroni 4's ("Patroni REST API"), with three deliberate differences: a query that cannot be
// understood is refused with 400 instead of being ignored, because a lag check that can't fail is worse than none; with a
// lag bound, a lag that is not known is not within it; and /primary and /replica wait until the term's row has been
// replicated, so that a balancer never sends a client to where it would be turned away or read stale rows.
//
// / /master /replica and /ready are pgchk's as well, and answer in its plain line, "OK - Primary" or "Service Unavailable -
// Not Primary: the primary is pg2"; with "Accept: application/json" in Patroni's JSON. All others answer in Patroni's JSON,
// or in a plain line when the client accepts text/plain and not JSON. HEAD and OPTIONS carry no body.
//
// # Other reading
//
//	/status    the whole Status, this package's own schema
//	/patroni   Patroni's JSON of this member, always 200
//	/cluster   Patroni's JSON of all data members
//	/history   every change of primary: Patroni's rows, or []Entry with "?format=standfast"
//	/failsafe  the members whose beats keep a primary serving without etcd, as Patroni shows them
//	/metrics   Prometheus and OpenMetrics, standfast_* and Patroni's patroni_*
//	/ui        the web page (package web); /ui/stream is what it reads, as server-sent events
//
// On the TLS port (8443) alone, with the token:
//
//	/config    the agreed configuration
//	/slots     the replication slots of the member's server, and what each is for ("standfast slots")
//	/support   what the member gives to a supporter, without secrets ("standfast support-bundle")
//	/facts     what the member finds out about its host and its PostgreSQL when it is examined ("standfast doctor"; ?brief=true for "standfast check")
//
// # Changes
//
// On the TLS port (8443), with "Authorization: Bearer …"; the plain port refuses them with 403. See Ops for the
// operations. A client that accepts application/x-ndjson gets one JSON line for each step and a last one with the
// outcome (Line); any other gets one plain line at the end, in the manner of Patroni.
package api
