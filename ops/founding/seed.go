package founding

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

// Seed says that a member's data is what a new cluster is to begin with. It lies in the member's state directory from the moment the data is
// whole until the cluster's first record is written.
type Seed struct {
	SystemID string           `json:"system_id"` // the data's identity; no other data has it
	Term     cluster.Term     `json:"term"`      // the newest that the data knows of
	Timeline cluster.Timeline `json:"timeline"`  // likewise
	From     string           `json:"from"`      // what it was made of, a phrase
	Made     time.Time        `json:"made"`
}

const seedName = "restored.json"

// Write puts the seed into a state directory, durably.
func (s Seed) Write(stateDir string) error {
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	path := filepath.Join(stateDir, seedName)
	if err := renameio.WriteFile(path, append(text, '\n'), 0o600); err != nil {
		return fmt.Errorf("write the seed of a cluster: %w", err)
	}
	return syncDir(stateDir)
}

// ReadSeed reads the seed in a state directory; nil if there is none.
func ReadSeed(stateDir string) (*Seed, error) {
	text, err := os.ReadFile(filepath.Join(stateDir, seedName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var s Seed
	if err == nil {
		err = json.Unmarshal(text, &s)
	}
	if err == nil && (s.SystemID == "" || s.Timeline == 0) {
		err = errors.New("it is not whole")
	}
	if err != nil {
		return nil, fmt.Errorf("read the seed of a cluster in %s: %w", stateDir, err)
	}
	return &s, nil
}

// RemoveSeed takes the seed away for good.
func RemoveSeed(stateDir string) error {
	err := os.Remove(filepath.Join(stateDir, seedName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove the seed of a cluster: %w", err)
	}
	return syncDir(stateDir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
