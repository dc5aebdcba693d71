package peers

import "standfast/test/netlab"

// Image holds what all the stacks are made of, so that one is measured on the same machines as the other. None of it is started
// at boot but what a stack's Start enables.
var Image = netlab.Image{Suite: "trixie", Packages: []string{
	"postgresql-17-repmgr", "haproxy", "keepalived", "patroni", "etcd-server", "etcd-client", "python3-etcd", "python3-psycopg2",
	"openssh-client", "curl", "locales",
}}

// services are those that come with the packages and that Debian enables.
var services = []string{"haproxy", "keepalived", "patroni", "etcd", "repmgrd"}
