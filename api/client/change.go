package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	"standfast/api"
)

// The changes below return when the operation has ended. progress is called for each step, from the calling goroutine,
// and may be nil. A refusal is an *api.Error. When ctx ends first, or the connection breaks, what was begun goes on.

// Switchover hands the primary's role over in order.
func (c *Client) Switchover(ctx context.Context, r api.SwitchoverRequest, progress func(api.Progress)) error {
	return c.anywhere(ctx, http.MethodPost, "/switchover", r, progress)
}

// CancelSwitchover withdraws a switchover or failover that has not begun.
func (c *Client) CancelSwitchover(ctx context.Context, progress func(api.Progress)) error {
	return c.anywhere(ctx, http.MethodDelete, "/switchover", nil, progress)
}

// Failover begins an election now.
func (c *Client) Failover(ctx context.Context, r api.FailoverRequest, progress func(api.Progress)) error {
	return c.anywhere(ctx, http.MethodPost, "/failover", r, progress)
}

// Restart restarts PostgreSQL on r.Member.
func (c *Client) Restart(ctx context.Context, r api.RestartRequest, progress func(api.Progress)) error {
	body := struct {
		api.RestartRequest
		Timeout string `json:"timeout,omitempty"`
	}{RestartRequest: r}
	if r.Timeout > 0 {
		body.Timeout = r.Timeout.String()
	}
	return c.member(ctx, r.Member, "/restart", body, progress)
}

// Reload makes r.Member read its configuration again.
func (c *Client) Reload(ctx context.Context, r api.ReloadRequest, progress func(api.Progress)) error {
	return c.member(ctx, r.Member, "/reload", r, progress)
}

// Reinitialize replaces the data of r.Member by a new copy of the primary's.
func (c *Client) Reinitialize(ctx context.Context, r api.ReinitializeRequest, progress func(api.Progress)) error {
	return c.member(ctx, r.Member, "/reinitialize", r, progress)
}

// RenewCertificate gives r.Member a new key and certificate.
func (c *Client) RenewCertificate(ctx context.Context, r api.RenewRequest, progress func(api.Progress)) error {
	return c.member(ctx, r.Member, "/certificate", r, progress)
}

// Shutdown stops the whole cluster in order. It returns when the primary has stopped; the others go on stopping.
func (c *Client) Shutdown(ctx context.Context, r api.ShutdownRequest, progress func(api.Progress)) error {
	return c.anywhere(ctx, http.MethodPost, "/shutdown", r, progress)
}

// Pause stops automatic failover for r.For, or api.DefaultPause.
func (c *Client) Pause(ctx context.Context, r api.PauseRequest, progress func(api.Progress)) error {
	body := map[string]any{}
	if r.DryRun {
		body["dry_run"] = true
	}
	if r.For != 0 {
		body["for"] = r.For.String()
	}
	return c.anywhere(ctx, http.MethodPost, "/pause", body, progress)
}

// Resume ends a pause.
func (c *Client) Resume(ctx context.Context, progress func(api.Progress)) error {
	return c.anywhere(ctx, http.MethodPost, "/resume", nil, progress)
}

// AddGrant makes an operator's token known, by its hash.
func (c *Client) AddGrant(ctx context.Context, g api.Grant) error {
	return c.anywhere(ctx, http.MethodPost, "/tokens", g, nil)
}

// RevokeGrant makes an operator's token useless.
func (c *Client) RevokeGrant(ctx context.Context, id string) error {
	return c.anywhere(ctx, http.MethodDelete, "/tokens", map[string]string{"id": id}, nil)
}

// AddMember takes a host into the cluster.
func (c *Client) AddMember(ctx context.Context, r api.AddMemberRequest, progress func(api.Progress)) error {
	return c.byOthers(ctx, http.MethodPost, r.Member.Name, r, progress)
}

// RemoveMember takes a member out of the cluster.
func (c *Client) RemoveMember(ctx context.Context, r api.RemoveMemberRequest, progress func(api.Progress)) error {
	return c.byOthers(ctx, http.MethodDelete, r.Name, r, progress)
}

// DropSlot drops a stranger's replication slot on a member.
func (c *Client) DropSlot(ctx context.Context, r api.DropSlotRequest, progress func(api.Progress)) error {
	return c.memberBy(ctx, http.MethodDelete, r.Member, "/slots", r, progress)
}

// byOthers sends a change of the members to one that it does not concern: whoever goes loses its part of the store midway, whoever comes has
// none yet.
func (c *Client) byOthers(ctx context.Context, method, name string, request any, progress func(api.Progress)) error {
	r, _, err := c.first(ctx, func(r Reply) bool { return r.Status.Store.OK && r.Status.Self != name })
	if err != nil {
		return err
	}
	if !r.Status.Store.OK || r.Status.Self == name {
		return api.Errorf(api.Unavailable, "no other member than %s answers that reaches a majority of the stores (etcd); see standfast status", name)
	}
	return c.encoded(ctx, r.from, method, "/members", request, progress)
}

// SetConfig changes the agreed configuration.
func (c *Client) SetConfig(ctx context.Context, r api.ConfigRequest, progress func(api.Progress)) error {
	to, err := c.withStore(ctx)
	if err != nil {
		return err
	}
	method, path, header := http.MethodPut, "/config", map[string]string{}
	if r.Patch {
		method = http.MethodPatch
	}
	if r.DryRun {
		path += "?dry_run=true"
	}
	if r.Revision > 0 {
		header["If-Match"] = strconv.Quote(strconv.FormatInt(r.Revision, 10))
	}
	return c.change(ctx, to.from, method, path, header, r.Body, progress)
}

// anywhere sends a change that concerns the cluster to the first member that answers and reaches the store.
func (c *Client) anywhere(ctx context.Context, method, path string, request any, progress func(api.Progress)) error {
	r, err := c.withStore(ctx)
	if err != nil {
		return err
	}
	return c.encoded(ctx, r.from, method, path, request, progress)
}

// member sends a change to the member itself: to the endpoint that answers by its name, or else to the address that
// the others know it by.
func (c *Client) member(ctx context.Context, name, path string, request any, progress func(api.Progress)) error {
	return c.memberBy(ctx, http.MethodPost, name, path, request, progress)
}

func (c *Client) memberBy(ctx context.Context, method, name, path string, request any, progress func(api.Progress)) error {
	if name == "" {
		return api.Errorf(api.Invalid, "which member? name one")
	}
	r, _, err := c.first(ctx, func(r Reply) bool { return r.Status.Self == name })
	if err != nil {
		return err
	}
	to := r.from
	if r.Status.Self != name {
		m := r.Status.Member(name)
		if m == nil {
			return api.Errorf(api.NotFound, "there is no member %s; see standfast status", name)
		}
		if to, err = parseEndpoint(m.Admin, c.secure); err != nil {
			return api.Errorf(api.Unavailable, "%s has no address for changes: %w", name, err)
		}
	}
	return c.encoded(ctx, to, method, path, request, progress)
}

func (c *Client) encoded(ctx context.Context, to endpoint, method, path string, request any, progress func(api.Progress)) error {
	var body []byte
	if request != nil {
		var err error
		if body, err = json.Marshal(request); err != nil {
			return api.Errorf(api.Invalid, "write the request: %w", err)
		}
	}
	return c.change(ctx, to, method, path, nil, body, progress)
}

// change sends one change and follows its lines to the outcome.
func (c *Client) change(ctx context.Context, to endpoint, method, path string, header map[string]string, body []byte, progress func(api.Progress)) error {
	began := time.Now()
	resp, err := c.do(ctx, to, method, path, "application/x-ndjson", header, bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		return refusal(to, resp)
	}
	lines := json.NewDecoder(resp.Body)
	for {
		var l api.Line
		if err := lines.Decode(&l); err != nil {
			return broken(ctx, to, began, err)
		}
		switch {
		case l.Done && l.Error != nil && ctx.Err() != nil:
			return ctx.Err() // the member tells of our own going
		case l.Done && l.Error != nil:
			return l.Error
		case l.Done:
			return nil
		case l.Progress != nil && progress != nil:
			progress(*l.Progress)
		}
	}
}

// broken: the lines ended without an outcome, so that only the status can tell.
func broken(ctx context.Context, to endpoint, began time.Time, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = errors.New("it closed the connection")
	}
	return api.Errorf(api.Unavailable, "%s: the outcome is not known after %.0f s, look at the status: %w", to, time.Since(began).Seconds(), err)
}
