package node

import (
	"iter"
	"net/netip"

	"standfast/vip"
)

// encodeFlows puts connections into bodies of at most so many bytes. A body is the two ends of one connection after the other,
// the local one first, each as netip.AddrPort's binary form behind its length.
func encodeFlows(list []vip.Flow, most int) [][]byte {
	var out [][]byte
	var body []byte
	for _, f := range list {
		var one []byte
		for _, end := range []netip.AddrPort{f.Local, f.Remote} {
			b, _ := end.MarshalBinary() // it can't fail
			one = append(append(one, byte(len(b))), b...)
		}
		if len(body)+len(one) > most {
			out, body = append(out, body), nil
		}
		body = append(body, one...)
	}
	if len(body) > 0 {
		out = append(out, body)
	}
	return out
}

// decodeFlows yields the connections in a body, as far as it can be read.
func decodeFlows(body []byte) iter.Seq[vip.Flow] {
	return func(yield func(vip.Flow) bool) {
		for {
			var f vip.Flow
			for _, end := range []*netip.AddrPort{&f.Local, &f.Remote} {
				if len(body) == 0 || len(body) <= int(body[0]) || end.UnmarshalBinary(body[1:1+body[0]]) != nil {
					return
				}
				body = body[1+body[0]:]
			}
			if !f.Local.IsValid() || f.Local.Addr().Is4() != f.Remote.Addr().Is4() || !yield(f) {
				return
			}
		}
	}
}
