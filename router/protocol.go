package router

import (
	"encoding/binary"

	"github.com/jackc/pgx/v5/pgproto3"
)

// The codes that a client's first message may carry where a session's StartupMessage has its protocol version
// ("Frontend/Backend Protocol", section "Message Formats").
const (
	codeCancel = 80877102
	codeSSL    = 80877103
	codeGSS    = 80877104
)

// What one router sends another has the form of a CancelRequest and one of these codes, which PostgreSQL takes for versions
// of the protocol that it does not speak.
const (
	codeHandedOver = 0x53460001 // a CancelRequest
	codeMaySealed  = 0x53460002 // the question whether one inside TLS may be delivered
)

// maxStartup is the longest first message that PostgreSQL accepts (MAX_STARTUP_PACKET_LENGTH).
const maxStartup = 10000

// tlsHandshake is the first byte of a TLS ClientHello: since PostgreSQL 17 a client may begin with it.
const tlsHandshake = 0x16

// opening is what a client's first message turned out to be.
type opening uint8

const (
	openPartial    opening = iota // more of it has to come
	openStartup                   // a plaintext session
	openSecure                    // SSLRequest or GSSENCRequest: the server answers with one byte
	openTLS                       // TLS at once
	openCancel                    // a CancelRequest
	openHandedOver                // what another router was sent, or asks
	openJunk                      // nothing that PostgreSQL would take
)

// classify tells what the first message is. A message is complete when this returns anything but openPartial, except
// that what follows TLS's first byte is none of the router's business.
func classify(p []byte) opening {
	if len(p) > 0 && p[0] == tlsHandshake {
		return openTLS
	}
	if len(p) < 8 {
		return openPartial
	}
	n, code := binary.BigEndian.Uint32(p), binary.BigEndian.Uint32(p[4:])
	if n < 8 || n > maxStartup {
		return openJunk
	}
	if len(p) < int(n) {
		return openPartial
	}
	switch code {
	case codeCancel, codeHandedOver, codeMaySealed:
		switch {
		case n < 16:
			return openJunk
		case code != codeCancel:
			return openHandedOver
		}
		return openCancel
	case codeSSL, codeGSS:
		return openSecure
	}
	return openStartup
}

// cancelKey is a backend's process number and secret key as they stand in BackendKeyData and in a CancelRequest.
type cancelKey string

// keyOf returns the key that a complete CancelRequest carries.
func keyOf(cancel []byte) cancelKey {
	return cancelKey(cancel[8:binary.BigEndian.Uint32(cancel)])
}

// refusal is an error that ends a connection: PostgreSQL's SQLSTATE and a sentence.
type refusal struct{ code, text string }

// SQLSTATEs ("PostgreSQL Error Codes").
const (
	cannotConnectNow   = "57P03"
	adminShutdown      = "57P01"
	tooManyConnections = "53300"
)

// encode returns the ErrorResponse.
func (r refusal) encode() []byte {
	msg := pgproto3.ErrorResponse{Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: r.code, Message: r.text}
	b, err := msg.Encode(nil)
	if err != nil {
		return nil // only for a message of a gigabyte
	}
	return b
}

// notNow reports whether the piece is PostgreSQL's error "cannot connect now", and its text: the server starts, stops or
// recovers, which may be over in a moment.
func notNow(p []byte) (text string, ok bool) {
	if len(p) < 5 || p[0] != 'E' || binary.BigEndian.Uint32(p[1:]) != uint32(len(p)-1) {
		return "", false
	}
	var e pgproto3.ErrorResponse
	if err := e.Decode(p[5:]); err != nil || e.Code != cannotConnectNow {
		return "", false
	}
	return e.Message, true
}
