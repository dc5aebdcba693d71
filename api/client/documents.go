package client

import (
	"context"
	"encoding/json"
	"sync"
	"time"
)

// Document is what one endpoint answers at a path that only operators may read, or why it does not.
type Document struct {
	Endpoint string // "host:port"
	Body     json.RawMessage
	Err      error // a sentence with the endpoint and the remedy
	Sent     time.Time
	Received time.Time
}

// Documents reads the path from the given endpoints ("host:port"), or from all that the client knows, at once; the token goes with it.
// There is one answer for each, in that order; whoever does not answer has an error after four seconds at the latest.
func (c *Client) Documents(ctx context.Context, path string, endpoints ...string) []Document {
	var all []endpoint
	for _, s := range endpoints {
		if e, err := parseEndpoint(s, c.secure); err == nil {
			all = append(all, e)
		}
	}
	if len(endpoints) == 0 {
		all = c.endpoints
	}
	out := make([]Document, len(all))
	var wg sync.WaitGroup
	for i, e := range all {
		wg.Go(func() {
			d := Document{Endpoint: e.String(), Sent: time.Now()}
			d.Err = c.get(ctx, e, path, &d.Body)
			d.Received = time.Now()
			out[i] = d
		})
	}
	wg.Wait()
	return out
}
