// Package redirect holds the fast path: rules of nftables that take new connections to a floating address straight to
// the PostgreSQL of this host, in the kernel. They then cost what a direct connection costs, and PostgreSQL sees the
// client's own address.
//
// All rules are in a table of our own, named standfast; no other is touched. Only connections from other hosts are
// redirected. Those that this host's own programs begin, and all while no rule is set, reach the router.
//
// # What becomes of connections when the rules go
//
// The kernel translates an established connection as it was translated at its beginning, but only while a chain of type
// nat exists and some rule uses its connection tracking. So Set without rules leaves the chain in place, with one rule
// that does nothing but that: PostgreSQL's last words ("terminating connection due to administrator command") still reach
// the clients. Close removes the table, and with it connections that PostgreSQL has not ended.
//
// # Firewalls
//
// The site's firewall sees a redirected connection as one to PostgreSQL's port, and may forbid that while it allows the
// router's. The client would wait for nothing. So connections are counted where they are redirected and once more behind
// every other table's input rules; what is lost between was dropped (Check).
package redirect

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Rule takes new connections to one address to another one of this host, of the same IP version.
type Rule struct {
	From netip.AddrPort // the floating address and the router's port
	To   netip.AddrPort // PostgreSQL
}

func (r Rule) String() string { return r.From.String() + " to " + r.To.String() }

// ErrBlocked says that the site's firewall drops redirected connections.
var ErrBlocked = errors.New("the firewall of this host drops redirected connections")

// Table is the fast path of this host. Its methods may be called from any goroutine.
type Table struct {
	mu      sync.Mutex
	there   bool // the table exists
	rules   []Rule
	blocked error  // by the rules that were set last
	sent    uint64 // redirected, as of the last Check
	arrived uint64
	lossy   bool // the last Check found losses
}

const (
	tableName = "standfast"
	entrance  = "redirect" // type nat, at prerouting
	exit      = "arrived"  // type filter, at input, behind every other
)

// behindAll orders the counting chain after every filter that a site may have and before conntrack's confirmation.
const behindAll = nftables.ChainPriority(1 << 30)

func table() *nftables.Table {
	return &nftables.Table{Name: tableName, Family: nftables.TableFamilyINet}
}

// Clean removes the table that an earlier run may have left behind.
func (t *Table) Clean() error { return t.Close() }

// Close removes the table. Without one it does nothing.
func (t *Table) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.there, t.rules, t.blocked = false, nil, nil
	c, err := nftables.New()
	if err != nil {
		return explain("remove", err)
	}
	c.AddTable(table()) // so that removing it succeeds whether it was there or not
	c.DelTable(table())
	return explain("remove", c.Flush())
}

// Set makes exactly these rules hold for new connections, in one step. It does nothing when they hold already. Rules that
// Check has found blocked stay out until other ones have been set.
func (t *Table) Set(rules []Rule) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if slices.Equal(rules, t.rules) {
		return t.blocked
	}
	for _, r := range rules {
		if r.From.Addr().Is4() != r.To.Addr().Is4() {
			return fmt.Errorf("redirect %s: PostgreSQL listens on an address of the other IP version; give the member's address in the same one, or leave router.fast_path off", r)
		}
	}
	if err := t.write(rules); err != nil {
		return err
	}
	t.rules, t.blocked = slices.Clone(rules), nil
	t.sent, t.arrived, t.lossy = 0, 0, false // new rules count from 0
	return nil
}

// write replaces the rules in one transaction.
func (t *Table) write(rules []Rule) error {
	if len(rules) == 0 && !t.there {
		return nil
	}
	c, err := nftables.New()
	if err != nil {
		return explain("set", err)
	}
	tab := c.AddTable(table())
	in := c.AddChain(&nftables.Chain{Name: entrance, Table: tab, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityNATDest})
	out := c.AddChain(&nftables.Chain{Name: exit, Table: tab, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookInput, Priority: nftables.ChainPriorityRef(behindAll)})
	c.FlushChain(in)
	c.FlushChain(out)
	c.AddRule(&nftables.Rule{Table: tab, Chain: in, Exprs: []expr.Any{&expr.Ct{Register: 1, Key: expr.CtKeySTATUS}}}) // see the package's comment
	for _, r := range rules {
		c.AddRule(&nftables.Rule{Table: tab, Chain: in, Exprs: slices.Concat(opens(r.From), []expr.Any{&expr.Counter{}}, translate(r.To))})
		c.AddRule(&nftables.Rule{Table: tab, Chain: out, Exprs: slices.Concat(opens(r.To), translated(), []expr.Any{&expr.Counter{}})})
	}
	if err := c.Flush(); err != nil {
		return explain("set", err)
	}
	t.there = true
	return nil
}

// Check looks whether redirected connections arrive, and takes the rules out when none did since the last time, or some
// did not twice in a row (once may be a limit on the rate). It then returns ErrBlocked, wrapped, until other rules are set.
func (t *Table) Check() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.rules) == 0 || t.blocked != nil {
		return t.blocked
	}
	sent, err := count(entrance) // first: what is counted here is then on its way, or there
	if err != nil {
		return err
	}
	arrived, err := count(exit)
	if err != nil {
		return err
	}
	came, went := arrived-t.arrived, sent-t.sent
	t.sent, t.arrived = sent, arrived
	lossy := came < went
	if lossy && (came == 0 || t.lossy) {
		if err := t.write(nil); err != nil {
			return err
		}
		t.blocked = fmt.Errorf("%w: allow port %d from the clients, or leave router.fast_path off; the router serves all meanwhile", ErrBlocked, t.rules[0].To.Port())
	}
	t.lossy = lossy
	return t.blocked
}

// count adds up the packets that a chain's rules have counted.
func count(chain string) (uint64, error) {
	c, err := nftables.New()
	if err != nil {
		return 0, explain("look at", err)
	}
	rules, err := c.GetRules(table(), &nftables.Chain{Name: chain, Table: table()})
	if err != nil {
		return 0, explain("look at", err)
	}
	var n uint64
	for _, r := range rules {
		for _, e := range r.Exprs {
			if k, ok := e.(*expr.Counter); ok {
				n += k.Packets
			}
		}
	}
	return n, nil
}

// opens matches the first packet of a connection from another host to the address. The flag matters: when the chain comes
// into being the kernel begins to track connections that exist already, of the router's for instance, takes whatever comes
// next for their beginning, and would translate that.
func opens(to netip.AddrPort) []expr.Any {
	family, offset := byte(unix.NFPROTO_IPV4), uint32(16) // RFC 791, section 3.1
	if to.Addr().Is6() {
		family, offset = unix.NFPROTO_IPV6, 24 // RFC 8200, section 3
	}
	const ports, flags = 2, 13 // RFC 9293, section 3.1
	lo := make([]byte, unix.IFNAMSIZ)
	copy(lo, "lo")
	equal := func(data []byte) expr.Any { return &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: data} }
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1}, &expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: lo},
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1}, equal([]byte{family}),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: uint32(to.Addr().BitLen() / 8)}, equal(to.Addr().AsSlice()),
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, equal([]byte{unix.IPPROTO_TCP}),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: ports, Len: 2}, equal(port(to)),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: flags, Len: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 1, Mask: []byte{fin | syn | rst | ack}, Xor: []byte{0}}, equal([]byte{syn}),
	}
}

// TCP's control bits.
const fin, syn, rst, ack = 0x01, 0x02, 0x04, 0x10

func port(a netip.AddrPort) []byte { return binary.BigEndian.AppendUint16(nil, a.Port()) }

// translate sends the connection elsewhere.
func translate(to netip.AddrPort) []expr.Any {
	family := uint32(unix.NFPROTO_IPV4)
	if to.Addr().Is6() {
		family = unix.NFPROTO_IPV6
	}
	return []expr.Any{
		&expr.Immediate{Register: 1, Data: to.Addr().AsSlice()},
		&expr.Immediate{Register: 2, Data: port(to)},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: family, RegAddrMin: 1, RegProtoMin: 2, Specified: true},
	}
}

// translated matches packets of connections that were sent elsewhere: IPS_DST_NAT of linux/netfilter/nf_conntrack_common.h.
func translated() []expr.Any {
	const ipsDstNAT = 1 << 5
	return []expr.Any{
		&expr.Ct{Register: 1, Key: expr.CtKeySTATUS},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(ipsDstNAT), Xor: []byte{0, 0, 0, 0}},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: []byte{0, 0, 0, 0}},
	}
}

// explain says what an error of nftables means here.
func explain(what string, err error) error {
	why := ""
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EPERM):
		why = "; the member needs CAP_NET_ADMIN: see AmbientCapabilities in its systemd unit"
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOENT), errors.Is(err, unix.EPROTONOSUPPORT), errors.Is(err, unix.EAFNOSUPPORT):
		why = "; this kernel has no nftables with NAT for the family inet (Linux 5.2), or its modules can't be loaded"
	}
	return fmt.Errorf("%s the fast path's rules: %w%s; the router serves all meanwhile", what, err, why)
}
