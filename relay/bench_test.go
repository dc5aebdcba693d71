package relay

import (
	"io"
	"net"
	"testing"
)

// BenchmarkThroughput is the stream from primary to receiver, in WAL-sized writes.
func BenchmarkThroughput(b *testing.B) {
	const chunk = 128 << 10
	run := func(b *testing.B, recv, prim net.Conn) {
		b.SetBytes(chunk)
		done := make(chan struct{})
		go func() {
			defer close(done)
			io.CopyN(io.Discard, recv, int64(b.N)*chunk)
		}()
		buf := make([]byte, chunk)
		b.ResetTimer()
		for range b.N {
			write(b, prim, buf)
		}
		<-done
	}
	b.Run("plain", func(b *testing.B) {
		recv, prim := stream(b, open(b, nil), 1)
		run(b, recv, prim)
	})
	b.Run("tls", func(b *testing.B) {
		ca := newAuthority(b)
		r := open(b, func(c *Config) { c.TLS = ca.client(b, "pg2") })
		p := listenPrimary(b)
		recv := connect(b, r)
		if err := r.Attach(1, 1, p.addr()); err != nil {
			b.Fatal(err)
		}
		prim := ca.server(b, p.accept(b))
		expect(b, prim, hello)
		introduce(b, recv, prim, 1)
		run(b, recv, prim)
	})
}
