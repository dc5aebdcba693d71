// Package recovery is about founding a cluster anew from one survivor, after a majority of its members was lost for good
// (docs/RECOVER.md; the argument is in docs/SAFETY.md, "Recovering from the loss of a majority").
//
// Three files in a member's state directory belong to it. Known is what the member last knew to be agreed, kept while it runs: it
// says afterwards what the survivor has and what it may lack. Seed is what a founding anew puts into the new store. Over marks a
// member of the founding before, which stays out.
//
// Make decides what is founded, as a pure function of what was found.
package recovery

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/google/renameio/v2"

	"standfast/cluster"
)

// The files' names.
const (
	knownName = "agreed.json"
	seedName  = "founding.json"
	overName  = "over.json"
)

// ErrNothing says that there is no such file.
var ErrNothing = errors.New("there is nothing of the kind")

// Known is what a member last saw of the agreed records.
type Known struct {
	Cluster   string           `json:"cluster"`
	State     cluster.State    `json:"state"`
	Members   []cluster.Member `json:"members"`
	Config    string           `json:"config"`              // the agreed configuration, YAML
	Authority []byte           `json:"authority,omitempty"` // the certificate authority, sealed

	// Contact is when a majority of the store answered the member last, as far as it has noted: the file's modification time.
	Contact time.Time `json:"-"`
}

// Save writes what is known, durably.
func (k Known) Save(stateDir string) error { return save(stateDir, knownName, k) }

// LoadKnown reads it; ErrNothing if the member has never known anything.
func LoadKnown(stateDir string) (Known, error) {
	var k Known
	if err := load(stateDir, knownName, &k); err != nil {
		return k, err
	}
	st, err := os.Stat(filepath.Join(stateDir, knownName))
	if err == nil {
		k.Contact = st.ModTime()
	}
	return k, err
}

// Touch notes that a majority answers now. It is no matter if it does not outlive a loss of power: then Contact is earlier.
func Touch(stateDir string, now time.Time) error {
	err := os.Chtimes(filepath.Join(stateDir, knownName), now, now)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Seed is what a new founding begins with. The member writes it into its new, empty store.
type Seed struct {
	State     cluster.State    `json:"state"`
	Former    []cluster.Member `json:"former"` // to be told that the founding before is over
	Config    string           `json:"config"`
	Authority []byte           `json:"authority,omitempty"`
	At        time.Time        `json:"at"`
}

// Save writes the seed, durably.
func (s Seed) Save(stateDir string) error { return save(stateDir, seedName, s) }

// LoadSeed reads it; ErrNothing where the cluster was never founded anew from this member.
func LoadSeed(stateDir string) (Seed, error) {
	var s Seed
	return s, load(stateDir, seedName, &s)
}

// Over marks a member of a founding that is over.
type Over struct {
	Epoch cluster.Epoch    `json:"epoch"` // that has taken its place
	By    []cluster.Member `json:"by"`    // where it was founded from, as far as known
	Text  string           `json:"text"`  // what is told

	Joined bool `json:"joined,omitempty"` // the member's file said join: true already, so that this is no sign
	Rejoin bool `json:"rejoin,omitempty"` // an operator wants the host in the new cluster
}

// Again reports whether the host is to be a new member of the new cluster: an operator has said so here, or its file, written anew
// from elsewhere, says join: true and did not.
func (o Over) Again(join bool) bool { return join && (o.Rejoin || !o.Joined) }

// Save writes the mark, durably: from then on the member stays out whether or not it is told again.
func (o Over) Save(stateDir string) error { return save(stateDir, overName, o) }

// LoadOver reads it; ErrNothing on any other member.
func LoadOver(stateDir string) (Over, error) {
	var o Over
	return o, load(stateDir, overName, &o)
}

// Clear takes the mark away, and what the member knew and was founded with.
func Clear(stateDir string) error {
	for _, name := range []string{knownName, seedName, overName} { // the mark last
		if err := os.Remove(filepath.Join(stateDir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("forget the cluster of before: %w", err)
		}
	}
	return nil
}

func save(dir, name string, v any) error {
	b, err := json.MarshalIndent(v, "", " ")
	if err == nil {
		err = renameio.WriteFile(filepath.Join(dir, name), append(b, '\n'), 0o600)
	}
	if err == nil {
		err = syncDir(dir)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

func load(dir, name string, v any) error {
	b, err := os.ReadFile(filepath.Join(dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read %s: %w", filepath.Join(dir, name), ErrNothing)
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("read %s: %w", filepath.Join(dir, name), err)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
