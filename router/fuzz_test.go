package router

import (
	"bytes"
	"testing"
)

// FuzzOpening: however what a stranger sends is cut into reads, nothing panics, a request is long enough to be taken apart, and
// what is taken for one inside TLS is the last record of what came.
func FuzzOpening(f *testing.F) {
	rec := func(kind byte, size int) []byte {
		return append([]byte{kind, 3, 3, byte(size >> 8), byte(size)}, make([]byte, size)...)
	}
	f.Add(bytes.Join([][]byte{rec(recordHandshake, 300), rec(recordSpec, 1), rec(recordSealed, finishedShort), rec(recordSealed, sealedCancel)}, nil), byte(7))
	f.Add([]byte{0, 0, 0, 16, 4, 210, 22, 46, 0, 0, 0, 1, 0, 0, 0, 2}, byte(3))
	f.Add([]byte{0, 0, 0, 16, 0x53, 0x46, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0}, byte(16))
	f.Fuzz(func(t *testing.T, sent []byte, step byte) {
		switch classify(sent) {
		case openCancel, openHandedOver:
			if len(keyOf(sent)) < 8 || len(recoded(sent, codeCancel)) != len(sent) {
				t.Fatalf("%x is no request", sent)
			}
		case openTLS:
			follow(t, sent, int(step)+1)
		}
	})
}

func follow(t *testing.T, sent []byte, step int) {
	t.Helper()
	var o tlsOpening
	for len(sent) > 0 {
		p := sent[:min(step, len(sent))]
		sent = sent[len(p):]
		cancel, over := o.feed(p)
		if cancel && (!over || len(p) < recordHeader+sealedCancel || p[len(p)-sealedCancel-recordHeader] != recordSealed) {
			t.Fatalf("%x ends in no CancelRequest", p)
		}
		if o.records > maxRecords+1 || o.rest < 0 {
			t.Fatalf("%+v", o)
		}
		if over {
			return
		}
	}
}
