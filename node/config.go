package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/goccy/go-yaml"

	"standfast/api"
	"standfast/config"
	"standfast/store"
)

// Pause stops automatic failover for a while, Resume lets it go on.
func (n *Node) Pause(ctx context.Context, r api.PauseRequest, progress func(api.Progress)) error {
	until := time.Now().Add(r.For).UTC().Truncate(time.Second)
	if r.DryRun {
		progress(api.Progress{Step: "dry run", Text: "automatic failover would be off until " + until.Format("2006-01-02 15:04:05 MST") +
			", or until it is resumed: a primary that dies is not replaced meanwhile; PostgreSQL, replication and what operators ask for go on"})
		return nil
	}
	if err := n.changeConfig(ctx, "paused_until", until.Format(time.RFC3339)); err != nil {
		return err
	}
	progress(api.Progress{Step: "paused", Text: "automatic failover is paused until " + until.Format("2006-01-02 15:04:05 MST")})
	return nil
}

// Resume ends a pause.
func (n *Node) Resume(ctx context.Context, r api.ResumeRequest, progress func(api.Progress)) error {
	if r.DryRun {
		progress(api.Progress{Step: "dry run", Text: "automatic failover would be on again at once: a primary that is dead or dies is replaced"})
		return nil
	}
	if err := n.changeConfig(ctx, "paused_until", ""); err != nil {
		return err
	}
	progress(api.Progress{Step: "resumed", Text: "automatic failover is on again"})
	return nil
}

// changeConfig changes one key, again if somebody else changed another meanwhile.
func (n *Node) changeConfig(ctx context.Context, key, value string) error {
	for {
		kv, err := n.readConfig(ctx)
		if err != nil {
			return err
		}
		text, err := config.Set(kv.Value, key, value)
		if err != nil {
			return api.Errorf(api.Invalid, "%w", err)
		}
		switch err := n.putConfig(ctx, text, kv.Revision); {
		case err == nil:
			return nil
		case !errors.Is(err, store.ErrConflict):
			return n.noMajority("write the configuration", err)
		}
	}
}

func (n *Node) readConfig(ctx context.Context) (store.KV, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	kv, err := n.store.Config(ctx)
	if err != nil {
		return store.KV{}, n.noMajority("read the configuration", err)
	}
	return kv, nil
}

func (n *Node) putConfig(ctx context.Context, text []byte, rev int64) error {
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	_, err := n.store.PutConfig(ctx, text, rev)
	return err
}

// Config returns the agreed configuration, masked without what may be secret in it.
func (n *Node) Config(ctx context.Context, masked bool) (api.ClusterConfig, error) {
	kv, err := n.readConfig(ctx)
	if err != nil {
		return api.ClusterConfig{}, err
	}
	text := kv.Value
	if masked {
		if text, err = config.Masked(text); err != nil {
			return api.ClusterConfig{}, err
		}
	}
	values, err := yaml.YAMLToJSON(text)
	if err != nil {
		return api.ClusterConfig{}, fmt.Errorf("convert the configuration: %w", err)
	}
	return api.ClusterConfig{Revision: kv.Revision, YAML: string(text), Values: values}, nil
}

// SetConfig replaces or patches the agreed configuration, after PostgreSQL itself has accepted its parameters.
func (n *Node) SetConfig(ctx context.Context, r api.ConfigRequest, progress func(api.Progress)) error {
	kv, err := n.readConfig(ctx)
	if err != nil {
		return err
	}
	if r.Revision != 0 && r.Revision != kv.Revision {
		return api.Errorf(api.Conflict, "the configuration has changed meanwhile (revision %d, yours was %d): read it again", kv.Revision, r.Revision)
	}
	text := r.Body
	if r.Patch {
		if text, err = patchYAML(kv.Value, r.Body); err != nil {
			return api.Errorf(api.Invalid, "%w", err)
		}
	}
	next, err := config.ParseCluster("configuration", text)
	if err != nil {
		return api.Errorf(api.Invalid, "%w", err)
	}
	if name := next.PostgreSQL.Collision(n.dataMembers()); name != "" {
		return api.Errorf(api.Invalid, "postgresql.replication_clients: %q is a member's name, and so its slot's; choose another", name)
	}
	if err := n.checkParameters(ctx, next); err != nil {
		return api.Errorf(api.Invalid, "%w", err)
	}
	for _, c := range config.Diff(n.agreed.get(), next) {
		progress(api.Progress{Step: "change", Text: c.String()})
	}
	if r.DryRun {
		return nil
	}
	switch err := n.putConfig(ctx, text, kv.Revision); {
	case errors.Is(err, store.ErrConflict):
		return api.Errorf(api.Conflict, "the configuration has changed meanwhile: read it again")
	case err != nil:
		return n.noMajority("write the configuration", err)
	}
	return nil
}

// noMajority says in the operator's words that the store did not answer; etcd's own words go to the log.
func (n *Node) noMajority(what string, err error) error {
	n.log.Warn(what, "error", err)
	return api.Errorf(api.Unavailable, "%s: the store (etcd) does not answer: more than half of the members have to run; see standfast status", what)
}

// patchYAML applies a JSON merge patch (RFC 7396) to the configuration's text. Comments are kept where a single value is
// set by config.Set; a patch rewrites the document.
func patchYAML(text, patch []byte) ([]byte, error) {
	var doc map[string]any
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	var p map[string]any
	d := json.NewDecoder(bytes.NewReader(patch))
	d.UseNumber()
	if err := d.Decode(&p); err != nil {
		return nil, fmt.Errorf("read the patch: %w", err)
	}
	if d.More() {
		return nil, errors.New("read the patch: more than one value")
	}
	return yaml.Marshal(mergePatch(doc, p))
}

func mergePatch(doc, patch map[string]any) map[string]any {
	if doc == nil {
		doc = map[string]any{}
	}
	for k, v := range patch {
		switch v := v.(type) {
		case nil:
			delete(doc, k)
		case map[string]any:
			sub, _ := doc[k].(map[string]any)
			doc[k] = mergePatch(sub, v)
		default:
			doc[k] = plain(v)
		}
	}
	return doc
}

// plain makes whole numbers whole again, for JSON has only one kind of number and YAML would show 2 as 2.0.
func plain(v any) any {
	switch v := v.(type) {
	case json.Number:
		if i, err := v.Int64(); err == nil {
			return i
		}
		f, err := v.Float64()
		if err != nil {
			return v.String()
		}
		return f
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = plain(v[i])
		}
		return out
	}
	return v
}
