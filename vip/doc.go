// Package vip holds the floating addresses of a host: it adds them to an interface, tells the neighbours, and takes them
// away again. Who should hold which address is its caller's to say, again and again (Set): it is level-triggered, and
// an address whose claim is not renewed in time is removed by itself.
//
// # How an address sits on the interface
//
// With the prefix length of a single host, 32 or 128, unless the site wants another. An address with its subnet's length
// would be a secondary one, which the kernel removes together with the primary one when a DHCP client renews that, and
// would add a route for the subnet. The neighbours are reached by the host's own address all the same.
//
// Its preferred lifetime is 0, so that the host never begins a connection from it (RFC 6724, rule 3): that connection
// would break when the address moves. IPv6 addresses are added with IFA_F_NODAD, for the kernel's own duplicate address
// detection would keep them unusable for a second (RFC 4862, section 5.4); Check asks the same question faster. IPv4
// addresses are labelled, so that one that a crash left behind is recognised when the configuration has changed since.
//
// # How the neighbours learn of it
//
// By gratuitous ARP (RFC 5227, section 3) or unsolicited neighbour advertisements (RFC 4861, section 7.2.6): at once, four
// times more within three seconds, then now and then, for a switch or a router may have missed all of them. An interface
// without ARP, the loopback one included, is left silent: there the address is announced by something else, such as a
// routing protocol.
//
// # How a restart keeps them
//
// A run that ends for a successor leaves what it holds (Leave), and the successor finds it (Inherit). It stays as it was, with
// nothing said to the neighbours, until the successor knows whether this host should hold it, and no longer than the
// earlier run has answered for it; so a restart costs nothing, and prolongs nothing.
//
// # What it needs
//
// CAP_NET_ADMIN to add and remove addresses, CAP_NET_RAW for what is said to the neighbours and for Tickle.
package vip
