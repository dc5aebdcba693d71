// Package deployed makes a cluster of bare machines as an administrator does: from another machine, over ssh, with cluster.yml and the
// program alone. The machines have systemd, sshd, sudo and a user who may use it; their packages are at hand, for they reach no
// mirror.
package deployed
