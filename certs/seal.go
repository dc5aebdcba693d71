package certs

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
)

// sealed is an authority whose key only those can use who have the cluster's secret.
type sealed struct {
	Cert  string `json:"cert"` // PEM
	Nonce []byte `json:"nonce"`
	Key   []byte `json:"key"` // PEM, by AES-256-GCM; Cert is authenticated with it
}

// ErrSealed says that a sealed authority can't be opened: the secret is not the one that it was sealed with.
var ErrSealed = errors.New("the sealed certificate authority can't be opened with this secret")

// Seal gives the authority in a form that is of no use without the secret, which has to be as hard to guess as a key.
func (ca *CA) Seal(secret []byte) ([]byte, error) {
	box, err := boxOf(secret)
	if err != nil {
		return nil, fmt.Errorf("seal certificate authority: %w", err)
	}
	s := sealed{Cert: string(ca.Cert), Nonce: make([]byte, box.NonceSize())}
	if _, err := rand.Read(s.Nonce); err != nil {
		return nil, fmt.Errorf("seal certificate authority: %w", err)
	}
	s.Key = box.Seal(nil, s.Nonce, ca.Key, ca.Cert)
	return json.Marshal(s)
}

// Open gives back what Seal was given. The error is ErrSealed if the secret is another one, or the text was changed.
func Open(text, secret []byte) (*CA, error) {
	var s sealed
	if err := json.Unmarshal(text, &s); err != nil {
		return nil, fmt.Errorf("open certificate authority: %w", err)
	}
	box, err := boxOf(secret)
	if err != nil {
		return nil, fmt.Errorf("open certificate authority: %w", err)
	}
	if len(s.Nonce) != box.NonceSize() {
		return nil, ErrSealed
	}
	key, err := box.Open(nil, s.Nonce, s.Key, []byte(s.Cert))
	if err != nil {
		return nil, ErrSealed
	}
	return ParseCA(Pair{[]byte(s.Cert), key})
}

func boxOf(secret []byte) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, secret, nil, "standfast: certificate authority", 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}
