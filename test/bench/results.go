package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// doneVar tells the second self what need not be measured again.
const doneVar = "STANDFAST_BENCH_DONE"

// line is one result on its way from the second self to the first.
type line struct {
	Section string          `json:"section"`
	Result  json.RawMessage `json:"result"`
}

// send passes a result to the first self, which listens at standard output.
func send(section string, result any) error {
	b, err := json.Marshal(result)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(line{section, b})
}

// results appends to one file for each section: a line with the machine, then one for each result.
type results struct {
	dir     string
	kept    map[string]bool // sections whose file was begun
	partial []byte          // of the last line received
	err     error           // the first that a write met
	with    string          // what is measured, where that is not this machine's PostgreSQL
}

// openResults drops the results of the sections that will be measured, unless they are to be resumed.
func openResults(dir string, l limits) (*results, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	r := &results{dir: dir, kept: map[string]bool{}}
	for _, s := range sections {
		switch _, err := os.Stat(r.file(s)); {
		case !l.wants(s):
		case l.resume && err == nil:
			r.kept[s] = true
		case err == nil:
			if err := os.Remove(r.file(s)); err != nil {
				return nil, err
			}
		}
	}
	return r, nil
}

func (r *results) file(section string) string { return filepath.Join(r.dir, section+".jsonl") }

// done counts what is there: failovers by their kind, other results by their section and, where one can be measured without
// the others, by section and kind.
func (r *results) done() string {
	n := map[string]int{}
	for s := range r.kept {
		switch s {
		case "failover":
			tally(n, "", r.file(s), func(f failover) string { return f.Kind })
		case "router":
			tally(n, "router/", r.file(s), besideRun.kind)
		case "health":
			tally(n, "health/", r.file(s), healthRun.kind)
		case "peers":
			tally(n, "peers/", r.file(s), func(p peerRun) string { return p.Stack + "/" + p.Fault })
		case "paths":
			tally(n, "paths/", r.file(s), pathRun.kind)
		default:
			n[s] = 1
		}
	}
	b, _ := json.Marshal(n) // a map of numbers
	return string(b)
}

// tally counts a file's results by kind. One that can't be read will be measured again.
func tally[T any](n map[string]int, prefix, path string, kind func(T) string) {
	all, _, err := read[T](path)
	if err != nil {
		return
	}
	for _, t := range all {
		n[prefix+kind(t)]++
	}
}

func parseDone(text string) map[string]int {
	n := map[string]int{}
	_ = json.Unmarshal([]byte(text), &n) // made by done
	return n
}

// Write takes lines as send makes them, in pieces of any size.
func (r *results) Write(p []byte) (int, error) {
	r.partial = append(r.partial, p...)
	for {
		text, rest, found := bytes.Cut(r.partial, []byte("\n"))
		if !found {
			return len(p), nil
		}
		r.partial = rest
		var l line
		if err := json.Unmarshal(text, &l); err != nil {
			r.err = errors.Join(r.err, fmt.Errorf("not a result: %q", text))
			continue
		}
		r.err = errors.Join(r.err, r.add(l.Section, l.Result))
	}
}

// add appends one result, and the machine before the first.
func (r *results) add(section string, result any) error {
	f, err := os.OpenFile(r.file(section), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	enc := json.NewEncoder(f)
	enc.SetEscapeHTML(false)
	if info, err := f.Stat(); err == nil && info.Size() == 0 {
		m := thisMachine(time.Now())
		if r.with != "" {
			m.PostgreSQL = r.with
		}
		if err := enc.Encode(struct {
			Machine machine `json:"machine"`
		}{m}); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	return errors.Join(enc.Encode(result), f.Close())
}

// read returns a section's results and the machine that they were measured on; none if there is no such file.
func read[T any](path string) ([]T, machine, error) {
	var of struct {
		Machine machine `json:"machine"`
	}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, machine{}, nil
	}
	if err != nil {
		return nil, machine{}, err
	}
	head, rest, _ := strings.Cut(string(b), "\n")
	if err := json.Unmarshal([]byte(head), &of); err != nil {
		return nil, machine{}, fmt.Errorf("read %s: %w", path, err)
	}
	var out []T
	dec := json.NewDecoder(strings.NewReader(rest))
	for dec.More() {
		var t T
		if err := dec.Decode(&t); err != nil {
			return nil, machine{}, fmt.Errorf("read %s: %w", path, err)
		}
		out = append(out, t)
	}
	return out, of.Machine, nil
}
