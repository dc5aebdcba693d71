package ops

import (
	"context"
	"time"

	"standfast/api"
)

// CreateToken makes a token for an operator. Only its hash leaves this process, so the token is known to nobody else.
func (c *Cluster) CreateToken(ctx context.Context, operator string, role api.Access, good time.Duration) (token string, g api.Grant, err error) {
	if err := c.changeable(); err != nil {
		return "", g, err
	}
	token, _ = api.NewToken()
	g = api.Grant{Operator: operator, Role: role, Expires: time.Now().Add(good).Truncate(time.Second)}
	g.ID, g.Hash = api.HashToken(token)
	return token, g, c.AddGrant(ctx, g)
}

// Tokens lists the operators' tokens.
func (c *Cluster) Tokens(ctx context.Context) ([]api.Grant, error) {
	if err := c.changeable(); err != nil {
		return nil, err
	}
	return c.Grants(ctx)
}

// RevokeToken makes one useless.
func (c *Cluster) RevokeToken(ctx context.Context, id string) error {
	if err := c.changeable(); err != nil {
		return err
	}
	return c.RevokeGrant(ctx, id)
}
