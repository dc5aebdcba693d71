package api

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"net/http"
	"regexp"
	"strings"
	"time"
)

// Access is what a token is good for. Looking at the cluster needs none.
type Access string

const (
	Read    Access = "read"    // the agreed configuration without secret addresses, which may hold what is nobody else's business
	Operate Access = "operate" // and every change but of tokens
	Admin   Access = "admin"   // and tokens: the cluster's own token, which lies in a file on each member
)

// Operator is who a token belongs to.
type Operator struct {
	Name   string
	Access Access
}

// Grant is one operator's token as the members know it: by its hash.
type Grant struct {
	ID       string    `json:"id"`
	Operator string    `json:"operator"`
	Role     Access    `json:"role"`
	Hash     string    `json:"hash,omitempty"` // of the token, HashToken's; never told
	By       string    `json:"by,omitempty"`   // who made it
	Created  time.Time `json:"created,omitzero"`
	Expires  time.Time `json:"expires"`
}

// Grants keeps the operators' tokens where all members know them.
type Grants interface {
	Grants(ctx context.Context) ([]Grant, error) // without hashes
	AddGrant(ctx context.Context, g Grant) error // Conflict if there is one of that ID
	RevokeGrant(ctx context.Context, id string) error
}

const tokenPrefix = "op-"

var plainBase32 = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// NewToken makes a token of 256 random bits, so that its hash needs no salt and can't be guessed from.
func NewToken() (token, id string) {
	var b [37]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	id = tokenPrefix + plainBase32.EncodeToString(b[:5])
	return id + "." + plainBase32.EncodeToString(b[5:]), id
}

// HashToken is how a token is kept, and the ID by which it is found; "" if it is no operator's.
func HashToken(token string) (id, hash string) {
	id, secret, _ := strings.Cut(token, ".")
	if !strings.HasPrefix(id, tokenPrefix) || secret == "" {
		return "", ""
	}
	sum := sha256.Sum256([]byte(token))
	return id, hex.EncodeToString(sum[:])
}

// IsGrant reports whether an ID is of an operator's token.
func IsGrant(id string) bool { return strings.HasPrefix(id, tokenPrefix) }

var (
	operatorName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._@-]{0,62}$`)
	grantID      = regexp.MustCompile(`^op-[a-z2-7]{8}$`)
	grantHash    = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// OwnOperator is whom the cluster's own token belongs to.
const OwnOperator = "operator"

// check says what is wrong with a token that is to be added.
func (g Grant) check(now time.Time) error {
	switch {
	case !grantID.MatchString(g.ID) || !grantHash.MatchString(g.Hash):
		return Errorf(Invalid, "id and hash: make the token with standfast token create, and send what it sends")
	case !operatorName.MatchString(g.Operator):
		return Errorf(Invalid, "operator: %q can't name somebody; letters, digits, . _ @ and - can, 63 at most", g.Operator)
	case g.Operator == OwnOperator:
		return Errorf(Invalid, "operator: %s is whom the cluster's own token belongs to; give another name", g.Operator)
	case g.Role != Read && g.Role != Operate:
		return Errorf(Invalid, "role: read or operate, not %q", g.Role)
	case !g.Expires.After(now):
		return Errorf(Invalid, "expires: %s is over", g.Expires.Format(time.RFC3339))
	}
	return nil
}

// needs is what a request on the TLS side asks of its token.
func needs(r *http.Request) Access {
	switch {
	case r.URL.Path == "/logs", r.URL.Path == "/support":
		return Operate // what clients said may stand in PostgreSQL's
	case isReading(r.Method):
		return Read
	case r.URL.Path == "/tokens":
		return Admin
	}
	return Operate
}

// allow refuses what a token is not good for.
func (o Operator) allow(r *http.Request) error {
	switch need := needs(r); {
	case o.Access == Admin || need == Read || need == o.Access:
		return nil
	case need == Admin:
		return Errorf(Forbidden, "tokens are made and revoked with the cluster's own token: on a member, as root")
	}
	return Errorf(Forbidden, "the token of %s may only read; a change needs one that was made with --role operate", o.Name)
}

func (c *changes) getGrants(w http.ResponseWriter, r *http.Request) {
	if c.grants == nil {
		c.fail(w, r, Errorf(NotFound, "this member keeps no operators' tokens"))
		return
	}
	all, err := c.grants.Grants(r.Context())
	if err != nil {
		c.fail(w, r, err)
		return
	}
	c.health.write(w, r, jsonAnswer(append([]Grant{}, all...)))
}

func parseAddGrant(c *changes, r *parsed) (act, error) {
	var g Grant
	if err := decode(r.body, &g); err != nil {
		return nil, err
	}
	if c.grants == nil {
		return nil, Errorf(NotFound, "this member keeps no operators' tokens")
	}
	now := time.Now()
	if err := g.check(now); err != nil {
		return nil, err
	}
	g.By, g.Created = r.by.Operator, now
	return func(ctx context.Context, progress func(Progress)) error { return c.grants.AddGrant(ctx, g) }, nil
}

// revocation is the body of DELETE /tokens.
type revocation struct {
	ID string `json:"id"`
}

func parseRevokeGrant(c *changes, r *parsed) (act, error) {
	var v revocation
	if err := decode(r.body, &v); err != nil {
		return nil, err
	}
	if c.grants == nil || !grantID.MatchString(v.ID) {
		return nil, Errorf(NotFound, "there is no token %q", v.ID)
	}
	return func(ctx context.Context, progress func(Progress)) error { return c.grants.RevokeGrant(ctx, v.ID) }, nil
}
