package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"standfast/api"
	"standfast/api/client"
	"standfast/config"
	"standfast/doctor"
	"standfast/doctor/collect"
	"standfast/doctor/dossier"
	"standfast/internal/redact"
	"standfast/node"
	"standfast/ops"
)

type supportCmd struct {
	File   string `help:"Where to write it; it must not be there yet." short:"f" placeholder:"FILE" type:"path"`
	DryRun bool   `help:"List what would go in; write nothing." name:"dry-run"`
}

func (supportCmd) Help() string {
	return `Writes one archive for somebody who is to help: status, history, events and the doctor's findings of the whole cluster, the agreed configuration, and of each member that answers its files, the ends of its logs and how its host and services are. It works with members down, also without a majority: INDEX.txt in it says what could not be had, and why. Run it as root, on the host that is in trouble if there is one: the journal is read on this host only.

Passwords, tokens, keys, commands, clients' statements and rows are taken out on the host they come from; names and addresses of hosts, roles and databases stay. Look through it before you give it away.

Examples:

    sudo standfast support-bundle
    sudo standfast support-bundle --dry-run
    sudo standfast support-bundle -f /tmp/for-support.tar.gz && tar -tzf /tmp/for-support.tar.gz`
}

func (c *supportCmd) Run(a *app) error {
	n, err := a.node()
	if err != nil {
		return err
	}
	at := time.Now()
	path := c.File
	if path == "" {
		path = fmt.Sprintf("standfast-support-%s-%s.tar.gz", n.Cluster, at.UTC().Format("20060102T150405Z"))
	}
	if _, err := os.Lstat(path); err == nil && !c.DryRun {
		return usage("%s is there already; give another name by -f", path)
	}
	p, err := a.pack(n, at)
	if err != nil {
		return err
	}
	if c.DryRun {
		p.list(a, path)
		return nil
	}
	size, err := p.write(path)
	if err != nil {
		return err
	}
	for _, l := range p.lacks {
		fmt.Fprintln(a.stderr, a.err.warn(wrap("! not in it: "+l, a.err.width-1, "  ")))
	}
	fmt.Fprintf(a.stdout, "%s: %d files, %s\n", path, len(p.files)+1, human(size))
	return nil
}

// eventsBound is how long the members have to tell what happened.
const eventsBound = 4 * time.Second

// pack asks all members and looks at this host.
func (a *app) pack(n config.Node, at time.Time) (*parcel, error) {
	s := a.steps()
	defer s.end()
	s.show(progress("asking all members how they are"))
	cl, k, err := a.examine(a.ctx, collect.Options{})
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	path, _ := a.file() // a.node has found it
	own := dossier.Host{Node: n, File: path, Version: node.Version, Journal: true}
	p := &parcel{at: at, red: redact.New(own.Secrets()...)}
	p.cluster(k, time.Since(at))
	s.show(progress("asking all members for their logs and settings"))
	p.asked(a.ctx, cl, k, n)
	if k.Self != "" {
		s.show(progress("reading this host's logs and services"))
		p.host(own.Collect(a.ctx))
	}
	return p, a.ctx.Err()
}

// cluster adds what the doctor has found out.
func (p *parcel) cluster(k *doctor.Case, took time.Duration) {
	p.add("versions.txt", fmt.Sprintf("standfast %s (%s, %s/%s) wrote this\n%s", node.Version, runtime.Version(), runtime.GOOS, runtime.GOARCH, versions(k)))
	r := doctor.Examine(k)
	r.Took = took
	var text bytes.Buffer
	writeReport(&text, style{width: 100}, r, true)
	p.add("doctor.txt", text.String())
	p.json("doctor.json", r)
	if st := newestStatus(k); st != nil {
		text.Reset()
		writeStatus(&text, style{width: 120}, st, nil, p.at)
		p.add("status.txt", text.String())
	} else {
		p.lack("status.txt: no member answers")
	}
	if k.History != nil {
		p.json("history.json", k.History)
	} else {
		p.lack("history.json: no member answers")
	}
	for _, m := range k.Members {
		if st := k.Statuses[m.Name]; st != nil {
			p.json("members/"+m.Name+"/status.json", st)
		}
		if f := k.Facts[m.Name]; f != nil {
			p.json("members/"+m.Name+"/facts.json", f)
		}
		for _, why := range []string{k.Silent[m.Name], k.Mute[m.Name]} {
			if why != "" {
				p.lack("members/%s: %s", m.Name, oneLine(errors.New(why)))
			}
		}
	}
}

// versions says what each member runs, as far as it is known.
func versions(k *doctor.Case) string {
	var b strings.Builder
	for _, m := range k.Members {
		agent, server := "not known", "not known"
		if st := k.Statuses[m.Name]; st != nil {
			agent = st.Version
		}
		if f := k.Facts[m.Name]; f != nil && f.Postgres != nil {
			server = fmt.Sprintf("%d.%d", f.Postgres.Version/10000, f.Postgres.Version%10000)
		}
		fmt.Fprintf(&b, "%s: standfast %s, PostgreSQL %s\n", m.Name, agent, server)
	}
	return b.String()
}

// newestStatus is the status that knows most: the highest term, and of these one that reaches the store.
func newestStatus(k *doctor.Case) (best *api.Status) {
	for _, m := range k.Members {
		st := k.Statuses[m.Name]
		if st != nil && (best == nil || st.Term > best.Term || st.Term == best.Term && st.Store.OK && !best.Store.OK) {
			best = st
		}
	}
	return best
}

// asked adds what the members give to whoever has the token.
func (p *parcel) asked(ctx context.Context, cl *ops.Cluster, k *doctor.Case, n config.Node) {
	if err := cl.Authorized(); err != nil {
		p.lack("the agreed configuration, events, logs and settings of the members: %v", oneLine(err))
		return
	}
	if agreed, err := cl.Config(ctx); err != nil {
		p.lack("config/agreed.yml: %v", oneLine(err))
	} else {
		p.files = append(p.files, dossier.File{Name: "config/agreed.yml", Text: p.red.YAML([]byte(agreed.YAML))})
	}
	p.events(ctx, cl)
	names, more := endpointsOf(n, k)
	for _, d := range append(cl.Documents(ctx, "/support"), documents(ctx, cl, more)...) {
		var theirs dossier.Dossier
		err := d.Err
		if err == nil {
			err = json.Unmarshal(d.Body, &theirs)
		}
		switch {
		case err == nil && theirs.Member != "":
			p.host(theirs)
		case k.Statuses[names[d.Endpoint]] != nil: // that the others do not answer is told already
			p.lack("members/%s, its logs and settings: %v", names[d.Endpoint], oneLine(err))
		}
	}
}

// documents asks these endpoints; without any it asks nobody.
func documents(ctx context.Context, cl *ops.Cluster, endpoints []string) []client.Document {
	if len(endpoints) == 0 {
		return nil
	}
	return cl.Documents(ctx, "/support", endpoints...)
}

// endpointsOf names the members by where they answer, and lists those that the file does not have, for they came later.
func endpointsOf(n config.Node, k *doctor.Case) (names map[string]string, more []string) {
	names = map[string]string{}
	for _, m := range n.Members {
		names[net.JoinHostPort(m.Address, fmt.Sprint(m.Ports.Admin))] = m.Name
	}
	if st := newestStatus(k); st != nil {
		for _, m := range st.Members {
			if m.Admin != "" && names[m.Admin] == "" {
				names[m.Admin], more = m.Name, append(more, m.Admin)
			}
		}
	}
	return names, more
}

func (p *parcel) events(ctx context.Context, cl *ops.Cluster) {
	ctx, cancel := context.WithTimeout(ctx, eventsBound)
	defer cancel()
	es, failed, err := cl.Events(ctx, time.Time{})
	if err != nil {
		p.lack("events.txt, events.jsonl: %v", oneLine(err))
		return
	}
	for _, err := range failed {
		text := oneLine(err)
		if !slices.ContainsFunc(p.lacks, func(l string) bool { return strings.HasSuffix(l, text) }) { // of one that answers nothing that is said already
			p.lack("events that only this member knows: %s", text)
		}
	}
	var text bytes.Buffer
	var lines strings.Builder
	for _, e := range es {
		writeEvent(&text, style{}, e, true)
		line, err := json.Marshal(e)
		if err != nil {
			continue // nothing in an event can't be written
		}
		var flat bytes.Buffer
		if json.Compact(&flat, []byte(p.red.JSON(line))) == nil {
			lines.WriteString(flat.String() + "\n")
		}
	}
	p.add("events.txt", text.String())
	p.files = append(p.files, dossier.File{Name: "events.jsonl", Text: lines.String()})
}

// oneLine is an error that lists what each member said, as a sentence.
func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }
