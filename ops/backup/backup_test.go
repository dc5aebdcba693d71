package backup

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"standfast/postgres"
)

// make writes a backup of the given files as PostgreSQL would; names that begin with "pg_tblspc/7/" lie in tablespace 7.
func makeSet(t *testing.T, dir string, began time.Time, files map[string]string) Set {
	t.Helper()
	s := Set{Cluster: "main", Began: began, Ended: began.Add(time.Minute), Format: Tar, Postgres: 15, Authority: "a", From: "pg2"}
	s.Path = filepath.Join(dir, s.Name())
	must(t, os.MkdirAll(s.DataDir(), 0o700))
	tars := map[string]*bytes.Buffer{}
	var listed []string
	for _, name := range sorted(files) {
		in, inner := "base", name
		if rest, ok := strings.CutPrefix(name, "pg_wal/"); ok {
			in, inner = "pg_wal", rest
		} else if rest, ok := strings.CutPrefix(name, "pg_tblspc/7/"); ok {
			in, inner = "7", rest
		}
		if tars[in] == nil {
			tars[in] = &bytes.Buffer{}
		}
		w := tar.NewWriter(tars[in])
		must(t, w.WriteHeader(&tar.Header{Name: inner, Typeflag: tar.TypeReg, Mode: 0o600, Size: int64(len(files[name]))}))
		_, err := w.Write([]byte(files[name]))
		must(t, err)
		must(t, w.Flush())
		if in != "pg_wal" {
			sum := sha256.Sum256([]byte(files[name]))
			listed = append(listed, fmt.Sprintf(`{ "Path": %q, "Size": %d, "Last-Modified": "2026-01-01 00:00:00 GMT", "Checksum-Algorithm": "SHA256", "Checksum": "%x" }`, name, len(files[name]), sum))
		}
	}
	for name, b := range tars {
		must(t, tar.NewWriter(b).Close())
		var z bytes.Buffer
		w := gzip.NewWriter(&z)
		_, err := w.Write(b.Bytes())
		must(t, err)
		must(t, w.Close())
		must(t, os.WriteFile(filepath.Join(s.DataDir(), name+".tar.gz"), z.Bytes(), 0o600))
	}
	text := "{ \"PostgreSQL-Backup-Manifest-Version\": 1,\n\"Files\": [\n" + strings.Join(listed, ",\n") + "\n],\n\"WAL-Ranges\": [\n{ \"Timeline\": 1, \"Start-LSN\": \"0/2000028\", \"End-LSN\": \"0/2000100\" }\n],\n"
	sum := sha256.Sum256([]byte(text))
	text += "\"Manifest-Checksum\": \"" + hex.EncodeToString(sum[:]) + "\"}\n"
	must(t, os.WriteFile(filepath.Join(s.DataDir(), manifestName), []byte(text), 0o600))
	must(t, s.describe([]byte("copies: 1\n")))
	return s
}

func sorted(m map[string]string) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	for i := range out {
		for j := i + 1; j < len(out); j++ {
			if out[j] < out[i] {
				out[i], out[j] = out[j], out[i]
			}
		}
	}
	return out
}

var someFiles = map[string]string{"PG_VERSION": "15\n", "base/1/1259": strings.Repeat("table", 5000), "pg_wal/000000010000000000000002": "wal", "backup_label": "START"}

func TestUnpack(t *testing.T) {
	dir := t.TempDir()
	space := filepath.Join(dir, "space")
	files := map[string]string{"pg_tblspc/7/PG_15/16384/1": "in a tablespace"}
	for k, v := range someFiles {
		files[k] = v
	}
	s := makeSet(t, dir, time.Now(), files)
	s.Tablespaces = []postgres.Tablespace{{OID: 7, Path: space}}
	to := filepath.Join(dir, "to")
	must(t, os.Mkdir(to, 0o700))
	var read int64
	must(t, s.Unpack(context.Background(), to, func(done, _ int64) { read = done }))
	for name, text := range files {
		at := filepath.Join(to, name)
		if rest, ok := strings.CutPrefix(name, "pg_tblspc/7/"); ok {
			at = filepath.Join(space, rest)
		}
		if b, err := os.ReadFile(at); err != nil || string(b) != text {
			t.Errorf("%s: %d bytes, %v", name, len(b), err)
		}
	}
	if read == 0 {
		t.Error("no progress was told")
	}
	if err := s.Unpack(context.Background(), filepath.Join(dir, "to2"), nil); err == nil || !strings.Contains(err.Error(), "is not empty") {
		t.Errorf("a tablespace's place is taken: %v", err)
	}
}

// TestWhatIsDamagedIsFound in every way that a disk or a person may do it.
func TestWhatIsDamagedIsFound(t *testing.T) {
	edit := func(name string, change func([]byte) []byte) func(*testing.T, Set) {
		return func(t *testing.T, s Set) {
			b, err := os.ReadFile(filepath.Join(s.DataDir(), name))
			must(t, err)
			must(t, os.WriteFile(filepath.Join(s.DataDir(), name), change(b), 0o600))
		}
	}
	for what, c := range map[string]struct {
		harm func(*testing.T, Set)
		want string
	}{
		"a bit":          {edit("base.tar.gz", func(b []byte) []byte { b[len(b)/2] ^= 4; return b }), ""},
		"the end":        {edit("base.tar.gz", func(b []byte) []byte { return b[:len(b)-20] }), ""},
		"a whole tar":    {func(t *testing.T, s Set) { must(t, os.Remove(filepath.Join(s.DataDir(), "base.tar.gz"))) }, "no base.tar"},
		"the manifest":   {edit(manifestName, func(b []byte) []byte { return bytes.Replace(b, []byte("25000"), []byte("25001"), 1) }), "its own checksum"},
		"its end":        {edit(manifestName, func(b []byte) []byte { return b[:len(b)-100] }), "not whole"},
		"other contents": {func(t *testing.T, s Set) { swap(t, s, map[string]string{"PG_VERSION": "16\n"}) }, "checksum"},
		"another size":   {func(t *testing.T, s Set) { swap(t, s, map[string]string{"PG_VERSION": "15"}) }, "bytes"},
		"a file less":    {func(t *testing.T, s Set) { swap(t, s, map[string]string{"base/1/1259": ""}) }, "bytes"},
		"a file more":    {func(t *testing.T, s Set) { swap(t, s, map[string]string{"base/1/9": "x"}) }, "not in the manifest"},
	} {
		s := makeSet(t, t.TempDir(), time.Now(), someFiles)
		must(t, s.walk(context.Background(), "", nil))
		c.harm(t, s)
		if err := s.walk(context.Background(), "", nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// swap gives the backup's tar other contents and leaves the manifest.
func swap(t *testing.T, s Set, other map[string]string) {
	kept, err := os.ReadFile(filepath.Join(s.DataDir(), manifestName))
	must(t, err)
	files := map[string]string{}
	for k, v := range someFiles {
		files[k] = v
	}
	for k, v := range other {
		files[k] = v
	}
	o := makeSet(t, t.TempDir(), time.Now(), files)
	b, err := os.ReadFile(filepath.Join(o.DataDir(), "base.tar.gz"))
	must(t, err)
	must(t, os.WriteFile(filepath.Join(s.DataDir(), "base.tar.gz"), b, 0o600))
	must(t, os.WriteFile(filepath.Join(s.DataDir(), manifestName), kept, 0o600))
}

func TestNothingLeadsOutOfTheDataDirectory(t *testing.T) {
	for _, name := range []string{"../x", "/etc/x", "a/../../x"} {
		if err := (place{dir: t.TempDir()}).put(&tar.Header{Name: name, Typeflag: tar.TypeReg}, strings.NewReader(""), &tally{}); err == nil {
			t.Errorf("%s was written", name)
		}
	}
}

func TestListAndPick(t *testing.T) {
	dir := t.TempDir()
	at := time.Date(2026, 3, 1, 2, 0, 0, 0, time.UTC)
	old, young := makeSet(t, dir, at, someFiles), makeSet(t, dir, at.Add(time.Hour), someFiles)
	half := makeSet(t, dir, at.Add(2*time.Hour), someFiles)
	must(t, os.Rename(half.Path, filepath.Join(dir, "."+half.Name()+partial)))
	must(t, os.MkdirAll(filepath.Join(dir, "somebody's"), 0o700))

	all, err := List(dir)
	if err != nil || len(all) != 2 || all[0].Path != old.Path || all[1].Path != young.Path {
		t.Fatalf("%+v, %v", all, err)
	}
	for what, c := range map[string]struct {
		path string
		by   time.Time
		want string
	}{
		"the newest":            {dir, time.Time{}, young.Path},
		"the newest by then":    {dir, at.Add(30 * time.Minute), old.Path},
		"none by then":          {dir, at, ""},
		"the one that is named": {old.Path, time.Time{}, old.Path},
		"a half one is none":    {filepath.Join(dir, "."+half.Name()+partial), time.Time{}, ""},
		"nothing is there":      {filepath.Join(dir, "somebody's"), time.Time{}, ""},
	} {
		s, err := Pick(c.path, c.by)
		if s.Path != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%s: %q, %v", what, s.Path, err)
		}
	}
	other := young
	other.Cluster, other.Began = "other", at.Add(3*time.Hour)
	other.Path = filepath.Join(dir, other.Name())
	must(t, os.Mkdir(other.Path, 0o700))
	must(t, other.describe(nil))
	if _, err := Pick(dir, time.Time{}); err == nil || !strings.Contains(err.Error(), "several clusters") {
		t.Errorf("two clusters in one directory: %v", err)
	}
}

func TestSurplus(t *testing.T) {
	set := func(cluster, authority, path string) Set {
		return Set{Cluster: cluster, Authority: authority, Path: path}
	}
	all := []Set{set("main", "a", "1"), set("main", "b", "2"), set("other", "a", "3"), set("main", "a", "4"), set("main", "a", "5")}
	for keep, want := range map[int]string{0: "", 1: "1 4", 2: "1", 3: "", 9: ""} {
		var got []string
		for _, s := range Surplus(all, all[4], keep) {
			got = append(got, s.Path)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("keeping %d removes %v, want %q", keep, got, want)
		}
	}
}

func TestOneAtATime(t *testing.T) {
	dir := t.TempDir()
	release, err := claim(dir)
	must(t, err)
	if _, err := claim(dir); !errors.Is(err, ErrBusy) {
		t.Errorf("%v", err)
	}
	must(t, release())
	again, err := claim(dir)
	must(t, err)
	must(t, again())
}

func TestSetIsReadBack(t *testing.T) {
	s := makeSet(t, t.TempDir(), time.Now().Truncate(time.Second), someFiles)
	got, err := Open(s.Path)
	must(t, err)
	a, _ := json.Marshal(s)
	b, _ := json.Marshal(got)
	if !bytes.Equal(a, b) {
		t.Errorf("%s\n%s", a, b)
	}
	if text, err := got.Config(); string(text) != "copies: 1\n" || err != nil {
		t.Errorf("%q, %v", text, err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
