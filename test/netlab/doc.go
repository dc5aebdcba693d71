// Package netlab boots whole Debian machines on one machine, for tests that cut cables and take away power.
//
// Each host is a systemd-nspawn container that boots its own systemd, in a network namespace of its own, on a cable (a
// veth pair) to a switch (a bridge in a namespace with no way out). Beside them sits the client, a namespace without a
// machine, which a test dials from (Lab.Dial). A host's root is an overlay on an image that debootstrap makes once and that is
// kept in a cache; its state lies on a disk of its own (a loop-mounted ext4 at StateDir), which can fill up and can hang.
//
// All processes of a host live below one control group (version 2), so that what strikes the host strikes every one of
// them, and at once: PowerOff, Pause and Resume. A power loss pulls the cable first. A process that is killed while its
// cable is plugged in sends FIN or RST, which no dead machine ever did, and makes failure detection look better than it is.
//
// # What it can't do
//
// The hosts share one kernel. There is one page cache, so a power loss here does not lose what was written and not synced
// (the tests of the packages postgres and sim look at that); and one clock, so nothing here sets it; and no watchdog device.
// Package netlab/vm has a kernel of its own for these. Without netem in the kernel, Delay shapes frames in this process, which
// is good to about a millisecond.
//
// It needs root, Linux 5.14 (cgroup.kill), and Debian's systemd-container, debootstrap and nftables; Missing says what is
// lacking. The image needs the distribution's mirror once. Interrupted runs leave processes, mounts and namespaces behind;
// each Start removes those of runs that have ended.
package netlab
