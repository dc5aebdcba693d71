package deploy

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
)

// rounds is PostgreSQL's own default (scram_iterations).
const rounds = 4096

// verifier is what PostgreSQL keeps of a password (RFC 5803; pg_authid, rolpassword). It is made here, so that the password itself does
// not reach the server's log or statistics. SASLprep (RFC 4013) changes nothing of printable ASCII, and other passwords are refused.
func verifier(password string) (string, error) {
	for _, c := range password {
		if c < ' ' || c > '~' {
			return "", fmt.Errorf("make what PostgreSQL keeps of a password: use printable ASCII only")
		}
	}
	salt := make([]byte, 16)
	_, _ = rand.Read(salt) // it never fails (crypto/rand)
	return verifierWith(password, salt)
}

func verifierWith(password string, salt []byte) (string, error) {
	salted, err := pbkdf2.Key(sha256.New, password, salt, rounds, sha256.Size)
	if err != nil {
		return "", fmt.Errorf("make what PostgreSQL keeps of a password: %w", err)
	}
	mac := func(text string) []byte {
		h := hmac.New(sha256.New, salted)
		h.Write([]byte(text))
		return h.Sum(nil)
	}
	stored := sha256.Sum256(mac("Client Key"))
	enc := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", rounds, enc(salt), enc(stored[:]), enc(mac("Server Key"))), nil
}
