package join

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"standfast/certs"

	"github.com/google/renameio/v2"
)

// Lifetime is how long a token is good for, unless it is told otherwise.
const Lifetime = time.Hour

const idLength = 8

// Invitation lets one host become one member. Secret is not in it.
type Invitation struct {
	ID      string    `json:"id"`
	Member  string    `json:"member"`
	Address string    `json:"address"` // host name or IP address that the members reach it at
	File    string    `json:"file"`    // the new member's configuration
	Hash    []byte    `json:"hash"`    // SHA-256 of the token's secret, which has 128 bits of chance
	Made    time.Time `json:"made"`
	Expires time.Time `json:"expires"`
}

// Dir is the directory that holds the invitations of one member, one file each. They are not the cluster's: the first ones
// are needed while there is no majority yet that could agree on anything.
type Dir string

var (
	// ErrRefused says that a token is not, or no longer, good. Why is not told to whoever shows it.
	ErrRefused = errors.New("the token is not good here: it has been used, has expired, was revoked, or another member has made it; standfast token create makes a new one")

	// ErrNoInvitation says that there is none of that ID.
	ErrNoInvitation = errors.New("there is no such invitation")
)

// Invite makes an invitation of inv's Member, Address and File, good for the given time, and takes away those that have expired. The
// directory is made, with mode 0700, if it is not there.
func (d Dir) Invite(inv Invitation, pin certs.Pin, now time.Time, good time.Duration) (Token, error) {
	if err := os.MkdirAll(string(d), 0o700); err != nil {
		return Token{}, fmt.Errorf("invite %s: %w", inv.Member, err)
	}
	if err := d.prune(now); err != nil {
		return Token{}, fmt.Errorf("invite %s: %w", inv.Member, err)
	}
	t := Token{Member: inv.Member, ID: strings.ToLower(rand.Text()[:idLength]), Secret: rand.Text(), Pin: pin}
	inv.ID, inv.Hash, inv.Made, inv.Expires = t.ID, hash(t.Secret), now, now.Add(good)
	text, err := json.Marshal(inv)
	if err == nil {
		err = renameio.WriteFile(d.path(t.ID), text, 0o600, renameio.WithStaticPermissions(0o600))
	}
	if err != nil {
		return Token{}, fmt.Errorf("invite %s: %w", inv.Member, err)
	}
	return t, nil
}

// List gives the invitations that are still good, those that expire first before others.
func (d Dir) List(now time.Time) ([]Invitation, error) {
	all, err := d.all()
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(i Invitation) bool { return !now.Before(i.Expires) })
	slices.SortFunc(all, func(a, b Invitation) int { return a.Expires.Compare(b.Expires) })
	return all, nil
}

// Revoke takes an invitation back; ErrNoInvitation if there is none.
func (d Dir) Revoke(id string) error {
	if !validID(id) {
		return ErrNoInvitation
	}
	err := os.Remove(d.path(id))
	if errors.Is(err, fs.ErrNotExist) {
		return ErrNoInvitation
	}
	return err
}

// find returns the invitation that the token's secret belongs to, or ErrRefused. How long it takes says nothing of the secret.
func (d Dir) find(id, secret string, now time.Time) (Invitation, error) {
	var inv Invitation
	given := hash(secret)
	if !validID(id) {
		return inv, ErrRefused
	}
	inv, err := d.read(id)
	if errors.Is(err, fs.ErrNotExist) {
		return inv, ErrRefused
	}
	if err != nil {
		return inv, err
	}
	if subtle.ConstantTimeCompare(given, inv.Hash) != 1 || !now.Before(inv.Expires) {
		return Invitation{}, ErrRefused
	}
	return inv, nil
}

// redeem uses an invitation up. Of all who try at the same time one succeeds, the others get ErrRefused.
func (d Dir) redeem(id string) error {
	err := d.Revoke(id)
	if errors.Is(err, ErrNoInvitation) {
		return ErrRefused
	}
	return err
}

func (d Dir) prune(now time.Time) error {
	all, err := d.all()
	if err != nil {
		return err
	}
	for _, i := range all {
		if now.Before(i.Expires) {
			continue
		}
		if err := d.Revoke(i.ID); err != nil && !errors.Is(err, ErrNoInvitation) {
			return err
		}
	}
	return nil
}

func (d Dir) all() ([]Invitation, error) {
	entries, err := os.ReadDir(string(d))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read invitations: %w", err)
	}
	var out []Invitation
	for _, e := range entries {
		id, ok := strings.CutSuffix(e.Name(), ".json")
		if !ok || !validID(id) {
			continue
		}
		inv, err := d.read(id)
		if errors.Is(err, fs.ErrNotExist) {
			continue // used up meanwhile
		}
		if err != nil {
			return nil, err
		}
		out = append(out, inv)
	}
	return out, nil
}

func (d Dir) read(id string) (Invitation, error) {
	var inv Invitation
	text, err := os.ReadFile(d.path(id))
	if err == nil {
		err = json.Unmarshal(text, &inv)
	}
	if err != nil {
		return inv, fmt.Errorf("read invitation %s: %w", id, err)
	}
	return inv, nil
}

func (d Dir) path(id string) string { return filepath.Join(string(d), id+".json") }

func hash(secret string) []byte {
	sum := sha256.Sum256([]byte(secret))
	return sum[:]
}
