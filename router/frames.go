package router

import "encoding/binary"

// frames follows the boundaries of the server's messages in a plaintext session, whatever the pieces in which they
// arrive: each is a type byte, a length that counts itself, and a body.
type frames struct {
	left int     // bytes of the present message's body to come
	head [5]byte // a header that was split between two pieces
	have int     // bytes of it
	kind byte    // of the present message
	key  []byte  // body of BackendKeyData, as far as it has come

	broken  bool // not PostgreSQL's protocol after all
	started bool // the server has been ready for a query once
	ready   bool // the server waits for a query; the session clears it when the client sends something
}

// maxKey is the longest body of BackendKeyData: the process number and a secret of at most 256 bytes (protocol 3.2).
const maxKey = 4 + 256

// feed follows one piece. It returns the session's cancel key when the piece completed it.
func (f *frames) feed(p []byte) (key cancelKey) {
	for len(p) > 0 && !f.broken {
		switch {
		case f.left > 0:
			n := min(f.left, len(p))
			if f.kind == 'K' {
				f.key = append(f.key, p[:n]...)
			}
			p = p[n:]
			f.left -= n
		case f.have == 0 && len(p) >= 5:
			f.begin(p[0], binary.BigEndian.Uint32(p[1:]))
			p = p[5:]
		default:
			n := copy(f.head[f.have:], p)
			p = p[n:]
			if f.have += n; f.have == 5 {
				f.have = 0
				f.begin(f.head[0], binary.BigEndian.Uint32(f.head[1:]))
			}
		}
		if f.left == 0 && f.have == 0 && f.end() {
			key = cancelKey(f.key)
			f.key = nil
		}
	}
	return key
}

func (f *frames) begin(kind byte, length uint32) {
	f.kind, f.left = kind, int(length)-4
	f.broken = length < 4 || length > 1<<30 || kind == 'K' && f.left > maxKey
}

// end notes a complete message; true: it was BackendKeyData.
func (f *frames) end() bool {
	switch f.kind {
	case 'Z':
		f.started, f.ready = true, true
	case 'K':
		return len(f.key) > 4
	}
	return false
}

// between reports whether the last message is complete, so that another may follow it.
func (f *frames) between() bool { return !f.broken && f.left == 0 && f.have == 0 }

// unasked reports whether the client awaits no answer to any statement, so that an error can't be taken for one.
func (f *frames) unasked() bool { return f.between() && (f.ready || !f.started) }
