package relay

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// Codes of the first message ("Message Formats": CancelRequest, SSLRequest, GSSENCRequest, StartupMessage).
const (
	codeCancel = 80877102
	codeSSL    = 80877103
	codeGSSEnc = 80877104

	maxStartup = 10000    // bytes, as MAX_STARTUP_PACKET_LENGTH
	maxMessage = 64 << 10 // bytes of one message before replication starts
)

// caller is who may come to the socket.
type caller int

const (
	walReceiver caller = iota
	slotSync           // see slotsync.go
)

// SQLSTATEs of what is refused ("PostgreSQL Error Codes").
const (
	codeStranger = "28000" // invalid_authorization_specification
	codeNotNow   = "57P03" // cannot_connect_now
)

// greet reads a connection's StartupMessage and finds out which of this member's callers it is. It answers only what it
// refuses, with a FATAL message.
func greet(conn *net.UnixConn, self string) ([]byte, caller, error) {
	conn.SetDeadline(time.Now().Add(greetTimeout))
	hello, err := readStartup(conn)
	var who caller
	if err == nil {
		who, err = checkStartup(hello, self)
	}
	if err != nil {
		conn.Write(fatal(codeStranger, err.Error())) // best effort: it is being closed
		return nil, who, err
	}
	return hello, who, conn.SetDeadline(time.Time{})
}

// readStartup returns the StartupMessage, its length included. Requests for encryption, which libpq does not make over
// a Unix socket, are declined.
func readStartup(conn io.ReadWriter) ([]byte, error) {
	for range 3 {
		var head [8]byte
		if _, err := io.ReadFull(conn, head[:]); err != nil {
			return nil, fmt.Errorf("read the StartupMessage: %w", err)
		}
		n, code := binary.BigEndian.Uint32(head[:]), binary.BigEndian.Uint32(head[4:])
		switch {
		case code == codeSSL || code == codeGSSEnc:
			if _, err := conn.Write([]byte{'N'}); err != nil {
				return nil, err
			}
			continue
		case code == codeCancel:
			return nil, errors.New("cancel requests do not go through the relay")
		case code>>16 != 3:
			return nil, fmt.Errorf("protocol %d.%d is not spoken here, only 3", code>>16, code&0xffff)
		case n < 9 || n > maxStartup:
			return nil, fmt.Errorf("StartupMessage of %d bytes", n)
		}
		msg := make([]byte, n)
		copy(msg, head[:])
		_, err := io.ReadFull(conn, msg[8:])
		return msg, err
	}
	return nil, errors.New("too many requests for encryption")
}

// checkStartup tells the member's WAL receiver and its slot synchronization apart, and says what is wrong with anyone else's
// StartupMessage. The latter is known by the absence of "replication": what it logs in to can't become a WAL sender.
func checkStartup(msg []byte, self string) (caller, error) {
	p, err := parameters(msg[8:])
	if err != nil {
		return 0, err
	}
	mode, replication := p["replication"]
	physical, err := strconv.ParseBool(mode)
	switch {
	case p["user"] != User:
		return 0, fmt.Errorf("user %q may not use this socket: it is for the WAL receiver, as %s", p["user"], User)
	case p["application_name"] != self:
		return 0, fmt.Errorf("application_name is %q, must be the member's name %q: check primary_conninfo", p["application_name"], self)
	case !replication && p["database"] == Database:
		return slotSync, nil
	case !replication:
		return 0, fmt.Errorf("database %q: only slot synchronization goes through this socket without replication, to database %q", p["database"], Database)
	case err != nil || !physical:
		return 0, fmt.Errorf("replication=%q: only physical replication goes through this socket", mode)
	}
	return walReceiver, nil
}

// parameters reads the pairs of a StartupMessage, after its protocol version.
func parameters(b []byte) (map[string]string, error) {
	fields := strings.Split(string(b), "\x00")
	// Each string ends in a zero byte, and so does the whole: the last two fields are empty.
	if len(fields) < 2 || len(fields)%2 != 0 || fields[len(fields)-1] != "" || fields[len(fields)-2] != "" {
		return nil, errors.New("malformed StartupMessage")
	}
	p := make(map[string]string)
	for i := 0; i+1 < len(fields)-2; i += 2 {
		p[fields[i]] = fields[i+1]
	}
	return p, nil
}

// readMessage returns one message of a client, type and length included.
func readMessage(in *bufio.Reader) ([]byte, error) {
	head, err := in.Peek(5)
	if err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n < 4 || n > maxMessage {
		return nil, fmt.Errorf("message %q of %d bytes before replication has started", head[0], n)
	}
	msg := make([]byte, 1+n)
	_, err = io.ReadFull(in, msg)
	return msg, err
}

// checkCommand reports whether a message is START_REPLICATION ("Streaming Replication Protocol"), and fails if it does
// not use the member's own slot.
func checkCommand(msg []byte, slot string) (start bool, err error) {
	if msg[0] != 'Q' {
		return false, nil
	}
	words := strings.Fields(string(bytes.TrimRight(msg[5:], "\x00")))
	if len(words) == 0 || !strings.EqualFold(words[0], "START_REPLICATION") {
		return false, nil
	}
	if len(words) < 3 || !strings.EqualFold(words[1], "SLOT") {
		return true, fmt.Errorf("replication was asked for without a slot: set primary_slot_name to %q", slot)
	}
	if got := strings.Trim(words[2], `"`); got != slot {
		return true, fmt.Errorf("replication was asked for with slot %q, must be the member's own: set primary_slot_name to %q", got, slot)
	}
	return true, nil
}

// fatal is an ErrorResponse that ends a connection ("Error and Notice Message Fields").
func fatal(code, text string) []byte {
	var body []byte
	for _, f := range []string{"SFATAL", "VFATAL", "C" + code, "Mstandfast relay: " + text} {
		body = append(append(body, f...), 0)
	}
	body = append(body, 0)
	msg := binary.BigEndian.AppendUint32([]byte{'E'}, uint32(4+len(body)))
	return append(msg, body...)
}
