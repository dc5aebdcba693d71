// Package collect asks all members of a cluster what the doctor needs to know, at once and within a bound, and puts the answers together.
// Members that do not answer are part of the picture. Where the member of this very host does not answer, its host is looked at
// directly.
package collect

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"standfast/api"
	"standfast/api/client"
	"standfast/cluster"
	"standfast/config"
	"standfast/doctor"
	"standfast/doctor/facts"
	"standfast/doctor/gather"
)

// Bound is how long collecting takes at most.
const Bound = 4500 * time.Millisecond

// Members answers for the cluster; client.Client does.
type Members interface {
	Documents(ctx context.Context, path string, endpoints ...string) []client.Document
	History(ctx context.Context) ([]api.Entry, error)
}

// Options say who asks.
type Options struct {
	Node    config.Node // a member's file
	Version string
	Brief   bool   // what members can tell at once
	Refused string // why facts may not be asked for; "": they may
}

// picture is a case while it is put together.
type picture struct {
	*doctor.Case
	o     Options
	names map[string]string        // members by endpoint, as the file has them
	trip  map[string]time.Duration // how long a member's status took, there and back

	unasked []string // endpoints of members that the file does not name
}

// Case asks everybody and returns within Bound.
func Case(ctx context.Context, m Members, o Options) *doctor.Case {
	ctx, cancel := context.WithTimeout(ctx, Bound)
	defer cancel()
	p := picture{o: o, names: map[string]string{}, trip: map[string]time.Duration{}, Case: &doctor.Case{
		Statuses: map[string]*api.Status{}, Facts: map[string]*facts.Member{}, Silent: map[string]string{}, Mute: map[string]string{}, Refused: o.Refused,
		Offsets: map[string]doctor.Offset{}, StateDir: o.Node.StateDir, Port: o.Node.Self().Ports.Postgres,
	}}
	for _, f := range o.Node.Members {
		for _, port := range []int{f.Ports.Admin, f.Ports.Health} {
			p.names[net.JoinHostPort(f.Address, fmt.Sprint(port))] = f.Name
		}
	}
	p.ask(ctx, m)
	p.list()
	if len(p.unasked) > 0 {
		p.ask(ctx, m, p.unasked...)
	}
	p.here(ctx)
	p.Now = time.Now()
	return p.Case
}

// ask reads what the endpoints say, or all that the client knows.
func (p *picture) ask(ctx context.Context, m Members, endpoints ...string) {
	var wg sync.WaitGroup
	var statuses, documents []client.Document
	wg.Go(func() { statuses = m.Documents(ctx, "/status", endpoints...) })
	if len(endpoints) == 0 {
		wg.Go(func() { p.History, _ = m.History(ctx) }) // where it is not known others say why
	}
	if p.Refused == "" {
		path := "/facts"
		if p.o.Brief {
			path += "?brief=true"
		}
		wg.Go(func() { documents = m.Documents(ctx, path, endpoints...) })
	}
	wg.Wait()
	for _, d := range statuses {
		p.status(d)
	}
	for _, d := range documents {
		p.facts(d)
	}
}

func (p *picture) status(d client.Document) {
	var st api.Status
	err := d.Err
	if err == nil {
		if err = json.Unmarshal(d.Body, &st); err == nil && st.Self == "" {
			err = fmt.Errorf("%s: it answers, and not as a member", d.Endpoint)
		}
	}
	if err != nil {
		if name := p.names[d.Endpoint]; name != "" {
			p.Silent[name] = err.Error()
		}
		return
	}
	p.Statuses[st.Self], p.trip[st.Self] = &st, d.Received.Sub(d.Sent)
	delete(p.Silent, st.Self)
}

func (p *picture) facts(d client.Document) {
	var f facts.Member
	err := d.Err
	if err == nil {
		err = json.Unmarshal(d.Body, &f)
	}
	if err != nil || f.Name == "" {
		if name := p.names[d.Endpoint]; err != nil && p.Statuses[name] != nil {
			p.Mute[name] = err.Error()
		}
		return
	}
	p.Facts[f.Name] = &f
	if trip, ok := p.trip[f.Name]; ok {
		p.Offsets[f.Name] = doctor.Offset{By: f.Time.Sub(d.Received) + trip/2, Within: trip}
	}
}

// list takes the members from the newest status, for the file may be older; without one from the file.
func (p *picture) list() {
	var newest *api.Status
	for _, st := range p.Statuses {
		if newest == nil || st.Term > newest.Term {
			newest = st
		}
	}
	if newest == nil || len(newest.Members) == 0 {
		for _, m := range p.o.Node.Members {
			p.Members = append(p.Members, doctor.Known{Name: m.Name, Address: m.Address, Data: m.Kind != cluster.Witness})
		}
		return
	}
	for _, m := range newest.Members {
		host, _, _ := net.SplitHostPort(cmp.Or(m.Admin, m.Beat))
		p.Members = append(p.Members, doctor.Known{Name: m.Name, Address: host, Data: m.Kind != cluster.Witness})
		if _, silent := p.Silent[m.Name]; m.Admin != "" && p.Statuses[m.Name] == nil && !silent {
			p.names[m.Admin], p.unasked = m.Name, append(p.unasked, m.Admin)
		}
	}
	for name := range p.Silent {
		if !slices.ContainsFunc(p.Members, func(k doctor.Known) bool { return k.Name == name }) {
			delete(p.Silent, name) // it was removed
		}
	}
}

// here looks at this host if its member does not answer: then nobody else can.
func (p *picture) here(ctx context.Context) {
	p.Self = p.o.Node.Name
	l, err := net.Listen("tcp", net.JoinHostPort(p.o.Node.Self().Address, "0"))
	if err != nil {
		p.Self = "" // the file of a member of another host
		return
	}
	_ = l.Close()
	if _, silent := p.Silent[p.Self]; !silent || p.o.Brief || p.Facts[p.Self] != nil {
		return
	}
	c := gather.Config{Node: p.o.Node, Version: p.o.Version, Members: func() []cluster.Member {
		var all []cluster.Member
		for _, m := range p.o.Node.Members {
			all = append(all, m.Member())
		}
		return all
	}}
	f, err := gather.New(c).Gather(ctx, false)
	if err != nil {
		return
	}
	f.Taken = gather.Taken(c)
	p.Facts[p.Self] = &f
}
