package web

import (
	"io/fs"
	"regexp"
	"strings"
	"testing"
)

// budget is how large the page may be in all: it is loaded over a site's slow link, at night, on a phone.
const budget = 150_000

// TestAssets: the page is small, complete, and refers to nothing that is not its own.
func TestAssets(t *testing.T) {
	total := 0
	abroad := regexp.MustCompile(`(?i)(https?:)?//[a-z0-9.-]+\.[a-z]{2,}|@import|url\(`)
	inline := regexp.MustCompile(`(?i)<style|\sstyle=|<script>|\son[a-z]+=|javascript:|innerHTML|insertAdjacent|\beval\b`)
	err := fs.WalkDir(assets, "assets", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := assets.ReadFile(p)
		if err != nil {
			return err
		}
		total += len(b)
		text := strings.ReplaceAll(string(b), "http://www.w3.org/2000/svg", "")
		if at := abroad.FindString(text); at != "" {
			t.Errorf("%s refers to %s", p, at)
		}
		if at := inline.FindString(text); at != "" {
			t.Errorf("%s has %q, which the policy forbids", p, at)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if total > budget {
		t.Errorf("the page has %d bytes, more than %d", total, budget)
	}
	t.Logf("the page has %d bytes in all", total)
}

// TestReferences: every file that another names is there.
func TestReferences(t *testing.T) {
	names := regexp.MustCompile(`(?:/ui/|from '\./)([a-z]+\.[a-z]+)`)
	for name, f := range files() {
		for _, m := range names.FindAllStringSubmatch(string(f.Body), -1) {
			if _, ok := Lookup(m[1]); !ok {
				t.Errorf("%s names %s, which is not there", name, m[1])
			}
		}
		if f.Type == "" {
			t.Errorf("%s has no type", name)
		}
	}
	if _, ok := Lookup("nothing.js"); ok {
		t.Error("a file that is not there was found")
	}
}

func TestPolicy(t *testing.T) {
	p := Policy([]string{"http://pg1:8008", "https://10.0.0.2:8443", "http://[fd00::1]:8008", "http://x; script-src *", "http://x'y:1", "nonsense"})
	if want := "connect-src 'self' http://pg1:8008 https://10.0.0.2:8443;"; !strings.Contains(p, want) {
		t.Errorf("policy %q, want %q in it", p, want)
	}
	for _, bad := range []string{"fd00", "*", "'y", "nonsense", "unsafe"} {
		if strings.Contains(p, bad) {
			t.Errorf("policy %q has %q", p, bad)
		}
	}
}
