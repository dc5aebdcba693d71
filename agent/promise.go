package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"

	"standfast/cluster"
)

// The names of a member's files in its state directory.
const (
	promiseName  = "promise.json"
	rejoinedName = "rejoined.json"
)

// promises keeps the member's promise on disk: it never again receives WAL from, nor runs as, a primary of an earlier
// term.
type promises struct{ path string }

type promiseFile struct {
	Cluster string       `json:"cluster"`
	Member  string       `json:"member"`
	Term    cluster.Term `json:"term"`

	Epoch cluster.Epoch `json:"epoch,omitempty"` // that Term is counted in
}

// load returns the promised term and its epoch, 0 if none was ever made. A file that can't be read is an error and never "none".
func (p promises) load(clusterName, member string) (cluster.Term, cluster.Epoch, error) {
	b, err := os.ReadFile(p.path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, 0, nil
	}
	if err != nil {
		return 0, 0, fmt.Errorf("read promise: %w", err)
	}
	var f promiseFile
	if err := json.Unmarshal(b, &f); err != nil {
		return 0, 0, fmt.Errorf("read promise %s: %w", p.path, err)
	}
	if f.Cluster != clusterName || f.Member != member {
		return 0, 0, fmt.Errorf("promise %s belongs to member %q of cluster %q, this is %q of %q: is the state directory another node's?", p.path, f.Member, f.Cluster, member, clusterName)
	}
	return f.Term, f.Epoch, nil
}

// save returns after the promise and its directory entry are synced.
func (p promises) save(clusterName, member string, t cluster.Term, e cluster.Epoch) error {
	b, err := json.Marshal(promiseFile{clusterName, member, t, e})
	if err != nil {
		return err
	}
	if err := renameio.WriteFile(p.path, append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("write promise: %w", err)
	}
	return syncDir(filepath.Dir(p.path))
}

// rejoinedFile remembers, in the form of a promise, the term onto whose history the data was brought by a rewind or a
// clone, until the server has answered: after a rewind it answers no query before it has streamed up to the end of the
// rewind, so its WAL can't be compared with the history, and need not be.
func (a *Agent) rejoinedFile() promises { return promises{filepath.Join(a.cfg.StateDir, rejoinedName)} }

func (a *Agent) setRejoined(t cluster.Term) {
	a.mu.Lock()
	changed := a.rejoined != t
	a.rejoined = t
	a.mu.Unlock()
	if !changed {
		return
	}
	if err := a.rejoinedFile().save(a.cfg.Cluster, a.cfg.Self, t, 0); err != nil {
		a.log.Warn("remember the rejoining", "error", err)
	}
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return nil
}

// Promise makes the promise of a member that does not run, durably: for whoever founds the cluster anew from it.
func Promise(stateDir, clusterName, member string, t cluster.Term, e cluster.Epoch) error {
	return promises{filepath.Join(stateDir, promiseName)}.save(clusterName, member, t, e)
}

// Promised reads the promise of a member, which may run; zero if it has never made one.
func Promised(stateDir, clusterName, member string) (cluster.Term, cluster.Epoch, error) {
	return promises{filepath.Join(stateDir, promiseName)}.load(clusterName, member)
}

// Forget takes away what a member that does not run has promised and remembers: for a host that is to be a new member.
func Forget(stateDir string) error {
	var errs []error
	for _, name := range []string{promiseName, rejoinedName} {
		if err := os.Remove(filepath.Join(stateDir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("forget the promise: %w", err))
		}
	}
	return errors.Join(append(errs, syncDir(stateDir))...)
}
