package join

import (
	"errors"
	"fmt"
	"strings"

	"standfast/certs"
)

// Token is what an administrator carries to the host that is to join. It is a secret.
type Token struct {
	Member string // whom it makes of the host
	ID     string // of the invitation
	Secret string
	Pin    certs.Pin // the cluster's certificate authority
}

// String is the token as it is pasted: four parts with dots between.
func (t Token) String() string {
	return strings.Join([]string{t.Member, t.ID, t.Secret, t.Pin.String()}, ".")
}

// ErrToken says that a text is no token.
var ErrToken = errors.New("this is not a token for joining: it has four parts with dots between them, and begins with the member's name; paste all of it")

// ParseToken reads a token, with white space around it.
func ParseToken(text string) (Token, error) {
	parts := strings.Split(strings.TrimSpace(text), ".")
	if len(parts) != 4 || parts[0] == "" || !validID(parts[1]) || parts[2] == "" {
		return Token{}, ErrToken
	}
	pin, err := certs.ParsePin(parts[3])
	if err != nil {
		return Token{}, fmt.Errorf("%w (its last part: %w)", ErrToken, err)
	}
	return Token{parts[0], parts[1], parts[2], pin}, nil
}

// validID keeps what a stranger sends from being anything but the name of a file.
func validID(id string) bool {
	return len(id) == idLength && strings.Trim(id, "abcdefghijklmnopqrstuvwxyz234567") == ""
}
