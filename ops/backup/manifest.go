package backup

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"standfast/cluster"
)

// manifest is what PostgreSQL wrote of a backup's files ("Backup Manifest Format").
type manifest struct {
	files map[string]manifestFile
	wal   []walRange
}

type manifestFile struct {
	Path        string `json:"Path"`
	EncodedPath string `json:"Encoded-Path"` // hexadecimal, where the path is not UTF-8
	Size        int64  `json:"Size"`
	Algorithm   string `json:"Checksum-Algorithm"`
	Checksum    string `json:"Checksum"`
}

// walRange is WAL that recovery of the backup needs.
type walRange struct {
	Timeline cluster.Timeline `json:"Timeline"`
	Start    string           `json:"Start-LSN"`
	End      string           `json:"End-LSN"`
}

func (r walRange) bounds() (from, to cluster.LSN, err error) {
	from, err1 := cluster.ParseLSN(r.Start)
	to, err2 := cluster.ParseLSN(r.End)
	return from, to, errors.Join(err1, err2)
}

const manifestName = "backup_manifest"

// readManifest reads a manifest and proves by its own checksum that it is whole.
func readManifest(dir string) (*manifest, error) {
	text, err := os.ReadFile(filepath.Join(dir, manifestName))
	if err != nil {
		return nil, fmt.Errorf("read the manifest: %w", err)
	}
	m, err := parseManifest(text)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", filepath.Join(dir, manifestName), err)
	}
	return m, nil
}

func parseManifest(text []byte) (*manifest, error) {
	var doc struct {
		Files    []manifestFile `json:"Files"`
		WAL      []walRange     `json:"WAL-Ranges"`
		Checksum string         `json:"Manifest-Checksum"`
	}
	if err := json.Unmarshal(text, &doc); err != nil {
		return nil, fmt.Errorf("it is not whole: %w", err)
	}
	// The checksum covers everything before the line that it stands on, which is the last.
	last := bytes.LastIndexByte(bytes.TrimRight(text, "\n"), '\n') + 1
	if sum := sha256.Sum256(text[:last]); !strings.EqualFold(hex.EncodeToString(sum[:]), doc.Checksum) {
		return nil, errors.New("its own checksum does not fit: it was changed or damaged")
	}
	m := &manifest{files: map[string]manifestFile{}, wal: doc.WAL}
	for _, f := range doc.Files {
		if f.EncodedPath != "" {
			p, err := hex.DecodeString(f.EncodedPath)
			if err != nil {
				return nil, fmt.Errorf("path %q: %w", f.EncodedPath, err)
			}
			f.Path = string(p)
		}
		if f.Algorithm != "SHA256" {
			return nil, fmt.Errorf("%s has a checksum by %q; only SHA256 is understood, which standfast backup asks for", f.Path, f.Algorithm)
		}
		m.files[f.Path] = f
	}
	if len(m.wal) == 0 {
		return nil, errors.New("it names no WAL")
	}
	return m, nil
}

// tally checks files off a manifest as they come by.
type tally struct {
	left map[string]manifestFile
}

func (m *manifest) tally() *tally {
	left := make(map[string]manifestFile, len(m.files))
	for k, v := range m.files {
		left[k] = v
	}
	return &tally{left: left}
}

// unlisted are paths that a manifest does not name: WAL is proven by being read, the others a backup may be given later.
func unlisted(path string) bool {
	return strings.HasPrefix(path, "pg_wal/") || slices.Contains([]string{manifestName, "postgresql.auto.conf", "standby.signal", "recovery.signal"}, path)
}

// seen compares one file with what the manifest says and checks it off.
func (t *tally) seen(path string, size int64, h hash.Hash) error {
	f, ok := t.left[path]
	if !ok {
		if unlisted(path) {
			return nil
		}
		return fmt.Errorf("%s is not in the manifest", path)
	}
	delete(t.left, path)
	if f.Size != size {
		return fmt.Errorf("%s has %d bytes, the manifest says %d", path, size, f.Size)
	}
	if !strings.EqualFold(hex.EncodeToString(h.Sum(nil)), f.Checksum) {
		return fmt.Errorf("%s does not have the checksum that the manifest says: it was damaged", path)
	}
	return nil
}

// end complains of files that never came by.
func (t *tally) end() error {
	for path := range t.left {
		if !unlisted(path) {
			return fmt.Errorf("%s is missing, and %d files in all", path, len(t.left))
		}
	}
	return nil
}
