package cli

import (
	"archive/tar"
	"cmp"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"standfast/doctor/dossier"
	"standfast/internal/redact"
	"standfast/node"
)

// parcel is a supporter's archive while it is filled. Nothing gets into it but by way of a redactor: this one's, or that of the member that
// it comes from.
type parcel struct {
	red   redact.Redactor
	at    time.Time
	files []dossier.File
	lacks []string
}

func (p *parcel) add(name, text string) {
	p.files = append(p.files, dossier.File{Name: name, Text: p.red.Text(text)})
}

func (p *parcel) lack(format string, args ...any) {
	text := p.red.Text(fmt.Sprintf(format, args...))
	if !slices.Contains(p.lacks, text) {
		p.lacks = append(p.lacks, text)
	}
}

func (p *parcel) json(name string, v any) {
	text, err := json.Marshal(v)
	if err != nil {
		p.lack("%s: %v", name, err)
		return
	}
	p.files = append(p.files, dossier.File{Name: name, Text: p.red.JSON(text)})
}

// host adds what a member gives. What this host has found out itself comes later, and takes the place of what its member says of the same: it
// may be root's to read.
func (p *parcel) host(d dossier.Dossier) {
	at := "members/" + filepath.Base(d.Member) + "/"
	for _, f := range d.Files {
		name := filepath.ToSlash(filepath.Clean("/" + f.Name))[1:] // another host's word names no file outside
		p.files = slices.DeleteFunc(p.files, func(o dossier.File) bool { return o.Name == at+name })
		p.files = append(p.files, dossier.File{Name: at + name, Text: f.Text})
	}
	for _, l := range d.Lacks {
		p.lack("%s%s", at, l)
	}
}

// what says what a file is, by its name.
var what = []struct{ end, is string }{
	{"versions.txt", "what each member runs"},
	{"doctor.txt", "begin here: what standfast doctor finds"},
	{"doctor.json", "the same with all evidence"},
	{"status.txt", "standfast status"},
	{"/status.json", "the cluster as this member sees it"},
	{"/facts.json", "its host and PostgreSQL as the doctor examined them"},
	{"history.json", "every change of primary"},
	{"events.txt", "what happened, from all members"},
	{"events.jsonl", "the same, a line each"},
	{"config/agreed.yml", "the agreed configuration"},
	{"/config/agreed-last-seen.yml", "the agreed configuration as this member wrote it down last"},
	{"/config/standfast.yml", "the member's file"},
	{"/logs/agent.log", "the agent's last lines since its start"},
	{"/logs/postgresql.log", "PostgreSQL's log, its end"},
	{"/logs/postgresql.log.1", "the log before, its end"},
	{"/logs/etcd.log", "etcd's log, its end"},
	{"/host/units.txt", "systemd's units"},
	{"/host/journal.txt", "the journal of both units, its end"},
}

func describe(name string) string {
	for _, w := range what {
		if strings.HasSuffix("/"+name, w.end) {
			return w.is
		}
	}
	return ""
}

// index says what the archive is, what is in it and what is not.
func (p *parcel) index() string {
	var t strings.Builder
	fmt.Fprintf(&t, "Written by standfast support-bundle, version %s, on %s.\n\n", node.Version, p.at.UTC().Format(time.RFC3339))
	fmt.Fprintf(&t, "%s\n\n", wrap("Taken out, and replaced by "+redact.Removed+": passwords, tokens, keys, connection strings, commands, parameters of the site's own, clients' statements and rows. "+
		"Still in it: names and addresses of hosts, roles, databases and slots; lines of logs, in which an error may quote a value.", 100, ""))
	if len(p.lacks) == 0 {
		fmt.Fprintf(&t, "Nothing is lacking.\n")
	} else {
		fmt.Fprintf(&t, "Not in it, and why:\n\n")
	}
	for _, l := range p.lacks {
		fmt.Fprintf(&t, "- %s\n", wrap(l, 98, "  "))
	}
	fmt.Fprintf(&t, "\nIn it:\n\n")
	for _, f := range p.sorted() {
		fmt.Fprintln(&t, strings.TrimRight(fmt.Sprintf("%9s  %-52s %s", human(int64(len(f.Text))), f.Name, describe(f.Name)), " "))
	}
	return t.String()
}

// sorted has what is of the whole cluster first, then member by member.
func (p *parcel) sorted() []dossier.File {
	return slices.SortedStableFunc(slices.Values(p.files), func(a, b dossier.File) int {
		one := func(f dossier.File) int { return strings.Count(f.Name[:min(len(f.Name), len("members/"))], "members/") }
		return cmp.Or(cmp.Compare(one(a), one(b)), cmp.Compare(a.Name, b.Name))
	})
}

// list shows what would go in.
func (p *parcel) list(a *app, path string) {
	files := append([]dossier.File{{Name: "INDEX.txt", Text: p.index()}}, p.sorted()...)
	var names, sizes, is []string
	total := 0
	for _, f := range files {
		names, sizes, is = append(names, f.Name), append(sizes, human(int64(len(f.Text)))), append(is, describe(f.Name))
		total += len(f.Text)
	}
	is[0] = "what is in it, what is not, and why"
	columns := []column{{head: "FILE", cells: names}, {head: "SIZE", right: true, cells: sizes}, {head: "WHAT", drop: 1, cells: is}}
	s := a.out
	if !s.terminal {
		s.width = 1 << 20
	}
	writeTable(a.stdout, s, columns, len(files))
	fmt.Fprintf(a.stdout, "\n%s would have %d files, %s before compression; nothing is written\n", path, len(files), human(int64(total)))
	for _, l := range p.lacks {
		fmt.Fprintln(a.stderr, a.err.warn(wrap("! not in it: "+l, a.err.width-1, "  ")))
	}
}

// write makes the archive, readable by its owner only, and gives its size. One that is not whole is taken away.
func (p *parcel) write(path string) (size int64, err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return 0, usage("%s is there already; give another name by -f", path)
	}
	if err != nil {
		return 0, fmt.Errorf("write the archive: %w", err)
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			err = errors.Join(fmt.Errorf("write the archive: %w", err), os.Remove(path))
		}
	}()
	if err := f.Chmod(0o600); err != nil { // whatever the umask is
		return 0, err
	}
	dir := strings.TrimSuffix(filepath.Base(path), ".tar.gz")
	z := gzip.NewWriter(f)
	w := tar.NewWriter(z)
	for _, file := range append([]dossier.File{{Name: "INDEX.txt", Text: p.index()}}, p.sorted()...) {
		if err := w.WriteHeader(&tar.Header{Name: dir + "/" + file.Name, Mode: 0o600, Size: int64(len(file.Text)), ModTime: p.at}); err != nil {
			return 0, err
		}
		if _, err := io.WriteString(w, file.Text); err != nil {
			return 0, err
		}
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		return 0, err
	}
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}
