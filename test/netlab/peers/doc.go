// Package peers puts three stacks for a highly available PostgreSQL on the same whole machines, so that the same faults and the
// same clients can be tried on each: Standfast as package site sets it up; the hand-built stack of repmgr, HAProxy, Keepalived
// and a health check that this project replaces; and Patroni with etcd, HAProxy and Keepalived. All from Debian 13's packages.
//
// The two peers are set up as their own guides say (files/guide, files/patroni), with nothing tuned for or against them: repmgr's
// reconnect_attempts 3, reconnect_interval 5, monitor_interval_secs 2; Patroni's ttl 30, loop_wait 10, retry_timeout 10,
// and the HAProxy settings that its documentation recommends. Both replicate asynchronously, which is their guides' default.
// The only changes are what the machines ask for: addresses, no passwords on a network without a way out, repmgrd's
// --daemonize=false where the guide's option does not exist in repmgr 5.5, and all state on the host's own disk, as Standfast's is.
//
// What a stack does not repair by itself, Whole does as an administrator would: on the hand-built one, an old primary that came back as
// a second primary is cloned anew. And for both peers the floating address is brought to the primary's host, where it
// is in a fresh installation: Keepalived does not know who the primary is, and a fault at the primary's host is to be the same fault
// in each run.
package peers
