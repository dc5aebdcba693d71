package bundle

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
)

// Open reads a bundle through, and finds it whole: every file that it says it has is there, and is what it says.
func Open(file string) (*Bundle, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("read the bundle: %w", err)
	}
	defer f.Close()
	sums, texts, err := read(f)
	if err != nil {
		return nil, fmt.Errorf("read the bundle %s: %w", file, err)
	}
	b := &Bundle{Path: file, Sum: sums[path.Join(Dir, sumsName)]}
	if err := errors.Join(check(sums, texts[sumsName], ""), check(sums, texts[path.Join(Dir, sumsName)], Dir)); err != nil {
		return nil, fmt.Errorf("the bundle %s is damaged: %w; copy it again", file, err)
	}
	if err := json.Unmarshal(texts[manifestName], &b.Manifest); err != nil {
		return nil, fmt.Errorf("read the bundle %s: %s: %w", file, manifestName, err)
	}
	return b, nil
}

// largest is how much of a file is kept: the lists are smaller.
const largest = 1 << 20

// read gives the checksum of each file, and the texts of the small ones.
func read(r io.Reader) (sums map[string]string, texts map[string][]byte, err error) {
	sums, texts = map[string]string{}, map[string][]byte{}
	for t := tar.NewReader(r); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return sums, texts, nil
		}
		if err != nil {
			return nil, nil, err
		}
		if h.Typeflag != tar.TypeReg {
			return nil, nil, fmt.Errorf("%s is no file", h.Name)
		}
		hash, text := sha256.New(), io.Writer(io.Discard)
		var kept bytes.Buffer
		if h.Size <= largest {
			text = &kept
		}
		if _, err := io.Copy(io.MultiWriter(hash, text), t); err != nil {
			return nil, nil, err
		}
		sums[h.Name], texts[h.Name] = hex.EncodeToString(hash.Sum(nil)), kept.Bytes()
	}
}

// check compares what was read with a list of sha256sum(1)'s, of files below dir.
func check(sums map[string]string, list []byte, dir string) error {
	if len(list) == 0 {
		return fmt.Errorf("%s is not there", path.Join(dir, sumsName))
	}
	listed := map[string]bool{path.Join(dir, sumsName): true}
	for line := range strings.Lines(string(list)) {
		sum, name, _ := strings.Cut(strings.TrimRight(line, "\n"), "  ")
		name = path.Join(dir, name)
		listed[name] = true
		if sums[name] != sum {
			return fmt.Errorf("%s is not what it was", name)
		}
	}
	for name := range sums {
		if (dir == "" && path.Dir(name) == "." || dir != "" && path.Dir(name) == dir) && !listed[name] {
			return fmt.Errorf("%s does not belong to it", name)
		}
	}
	return nil
}
