package dossier

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"standfast/internal/redact"
	"standfast/recovery"
)

// logEnd is how many bytes of the end of each log are given.
const logEnd = 512 << 10

func yamlFile(name, path string, red redact.Redactor) ([]File, error) {
	if path == "" {
		return nil, errors.New("where it lies is not known")
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return []File{{name, red.YAML(text)}}, nil
}

// lastAgreed is the agreed configuration as this member wrote it down last, for when no majority can say how it is.
func lastAgreed(stateDir string, red redact.Redactor) ([]File, error) {
	known, err := recovery.LoadKnown(stateDir)
	if errors.Is(err, recovery.ErrNothing) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return []File{{"config/agreed-last-seen.yml", red.YAML([]byte(known.Config))}}, nil
}

// settings are PostgreSQL's files. Commands and connection strings in them may hold a secret in any form.
func settings(dataDir string, red redact.Redactor) (files []File, err error) {
	for _, name := range []string{"standfast.conf", "postgresql.conf", "postgresql.auto.conf", "standfast_hba.conf", "standfast_ident.conf"} {
		text, e := os.ReadFile(filepath.Join(dataDir, name))
		switch {
		case e == nil:
			files = append(files, File{"config/postgresql/" + name, red.Settings(string(text))})
		case !errors.Is(e, fs.ErrNotExist): // Debian's layout has some of them elsewhere, a witness none
			err = errors.Join(err, e)
		}
	}
	return files, err
}

// logEnds gives the ends of logs, each of one that is there.
func logEnds(red redact.Redactor, paths ...string) (files []File, err error) {
	for _, path := range paths {
		text, e := end(path)
		switch {
		case e == nil:
			files = append(files, File{"logs/" + filepath.Base(path), red.Log(text)})
		case !errors.Is(e, fs.ErrNotExist):
			err = errors.Join(err, e)
		}
	}
	return files, err
}

// end reads the last whole lines of a file.
func end(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err == nil {
		_, err = f.Seek(max(0, size-logEnd), io.SeekStart)
	}
	var text []byte
	if err == nil {
		text, err = io.ReadAll(io.LimitReader(f, logEnd))
	}
	if err != nil {
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	if size > logEnd { // the first line is cut, and what it was is not known
		_, text, _ = bytes.Cut(text, []byte("\n"))
	}
	return string(text), nil
}

// collected gives the newest file of PostgreSQL's own logging collector, where a site has turned that on and left its directory as it was.
// Of a file in another format than plain lines clients' statements could not be told from the rest.
func collected(dataDir string, red redact.Redactor) ([]File, error) {
	found, _ := filepath.Glob(filepath.Join(dataDir, "log", "*")) // the pattern is sound
	type aged struct {
		path string
		at   int64
	}
	var logs []aged
	for _, path := range found {
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			logs = append(logs, aged{path, info.ModTime().UnixNano()})
		}
	}
	if len(logs) == 0 {
		return nil, nil
	}
	newest := slices.MaxFunc(logs, func(a, b aged) int { return cmp.Compare(a.at, b.at) }).path
	if !strings.HasSuffix(newest, ".log") {
		return nil, fmt.Errorf("%s: clients' statements can't be taken out of this format", newest)
	}
	return logEnds(red, newest)
}
